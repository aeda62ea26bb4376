"""The last frames as the camera sent them, kept so that a capture can begin before it is asked for."""

from collections import deque
from itertools import islice

from tomofly.live.frames import Frame


class RawRing:
    """Keeps the newest frames, as many as fit into `limit_bytes`; not for several threads at once.

    Frames are held as they are, not copied. A frame of another size, type or lens empties the ring, as one
    file holds frames of one kind only.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def bytes(self) -> int:
        """How much memory the images take."""
        return self._bytes

    def put(self, frame: Frame) -> None:
        """Add the newest frame; the oldest ones make room."""
        if self._frames and not _alike(self._frames[-1], frame):
            self.clear()
        self._frames.append(frame)
        self._bytes += frame.image.nbytes
        while self._bytes > self.limit_bytes and self._frames:
            self._bytes -= self._frames.popleft().image.nbytes

    def latest(self, count: int) -> list[Frame]:
        """The newest `count` frames, or all where there are fewer, oldest first."""
        return list(islice(self._frames, max(len(self._frames) - max(count, 0), 0), None))

    def capacity(self, frame_bytes: int) -> int:
        """How many frames of this size fit."""
        return self.limit_bytes // max(frame_bytes, 1)

    def clear(self) -> None:
        """Keep nothing."""
        self._frames.clear()
        self._bytes = 0


def _alike(one: Frame, other: Frame) -> bool:
    return form_of(one) == form_of(other)


def form_of(frame: Frame) -> tuple[object, ...]:
    """What frames of one file have in common: size, type, lens."""
    return frame.image.shape, frame.image.dtype, frame.lens
