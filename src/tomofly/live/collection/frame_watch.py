"""The frames that come in, as collection sees them: counted, waited for, never kept."""

import asyncio
import math
from dataclasses import dataclass

from tomofly.live.collection.channels import DeviceFault
from tomofly.live.frames import Frame, FrameKind


@dataclass(frozen=True)
class Seen:
    """What collection wants to know of a frame."""

    number: int
    unique_id: int
    kind: FrameKind
    angle_deg: float


class FrameWatch:
    """Counts frames by kind; those who wait are woken by each. `note` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._come = asyncio.Event()
        self.last: Seen | None = None
        self.total = 0
        self.counts = dict.fromkeys(FrameKind, 0)
        self.last_at = -math.inf

    def note(self, frame: Frame) -> None:
        """Note a frame that has come in."""
        seen = Seen(frame.number, frame.unique_id, frame.kind, frame.angle_deg)
        self._loop.call_soon_threadsafe(self._note, seen)

    def _note(self, seen: Seen) -> None:
        self.last = seen
        self.total += 1
        self.counts[seen.kind] += 1
        self.last_at = self._loop.time()
        self._come.set()
        self._come = asyncio.Event()

    def quiet_s(self) -> float:
        """Give the seconds since the last frame; infinite where there was none."""
        return self._loop.time() - self.last_at

    async def more(self, count: int, limit_s: float, kind: FrameKind | None = None) -> Seen | None:
        """Wait for `count` more frames, of a kind where one is given; give the last of all.

        Raises DeviceFault where no such frame comes for `limit_s`.
        """
        wanted = self._counted(kind) + count
        while (before := self._counted(kind)) < wanted:
            try:
                async with asyncio.timeout(limit_s):
                    while self._counted(kind) == before:
                        await self._come.wait()
            except TimeoutError:
                raise self._fault(kind, limit_s) from None
        return self.last

    def _counted(self, kind: FrameKind | None) -> int:
        return self.total if kind is None else self.counts[kind]

    def _fault(self, kind: FrameKind | None, limit_s: float) -> DeviceFault:
        if kind is None or self.quiet_s() > limit_s:
            return DeviceFault(
                f"No frame has come for {limit_s:.1f} s", "Check the camera, its triggers and its PVA plugin"
            )
        return DeviceFault(
            f"Frames come, but none that shows itself as {kind.name.lower()} for {limit_s:.1f} s",
            "Check the shutter, and the attributes that the camera sends with its frames",
        )
