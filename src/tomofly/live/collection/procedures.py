"""What collection does, step by step: start, dark and flat fields, a safe end.

Each step waits for its own end, never longer than a limit; what it waits for in vain is a DeviceFault.
Every way out of a procedure, also a fault or an abort, passes the steps that bring the sample back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from tomofly.live.collection.beamline import Beamline
from tomofly.live.collection.channels import Channels, DeviceFault, until
from tomofly.live.collection.frame_labels import FrameLabels
from tomofly.live.collection.frame_watch import FrameWatch
from tomofly.live.collection.machine import Phase
from tomofly.live.collection.turning import Turning, TurningListener
from tomofly.live.frames import FrameKind
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings


class Teller(TurningListener, Protocol):
    """Who hears what collection does."""

    def phase(self, phase: Phase) -> None:
        """Another phase has begun."""

    def kind(self, kind: FrameKind) -> None:
        """Frames show something else from now on; OTHER: nothing to be used."""


class Procedures:
    """The procedures of one beamline. One runs at a time: `machine.decide` says which."""

    def __init__(
        self, settings: LiveSettings, values: PVValues, channels: Channels, devices: Callable[[], Beamline],
        frames: FrameWatch, teller: Teller,
    ) -> None:  # fmt: skip
        self.values, self.channels, self.devices, self.teller = values, channels, devices, teller
        self.labels = FrameLabels(values, frames, settings.collection.guard_frames, teller.kind)
        self.turning = Turning(settings, values, channels, devices, self.labels, teller)
        self._dimmed = False

    @property
    def _shutter_s(self) -> float:
        """How long to wait for the shutter, or for the beam."""
        return self.values.number("StreamShutterTimeout")

    # Start and end.

    async def start(self) -> None:
        """From standing to streaming. Raises DeviceFault."""
        devices = self.devices()
        self.turning.require_step()
        self.labels.label(FrameKind.PROJECTION, ready=False)
        await self._wait_for_beam()
        self.labels.frame_s = await devices.camera.set_exposure(self.values.number("ExposureTime"))
        await devices.camera.start()
        await self.labels.settle()
        if self._wanted("Dark", "Start"):
            self.teller.phase(Phase.DARK)
            await self.dark_fields()
        await devices.shutter.open(self._shutter_s)
        if self._wanted("Flat", "Start"):
            self.teller.phase(Phase.FLAT)
            await self.flat_fields()
        self.teller.phase(Phase.STARTING)
        await self.sample(out=False)
        await self.turning.begin()
        self.teller.phase(Phase.STREAMING)

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
        await self.turning.stop()
        if self._wanted("Flat", "End"):
            await self.flat_fields()
        if self._wanted("Dark", "End"):
            await self.dark_fields()
        await self.make_safe()

    async def make_safe(self) -> None:
        """Bring everything to rest: each device whatever becomes of the others; faults are told."""
        devices = self.devices()
        self.labels.label(FrameKind.PROJECTION, ready=False)
        await asyncio.gather(
            self._told(devices.shutter.close(self._shutter_s)),
            self._told(devices.camera.stop(self.labels.limit_s)),
            self._told(self._return_rotation()),
        )

    async def _told(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except DeviceFault as fault:
            self.teller.notice(str(fault))

    async def _return_rotation(self) -> None:
        await self.turning.stop()
        rotation, way = self.devices().rotation, self.values.text("ReturnRotation")
        if not rotation.there or way == "No":
            return
        await self.turning.to(self.values.number("RotationStart") if way == "Yes" else 0.0)

    # Dark and flat fields.

    async def dark_fields(self) -> None:
        """Take dark frames; the shutter opens again unless collection is being ended. Raises DeviceFault."""
        shutter = self.devices().shutter
        self.labels.label(FrameKind.DARK, ready=False)
        try:
            await shutter.close(self._shutter_s)
            await self.labels.take(FrameKind.DARK, self.values.whole("NumDarkFields"))
        finally:
            self.labels.label(FrameKind.PROJECTION, ready=False)
            if not _is_being_ended():
                await shutter.open(self._shutter_s)
        await self.labels.settle()

    async def flat_fields(self) -> None:
        """Take flat frames; sample and exposure come back whatever happens. Raises DeviceFault."""
        self.labels.label(FrameKind.FLAT, ready=False)
        async with self._angle_for_leaving():
            try:
                await self._expose(self._flat_exposure())
                await self.sample(out=True)
                await self.labels.take(FrameKind.FLAT, self.values.whole("NumFlatFields"))
            finally:
                self.labels.label(FrameKind.PROJECTION, ready=False)
                await self.sample(out=False)
                await self._expose(self.values.number("ExposureTime"))
        await self.labels.settle()

    def _flat_exposure(self) -> float:
        other = self.values.text("DifferentFlatExposure") == "Different"
        return self.values.number("FlatExposureTime" if other else "ExposureTime")

    async def _expose(self, seconds: float) -> None:
        if self.values.text("DifferentFlatExposure") == "Different":
            self.labels.frame_s = await self.devices().camera.set_exposure(seconds)

    @asynccontextmanager
    async def _angle_for_leaving(self) -> AsyncIterator[None]:
        """Turn to the angle at which the sample can leave, where there is one; turn on afterwards."""
        turned = self.turning.is_on
        if self.values.text("SampleOutAngleEnable") != "Yes":
            yield
            return
        await self.turning.stop()
        await self.turning.to(self.values.number("SampleOutAngle"))
        try:
            yield
        finally:
            if turned:
                await self.turning.begin()

    async def sample(self, *, out: bool) -> None:
        """Move the sample into or out of the beam, along the axes of FlatFieldAxis. Raises DeviceFault."""
        devices = self.devices()
        axes = {"X": "X", "Y": "Y", "Both": "XY"}[self.values.text("FlatFieldAxis")]
        word = "Out" if out else "In"
        moves = [
            motor.move(self.values.number(f"Sample{word}{axis}"), self.turning.motor_s)
            for axis, motor in (("X", devices.sample_x), ("Y", devices.sample_y))
            if axis in axes and motor.there
        ]
        await asyncio.gather(*moves)

    async def retake(self, kind: FrameKind) -> None:
        """Take dark or flat fields anew while the stage turns. Raises DeviceFault."""
        try:
            await (self.dark_fields() if kind is FrameKind.DARK else self.flat_fields())
        finally:
            self.labels.label(FrameKind.PROJECTION, ready=True)

    async def watch_shutter(self) -> None:
        """Use no frame while the shutter is closed that should be open; it is not opened from here.

        Whoever closed it may have had a reason: frames count again when it is open again.
        """
        is_open = await self.devices().shutter.is_open()
        if is_open is self._dimmed:
            self._dimmed = not is_open
            self.labels.label(FrameKind.PROJECTION, ready=is_open)
            self.teller.notice(
                f"The shutter has been {'opened again' if is_open else 'closed by somebody else'}"
            )


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
