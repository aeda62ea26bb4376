"""What frames show: said before they come, and true of all that come after it was said."""

from collections.abc import Callable

from tomofly.live.collection.frame_watch import FrameWatch, Seen
from tomofly.live.frames import FrameKind
from tomofly.live.records.values import PVValues

LOCATIONS = {
    FrameKind.DARK: "HDF5DarkLocation",
    FrameKind.FLAT: "HDF5FlatLocation",
    FrameKind.PROJECTION: "HDF5ProjectionLocation",
}


class FrameLabels:
    """Labels the frames to come, and waits for them. `frame_s`: seconds from frame to frame now.

    `tell` hears what frames show from now on; `guard_frames` may have begun before the last change.
    """

    def __init__(
        self, values: PVValues, frames: FrameWatch, guard_frames: int, tell: Callable[[FrameKind], object]
    ) -> None:
        self._values, self._frames, self._guard_frames, self._tell = values, frames, guard_frames, tell
        self.frame_s = 0.0

    @property
    def limit_s(self) -> float:
        """How long to wait for a frame."""
        return self.frame_s + self._values.number("StreamFrameTimeout")

    def label(self, kind: FrameKind, *, ready: bool) -> None:
        """Say what the camera is to see; until it is `ready`, frames count as nothing."""
        if not ready:  # before the camera hears of the new type and tells its frames
            self._tell(FrameKind.OTHER)
        self._values.set("FrameType", int(kind))
        self._values.set("StreamSampleMoving", int(not ready))
        self._values.set("HDF5Location", self._values.text(LOCATIONS[kind]))
        if ready:
            self._tell(kind)

    async def settle(self) -> None:
        """Let those frames pass that may have begun before the last change. Raises DeviceFault."""
        await self._frames.more(self._guard_frames, self.limit_s)

    async def settled(self) -> Seen | None:
        """Give the first frame that began after the last change. Raises DeviceFault."""
        await self.settle()
        return await self._frames.more(1, self.limit_s)

    async def take(self, kind: FrameKind, count: int) -> None:
        """Let frames show `kind`, and wait for so many. Raises DeviceFault."""
        await self.settle()
        self.label(kind, ready=True)
        await self._frames.more(count, self.limit_s, kind)
