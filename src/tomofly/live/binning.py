"""Binning of what is streamed: for the live reconstruction and the broadcast; captures keep every pixel."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from tomofly.imaging.binning import bin_mean
from tomofly.live.calibration import DarkFlat
from tomofly.live.frames import Binned, Frame, FrameKind

Fields = Callable[[Frame], DarkFlat | None]


class StreamBinning:
    """Bins frames, and gives binned frames their fields: the binned means of those of the camera's images.

    `size` may be set at any time, by any thread; it holds for the next frame.
    """

    def __init__(self, fields_of: Fields) -> None:
        self.size = 1
        self._fields_of = fields_of
        self._last: tuple[DarkFlat, int, DarkFlat] | None = None

    def frame(self, frame: Frame) -> Frame:
        """Give a projection with its image binned: means of blocks, float32; others stay as they are."""
        size, image = self.size, frame.image
        if size == 1 or frame.kind is not FrameKind.PROJECTION or image.ndim != 2 or min(image.shape) < size:
            return frame
        return replace(frame, image=bin_mean(image, size), binned=Binned(size, image.shape, str(image.dtype)))

    def mean(self, image: NDArray[Any]) -> NDArray[Any]:
        """Give a field as it is broadcast."""
        return bin_mean(image, self.size) if 1 < self.size <= min(image.shape) else image

    def fields(self, frame: Frame) -> DarkFlat | None:
        """Give the fields of a frame, binned where the frame is; the same object as long as they stay."""
        found = self._fields_of(frame)
        if found is None or frame.binned is None:
            return found
        size, last = frame.binned.size, self._last
        if last is None or last[0] is not found or last[1] != size:
            dark, flat = bin_mean(found.dark, size), bin_mean(found.flat, size)
            last = self._last = (found, size, replace(found, dark=dark, flat=flat))
        return last[2]
