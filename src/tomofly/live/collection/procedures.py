"""What collection does, step by step: start, dark and flat fields, turning, a change of rate, a safe end.

Each step waits for its own end, never longer than a limit; what it waits for in vain is a DeviceFault.
Every way out of a procedure, also a fault or an abort, passes the steps that bring the sample back.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from tomofly.live.collection.angles import FULL_TURN_DEG, Sweep
from tomofly.live.collection.beamline import Beamline
from tomofly.live.collection.channels import Channels, DeviceFault, until
from tomofly.live.collection.frame_watch import FrameWatch
from tomofly.live.collection.machine import Phase
from tomofly.live.frames import FrameKind
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings

LOCATIONS = {
    FrameKind.DARK: "HDF5DarkLocation",
    FrameKind.FLAT: "HDF5FlatLocation",
    FrameKind.PROJECTION: "HDF5ProjectionLocation",
}


class Teller(Protocol):
    """Who hears what collection does."""

    def phase(self, phase: Phase) -> None:
        """Another phase has begun."""

    def kind(self, kind: FrameKind) -> None:
        """Frames show something else from now on; OTHER: nothing to be used."""

    def sweep(self, sweep: Sweep | None) -> None:
        """The stage turns in another way from now on."""

    def notice(self, text: str) -> None:
        """Something that an operator should know."""


class Procedures:
    """The procedures of one beamline. One runs at a time: `machine.decide` says which."""

    def __init__(
        self, settings: LiveSettings, values: PVValues, channels: Channels, devices: Callable[[], Beamline],
        frames: FrameWatch, teller: Teller,
    ) -> None:  # fmt: skip
        self.settings, self.values, self.channels = settings, values, channels
        self.devices, self.frames, self.teller = devices, frames, teller
        self._frame_s = 0.0
        self._step = 0.0
        self._first_deg = 0.0
        self._legs: asyncio.Task[None] | None = None
        self._turning_point = asyncio.Event()
        self._dimmed = False

    # The limits of waits, all PVs.

    @property
    def _motor_s(self) -> float:
        return self.values.number("StreamMotorTimeout")

    @property
    def _shutter_s(self) -> float:
        return self.values.number("StreamShutterTimeout")

    @property
    def _next_frame_s(self) -> float:
        return self._frame_s + self.values.number("StreamFrameTimeout")

    # What frames show.

    def label(self, kind: FrameKind, *, ready: bool) -> None:
        """Say what the camera is to see; until it is `ready`, frames count as nothing."""
        if not ready:  # before the camera hears of the new type and tells its frames
            self.teller.kind(FrameKind.OTHER)
        self.values.set("FrameType", int(kind))
        self.values.set("StreamSampleMoving", int(not ready))
        self.values.set("HDF5Location", self.values.text(LOCATIONS[kind]))
        if ready:
            self.teller.kind(kind)

    async def _settle(self) -> None:
        """Let those frames pass that may have begun before the last change."""
        await self.frames.more(self.settings.collection.guard_frames, self._next_frame_s)

    # Start and end.

    async def start(self) -> None:
        """From standing to streaming. Raises DeviceFault."""
        devices = self.devices()
        self._require_step()
        self.label(FrameKind.PROJECTION, ready=False)
        await self._wait_for_beam()
        self._frame_s = await devices.camera.set_exposure(self.values.number("ExposureTime"))
        await devices.camera.start()
        await self._settle()
        if self._wanted("Dark", "Start"):
            self.teller.phase(Phase.DARK)
            await self.dark_fields()
        await devices.shutter.open(self._shutter_s)
        if self._wanted("Flat", "Start"):
            self.teller.phase(Phase.FLAT)
            await self.flat_fields()
        self.teller.phase(Phase.STARTING)
        await self.sample(out=False)
        await self.begin_turning()
        self.teller.phase(Phase.STREAMING)

    def _require_step(self) -> None:
        """Refuse to turn by nothing, which would also be a division by nothing. Raises DeviceFault."""
        if self.values.number("RotationStep") == 0:
            raise DeviceFault(
                "RotationStep is 0: the sample would not turn", "Set the angle between projections"
            )

    def _wanted(self, field: str, when: str) -> bool:
        mode = self.values.text(f"{field}FieldMode")
        return mode in (when, "Both") and self.values.whole(f"Num{field}Fields") > 0

    async def _wait_for_beam(self) -> None:
        name, value = self.values.text("BeamReadyPVName"), self.values.text("BeamReadyValue")
        if name and self.values.text("Testing") != "Yes":
            same = _same_as(value)
            await until(self.channels, name, same, self._shutter_s, "There is no beam")

    async def end(self) -> None:
        """From streaming to standing, with the fields that are wanted at the end. Raises DeviceFault."""
        await self.stop_turning()
        if self._wanted("Flat", "End"):
            await self.flat_fields()
        if self._wanted("Dark", "End"):
            await self.dark_fields()
        await self.make_safe()

    async def make_safe(self) -> None:
        """Bring everything to rest: each device whatever becomes of the others; faults are told."""
        devices = self.devices()
        self.label(FrameKind.PROJECTION, ready=False)
        await asyncio.gather(
            self._told(devices.shutter.close(self._shutter_s)),
            self._told(devices.camera.stop(self._next_frame_s)),
            self._told(self._return_rotation()),
        )

    async def _told(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except DeviceFault as fault:
            self.teller.notice(str(fault))

    async def _return_rotation(self) -> None:
        await self.stop_turning()
        rotation, way = self.devices().rotation, self.values.text("ReturnRotation")
        if not rotation.there or way == "No":
            return
        await self._turn_to(self.values.number("RotationStart") if way == "Yes" else 0.0)

    async def _turn_to(self, angle_deg: float) -> float:
        """Turn to an angle, or to the same some whole turns on; give where it is. Raises DeviceFault.

        A stage that has turned on and on for hours is not wound back. One that goes to and fro may not be
        able to turn any further, unless it has turned twice already.
        """
        rotation = self.devices().rotation
        turns = round((await rotation.position() - angle_deg) / FULL_TURN_DEG)
        if self.values.text("StreamScanType") == "backforth" and abs(turns) < 2:
            turns = 0
        target = angle_deg + turns * FULL_TURN_DEG
        await rotation.move(target, self._motor_s)
        return target

    # Dark and flat fields.

    async def dark_fields(self) -> None:
        """Take dark frames; the shutter opens again unless collection is being ended. Raises DeviceFault."""
        shutter = self.devices().shutter
        self.label(FrameKind.DARK, ready=False)
        try:
            await shutter.close(self._shutter_s)
            await self._take(FrameKind.DARK)
        finally:
            self.label(FrameKind.PROJECTION, ready=False)
            if not _is_being_ended():
                await shutter.open(self._shutter_s)
        await self._settle()

    async def flat_fields(self) -> None:
        """Take flat frames; sample and exposure come back whatever happens. Raises DeviceFault."""
        self.label(FrameKind.FLAT, ready=False)
        async with self._angle_for_leaving():
            try:
                await self._expose(self._flat_exposure())
                await self.sample(out=True)
                await self._take(FrameKind.FLAT)
            finally:
                self.label(FrameKind.PROJECTION, ready=False)
                await self.sample(out=False)
                await self._expose(self.values.number("ExposureTime"))
        await self._settle()

    async def _take(self, kind: FrameKind) -> None:
        await self._settle()
        self.label(kind, ready=True)
        name = "NumDarkFields" if kind is FrameKind.DARK else "NumFlatFields"
        await self.frames.more(self.values.whole(name), self._next_frame_s, kind)

    def _flat_exposure(self) -> float:
        other = self.values.text("DifferentFlatExposure") == "Different"
        return self.values.number("FlatExposureTime" if other else "ExposureTime")

    async def _expose(self, seconds: float) -> None:
        if self.values.text("DifferentFlatExposure") == "Different":
            self._frame_s = await self.devices().camera.set_exposure(seconds)

    @asynccontextmanager
    async def _angle_for_leaving(self) -> AsyncIterator[None]:
        """Turn to the angle at which the sample can leave, where there is one; turn on afterwards."""
        turned = self._step != 0
        if self.values.text("SampleOutAngleEnable") != "Yes":
            yield
            return
        await self.stop_turning()
        await self._turn_to(self.values.number("SampleOutAngle"))
        try:
            yield
        finally:
            if turned:
                await self.begin_turning()

    async def sample(self, *, out: bool) -> None:
        """Move the sample into or out of the beam, along the axes of FlatFieldAxis. Raises DeviceFault."""
        devices = self.devices()
        axes = {"X": "X", "Y": "Y", "Both": "XY"}[self.values.text("FlatFieldAxis")]
        word = "Out" if out else "In"
        moves = [
            motor.move(self.values.number(f"Sample{word}{axis}"), self._motor_s)
            for axis, motor in (("X", devices.sample_x), ("Y", devices.sample_y))
            if axis in axes and motor.there
        ]
        await asyncio.gather(*moves)

    async def retake(self, kind: FrameKind) -> None:
        """Take dark or flat fields anew while the stage turns. Raises DeviceFault."""
        try:
            await (self.dark_fields() if kind is FrameKind.DARK else self.flat_fields())
        finally:
            self.label(FrameKind.PROJECTION, ready=True)

    # Turning.

    async def begin_turning(self) -> None:
        """Turn as RotationStart, RotationStep and the exposure say; projections begin. Raises DeviceFault."""
        rotation = self.devices().rotation
        self._step = self.values.number("RotationStep")
        self._first_deg = self.values.number("RotationStart")
        speed = self._step / self._frame_s
        if rotation.there:
            self._first_deg = await self._turn_to(self.values.number("RotationStart"))
            for name, value in self.settings.rotation.arm:
                await self.channels.put(name, value, self._motor_s)
            await self._turn(speed)
            await rotation.moves(speed, self._motor_s)
        await self._announce()

    async def _turn(self, speed: float) -> None:
        if self.values.text("StreamScanType") == "backforth":
            await self.devices().rotation.set_velocity(abs(speed))
            self._legs = asyncio.create_task(self._go_back_and_forth(), name="back and forth")
        else:
            await self.devices().rotation.turn(speed, self.settings.rotation.endless)

    async def _go_back_and_forth(self) -> None:
        rotation = self.devices().rotation
        while True:
            self._turning_point.set()
            self._turning_point = asyncio.Event()
            first = self._first_deg
            last = first + self._step * (self.values.whole("NumAngles") - 1)
            for target in (last, first):
                try:
                    await asyncio.gather(
                        rotation.move(target, self._motor_s), self._tell_leg(back=target == first)
                    )
                except DeviceFault as fault:
                    self.teller.notice(str(fault))
                    return

    async def _announce(self) -> None:
        """Say that projections begin, and at which angle."""
        await self._settle()
        seen = await self.frames.more(1, self._next_frame_s)
        rotation = self.devices().rotation
        angle = seen.angle_deg if seen is not None else math.nan
        if not math.isfinite(angle):
            angle = await rotation.position() if rotation.there else self.values.number("RotationStart")
        first = seen.number if seen is not None else 0
        forth = self.values.text("StreamScanType") == "backforth"
        if forth:  # the list of angles begins where the stage turns round
            first -= self._steps_to(angle)
            angle = self.values.number("RotationStart")
        self.teller.sweep(Sweep(angle, self._step, self.values.whole("NumAngles"), forth, first))
        self.label(FrameKind.PROJECTION, ready=True)

    async def _tell_leg(self, *, back: bool) -> None:
        """Say anew which frame has which angle: turning round takes as many frames as it takes."""
        try:
            await self._settle()
            seen = await self.frames.more(1, self._next_frame_s)
        except DeviceFault:  # told by whoever looks after the camera
            return
        if seen is None or not math.isfinite(seen.angle_deg):
            return
        count, place = self.values.whole("NumAngles"), self._steps_to(seen.angle_deg)
        place = 2 * count - 1 - place if back else place
        start = self.values.number("RotationStart")
        self.teller.sweep(Sweep(start, self._step, count, True, seen.number - place))

    def _steps_to(self, angle_deg: float) -> int:
        """Give by how many steps an angle is on from where the stage turns round, whole turns left out."""
        half = self._step * (self.values.whole("NumAngles") - 1) / 2
        off = angle_deg - self._first_deg
        if abs(half) < FULL_TURN_DEG / 2:
            off = math.remainder(off - half, FULL_TURN_DEG) + half
        return round(off / self._step)

    async def stop_turning(self) -> None:
        """Let the stage come to rest, and disarm the triggers. Raises DeviceFault."""
        if self._legs is not None:
            self._legs.cancel()
            self._legs = None
        self._step = 0.0
        rotation = self.devices().rotation
        if rotation.there:
            await rotation.stop(self._motor_s)
            for name, value in self.settings.rotation.disarm:
                await self.channels.put(name, value, self._motor_s)

    async def watch_shutter(self) -> None:
        """Use no frame while the shutter is closed that should be open; it is not opened from here.

        Whoever closed it may have had a reason: frames count again when it is open again.
        """
        is_open = await self.devices().shutter.is_open()
        if is_open is self._dimmed:
            self._dimmed = not is_open
            self.label(FrameKind.PROJECTION, ready=is_open)
            self.teller.notice(
                f"The shutter has been {'opened again' if is_open else 'closed by somebody else'}"
            )

    async def keep_turning(self) -> None:
        """Send a rotation on that stands though it should turn, as after its server has started anew."""
        rotation = self.devices().rotation
        on_their_way = self._legs is not None and not self._legs.done()
        if self._step and not on_their_way and rotation.there and await rotation.stands():
            self.label(FrameKind.PROJECTION, ready=False)
            await self._turn(self._step / self._frame_s)
            await self._announce()

    async def sync(self) -> None:
        """Take over ExposureTime and RotationStep while turning; back and forth: where the stage turns round.

        Raises DeviceFault.
        """
        self._require_step()
        devices = self.devices()
        if self._legs is not None:
            await self._until_turning_point()
        self.label(FrameKind.PROJECTION, ready=False)
        self._frame_s = await devices.camera.set_exposure(self.values.number("ExposureTime"))
        self._step = self.values.number("RotationStep")
        speed = self._step / self._frame_s
        if devices.rotation.there and self._legs is None:
            await devices.rotation.turn(speed, self.settings.rotation.endless)
        elif devices.rotation.there:
            self._legs.cancel()  # type: ignore[union-attr]
            await self._turn(speed)
        await self._announce()

    async def _until_turning_point(self) -> None:
        cycle_s = 2 * self.values.whole("NumAngles") * self._frame_s
        try:
            await asyncio.wait_for(self._turning_point.wait(), cycle_s + 2 * self._motor_s)
        except TimeoutError:
            raise DeviceFault("The rotation has not come back to where it turns round") from None


def _is_being_ended() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _same_as(wanted: str) -> Callable[[Any], bool]:
    def same(value: Any) -> bool:
        try:
            return float(value) == float(wanted)
        except ValueError:
            return str(value) == wanted

    return same
