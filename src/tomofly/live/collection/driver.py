"""Collection as a whole: wishes come in as PVs, one procedure runs at a time, PVs say what becomes of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import structlog

from tomofly.live.collection.angles import AngleList, Sweep
from tomofly.live.collection.beamline import Beamline, beamline
from tomofly.live.collection.channels import Channels, DeviceFault, Watching
from tomofly.live.collection.frame_watch import FrameWatch
from tomofly.live.collection.machine import MESSAGES, STANDING, Phase, Task, Wish, decide
from tomofly.live.collection.procedures import Procedures
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.pixels import SIZES
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings

log = structlog.get_logger(__name__)

WATCH_S = 1.0
LENS = "LensSelect"
BUSY_WISHES = {
    "StreamRetakeDark": Wish.RETAKE_DARK,
    "StreamRetakeFlat": Wish.RETAKE_FLAT,
    "MoveSampleIn": Wish.SAMPLE_IN,
    "MoveSampleOut": Wish.SAMPLE_OUT,
}
RELEASED: dict[Wish, tuple[str, ...]] = {wish: (name,) for name, wish in BUSY_WISHES.items()} | {
    Wish.START: ("StartScan",),
    Wish.END: (),
    Wish.ABORT: (),
    Wish.SYNC: ("StreamSync",),
}
"""PVs that are 1 while somebody's wish is fulfilled, and 0 when it is done or refused."""
ALL_BUSY = ("StartScan", "StreamSync", *BUSY_WISHES)
KILLED = (
    "the program was killed while it collected, and rotation, shutter and camera may still be on: "
    "`tomofly live stop` brings them to rest"
)


class Listeners(Protocol):
    """Who needs to know what frames show and at which angles they are taken."""

    def kind(self, kind: FrameKind) -> None:
        """Frames that say nothing of themselves show this from now on."""

    def angles(self, angles: AngleList, first_id: int) -> None:
        """Angles of the frames from the id `first_id` on."""

    def lens(self, lens: int) -> None:
        """Another lens is in."""


class Collection:
    """Drives the beamline by wishes. All but `note_frame` is for the asyncio loop that it was made in.

    `capturing`: tells whether frames are being saved, during which nothing is retaken. `fault`: why it has
    stopped, at Phase.FAULT. `mark`: a file that is there while anything moves; found at the start, it says
    that the program was killed meanwhile.
    """

    def __init__(
        self, settings: LiveSettings, values: PVValues, channels: Channels, listeners: Listeners,
        capturing: Callable[[], bool] = lambda: False, mark: Path | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.values, self.channels = settings, values, channels
        self.listeners, self._capturing = listeners, capturing
        self.frames = FrameWatch()
        self.at = Phase.IDLE
        self.fault = ""
        self._mark = mark
        self._procedures = Procedures(settings, values, channels, self._devices, self.frames, self)
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._under_way: Wish | None = None
        self._sweep: Sweep | None = None
        self._list: AngleList | None = None
        self._began = 0.0
        self._first_count = 0
        self._watches: list[Watching] = []
        self._lens: int | None = None

    def _devices(self) -> Beamline:
        return beamline(self.channels, self.settings, self.values)

    # What comes in.

    def connect(self) -> None:
        """Follow the PVs by which people wish for something, and the lens."""
        values = self.values
        values.watch("StartScan", lambda on: self.wish(Wish.START if on else Wish.END))
        values.watch("AbortScan", self._abort_pressed)
        values.watch("StreamSync", self._sync_pressed)
        for name, wish in BUSY_WISHES.items():
            values.watch(name, self._pressed(wish))
        if self.settings.camera.binning == "roi":
            values.watch("StreamBinning", lambda _: self._start_aside(self._set_binning()))
        values.watch("MctOpticsPVPrefix", lambda _: self._follow_lens())
        self._follow_lens()
        if self._mark is not None and self._mark.exists():
            self._tell_fault(f"Collection: {KILLED}", KILLED)
            self.phase(Phase.FAULT)

    def _pressed(self, wish: Wish) -> Callable[[object], None]:
        return lambda on: self.wish(wish) if on else None

    def _abort_pressed(self, on: object) -> None:
        if on:
            self.wish(Wish.ABORT)
            self.values.set("AbortScan", 0)

    def _sync_pressed(self, on: object) -> None:
        if on:
            self.wish(Wish.SYNC)

    def note_frame(self, frame: Frame) -> None:
        """Count a frame; for any thread."""
        self.frames.note(frame)

    def wish(self, wish: Wish) -> None:
        """Begin what is wished for, or say why not."""
        decision = decide(self.at, wish, capturing=self._capturing())
        log.info("wish", wish=wish, phase=self.at, task=decision.task, refusal=decision.refusal)
        if decision.refusal:
            self.notice(decision.refusal)
            self._free(wish)
            return
        if decision.task is not None:
            self.fault = ""
        if decision.task is Task.STOP:
            self.phase(decision.phase)
            if self._ending is None or self._ending.done():
                self._ending = asyncio.create_task(self._stop(), name="abort")
        elif decision.task is not None:
            self.phase(decision.phase)
            self._under_way = wish
            self._task = asyncio.create_task(self._run(decision.task), name=decision.task)

    def _free(self, wish: Wish) -> None:
        """Give back the busy PV of a wish that was refused, where nobody else holds it."""
        if wish is self._under_way or (wish is Wish.START and self.at not in STANDING):
            return
        for name in RELEASED[wish]:
            self.values.set(name, 0)

    # What is done.

    async def _run(self, task: Task) -> None:
        if task is Task.SCAN:
            self._began, self._first_count = time.time(), self.frames.total
        work = self._work(task)
        try:
            await work
        except DeviceFault as fault:
            self._tell_fault(str(fault))
            await self._after_fault(task)
        except Exception as fault:
            # A fault of the program must leave the beamline as safe as one of a device.
            log.exception("collection failed", task=task)
            self._tell_fault(f"Collection failed: {fault}")
            await self._after_fault(task)
        else:
            self._after(task)

    def _work(self, task: Task) -> Coroutine[Any, Any, None]:
        do = self._procedures
        works: dict[Task, Callable[[], Coroutine[Any, Any, None]]] = {
            Task.SCAN: do.start,
            Task.END: do.end,
            Task.RETAKE_DARK: lambda: do.retake(FrameKind.DARK),
            Task.RETAKE_FLAT: lambda: do.retake(FrameKind.FLAT),
            Task.SYNC: do.turning.sync,
            Task.SAMPLE_IN: lambda: do.sample(out=False),
            Task.SAMPLE_OUT: lambda: do.sample(out=True),
        }
        return works[task]()

    def _after(self, task: Task) -> None:
        standing = task in (Task.END, Task.SAMPLE_IN, Task.SAMPLE_OUT)
        self.phase(Phase.IDLE if standing else Phase.STREAMING)
        if task is not Task.SCAN:  # its PV is busy until streaming ends
            self._release()
        if task is Task.END:
            self.values.set("StartScan", 0)
        self._under_way = None

    def _tell_fault(self, text: str, fault: str = "") -> None:
        self.fault = fault or text
        self.notice(text)

    async def _after_fault(self, task: Task) -> None:
        """A retake that fails lets streaming go on; a start that fails brings all to rest."""
        if task in (Task.SCAN, Task.END):
            self.phase(Phase.ENDING)
            await self._procedures.make_safe()
            self.phase(Phase.FAULT)
            self.values.set("StartScan", 0)
        else:
            self.phase(Phase.FAULT if task in (Task.SAMPLE_IN, Task.SAMPLE_OUT) else Phase.STREAMING)
        self._release()

    def _release(self) -> None:
        """Set the PV back to 0 that is busy with what was under way."""
        wish, self._under_way = self._under_way, None
        for name in RELEASED.get(wish, ()) if wish is not None else ():
            self.values.set(name, 0)

    async def _stop(self) -> None:
        """Cut off what is under way, let it bring the sample back, and bring all to rest."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceFault):
                await self._task
        await self._procedures.make_safe()
        self.phase(Phase.IDLE)
        self._under_way = None
        for name in ALL_BUSY:
            self.values.set(name, 0)

    async def close(self) -> None:
        """Bring all to rest if anything moves, and let go of the PVs."""
        if self.at not in STANDING:
            self.wish(Wish.ABORT)
        if self._ending is not None:
            await self._ending
        for watching in self._watches:
            watching.close()

    # What is told.

    @property
    def message(self) -> str:
        """What StreamMessage says of collection."""
        return MESSAGES.get(self.at, "Done")

    def phase(self, phase: Phase) -> None:
        """Say what collection does now."""
        if phase is not self.at:
            log.info("phase", phase=phase)
        self.at = phase
        self.values.set("StreamPhase", str(phase))
        self.values.set("ScanStatus", str(phase))
        if not self._capturing():
            self.values.set("StreamMessage", self.message)
        if phase in STANDING:
            self._sweep = None
        self._note_on_disk()

    def _note_on_disk(self) -> None:
        """Note whether anything moves, for whoever starts the program after it was killed."""
        if self._mark is None:
            return
        try:
            if self.at not in STANDING:
                self._mark.touch()
            elif self.fault != KILLED:
                self._mark.unlink(missing_ok=True)
        except OSError as error:
            log.warning("that collection is under way is not noted", reason=error.strerror)

    def kind(self, kind: FrameKind) -> None:
        """Say what frames show now."""
        self.listeners.kind(kind)

    def sweep(self, sweep: Sweep | None) -> None:
        """Say at which angles frames are taken from now on."""
        self._sweep = sweep
        if sweep is not None:
            self._tell_angles(sweep.angles(max(sweep.first, 0)))

    def _tell_angles(self, angles: AngleList) -> None:
        self._list = angles
        last = self.frames.last
        first_id = angles.first - (last.number - last.unique_id if last is not None else 0)
        self.values.set("FirstProjid", first_id)
        self.listeners.angles(angles, first_id)

    def notice(self, text: str) -> None:
        """Tell the operator."""
        log.warning("notice", text=text)
        self.values.notice(text)

    # What is looked after.

    async def look_after(self) -> None:
        """Every second: counts and times; new angles in time; camera and rotation that have stopped go on."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._publish()
            last = self.frames.last
            if self._sweep is not None and self._list is not None and last is not None:
                renewed = self._sweep.renewed(self._list, last.number)
                if renewed is not None:
                    self._tell_angles(renewed)
            if self.at is Phase.STREAMING and self.settings.collection.resume_camera:
                await self._resume()

    def _publish(self) -> None:
        if self.at in STANDING:
            return
        seconds = int(time.time() - self._began)
        self.values.set("ElapsedTime", f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}")
        self.values.set("ImagesCollected", self.frames.total - self._first_count)

    async def _resume(self) -> None:
        """Send on what stands although it should move: its server has been started anew."""
        limit_s = self.values.number("ExposureTime") + self.values.number("StreamFrameTimeout")
        try:
            if self.frames.quiet_s() > limit_s:
                camera = self._devices().camera
                if not await camera.is_running():
                    self.notice("The camera has stopped by itself; it is started again")
                    await camera.set_exposure(self.values.number("ExposureTime"))
                    await camera.start()
                else:
                    self.notice(
                        f"No frame has come for {self.frames.quiet_s():.0f} s although the camera runs"
                    )
            await self._procedures.watch_shutter()
            await self._procedures.turning.keep()
        except DeviceFault as fault:
            self.notice(str(fault))

    def _follow_lens(self) -> None:
        for watching in self._watches:
            watching.close()
        optics = self.values.text("MctOpticsPVPrefix")
        name = optics + LENS if optics else self.settings.camera.lens
        self._watches = [self.channels.watch(name, self._lens_came)] if name else []

    def _lens_came(self, value: Any) -> None:
        lens = int(value)
        if lens != self._lens:
            self._lens = lens
            self.values.set("StreamLens", lens)
            self.listeners.lens(lens)

    async def _set_binning(self) -> None:
        """Bin by the ROI plugin: means of 1, 4 or 16 pixels."""
        roi = self.values.text("RoiPluginPVPrefix")
        if not roi:
            return
        binning = SIZES[self.values.whole("StreamBinning")]
        for name, value in (("BinX", binning), ("BinY", binning), ("Scale", binning**2)):
            await self.channels.put(roi + name, value)

    def _start_aside(self, work: Coroutine[Any, Any, None]) -> None:
        async def told() -> None:
            try:
                await work
            except DeviceFault as fault:
                self.notice(str(fault))

        self._aside = asyncio.create_task(told(), name="aside")
