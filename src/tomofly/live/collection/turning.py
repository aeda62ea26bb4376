"""How the stage turns while frames come: on and on or to and fro, its change of rate, its end.

Whoever uses the frames hears at which angle projections begin, and at which angles they go on.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from tomofly.live.collection.angles import FULL_TURN_DEG, Sweep
from tomofly.live.collection.beamline import Beamline
from tomofly.live.collection.channels import Channels, DeviceFault
from tomofly.live.collection.frame_labels import FrameLabels
from tomofly.live.frames import FrameKind
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings


class TurningListener(Protocol):
    """Who hears how the stage turns."""

    def sweep(self, sweep: Sweep | None) -> None:
        """The stage turns in another way from now on."""

    def notice(self, text: str) -> None:
        """Something that an operator should know."""


class Turning:
    """The rotation of one beamline."""

    def __init__(
        self, settings: LiveSettings, values: PVValues, channels: Channels, devices: Callable[[], Beamline],
        labels: FrameLabels, listener: TurningListener,
    ) -> None:  # fmt: skip
        self._arm, self._disarm = settings.rotation.arm, settings.rotation.disarm
        self._endless = settings.rotation.endless
        self._values, self._channels, self._devices = values, channels, devices
        self._labels, self._listener = labels, listener
        self._step = 0.0
        self._first_deg = 0.0
        self._legs: asyncio.Task[None] | None = None
        self._turning_point = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether the stage is to turn."""
        return self._step != 0

    @property
    def motor_s(self) -> float:
        """How long to wait for a motor."""
        return self._values.number("StreamMotorTimeout")

    @property
    def _back_and_forth(self) -> bool:
        return self._values.text("StreamScanType") == "backforth"

    def require_step(self) -> None:
        """Refuse to turn by nothing, which would also be a division by nothing. Raises DeviceFault."""
        if self._values.number("RotationStep") == 0:
            raise DeviceFault(
                "RotationStep is 0: the sample would not turn", "Set the angle between projections"
            )

    async def to(self, angle_deg: float) -> float:
        """Turn to an angle, or to the same some whole turns on; give where it is. Raises DeviceFault.

        A stage that has turned on and on for hours is not wound back. One that goes to and fro may not be
        able to turn any further, unless it has turned twice already.
        """
        rotation = self._devices().rotation
        turns = round((await rotation.position() - angle_deg) / FULL_TURN_DEG)
        if self._back_and_forth and abs(turns) < 2:
            turns = 0
        target = angle_deg + turns * FULL_TURN_DEG
        await rotation.move(target, self.motor_s)
        return target

    async def begin(self) -> None:
        """Turn as RotationStart, RotationStep and the exposure say; projections begin. Raises DeviceFault."""
        rotation = self._devices().rotation
        self._step = self._values.number("RotationStep")
        self._first_deg = self._values.number("RotationStart")
        speed = self._step / self._labels.frame_s
        if rotation.there:
            self._first_deg = await self.to(self._values.number("RotationStart"))
            for name, value in self._arm:
                await self._channels.put(name, value, self.motor_s)
            await self._turn(speed)
            await rotation.moves(speed, self.motor_s)
        await self._announce()

    async def _turn(self, speed: float) -> None:
        if self._back_and_forth:
            await self._devices().rotation.set_velocity(abs(speed))
            self._legs = asyncio.create_task(self._go_back_and_forth(), name="back and forth")
        else:
            await self._devices().rotation.turn(speed, self._endless)

    async def _go_back_and_forth(self) -> None:
        rotation = self._devices().rotation
        while True:
            self._turning_point.set()
            self._turning_point = asyncio.Event()
            first = self._first_deg
            last = first + self._step * (self._values.whole("NumAngles") - 1)
            for target in (last, first):
                try:
                    await asyncio.gather(
                        rotation.move(target, self.motor_s), self._tell_leg(back=target == first)
                    )
                except DeviceFault as fault:
                    self._listener.notice(str(fault))
                    return

    async def _announce(self) -> None:
        """Say that projections begin, and at which angle."""
        seen = await self._labels.settled()
        rotation = self._devices().rotation
        angle = seen.angle_deg if seen is not None else math.nan
        if not math.isfinite(angle):
            angle = await rotation.position() if rotation.there else self._values.number("RotationStart")
        first = seen.number if seen is not None else 0
        forth = self._back_and_forth
        if forth:  # the list of angles begins where the stage turns round
            first -= self._steps_to(angle)
            angle = self._values.number("RotationStart")
        self._listener.sweep(Sweep(angle, self._step, self._values.whole("NumAngles"), forth, first))
        self._labels.label(FrameKind.PROJECTION, ready=True)

    async def _tell_leg(self, *, back: bool) -> None:
        """Say anew which frame has which angle: turning round takes as many frames as it takes."""
        try:
            seen = await self._labels.settled()
        except DeviceFault:  # told by whoever looks after the camera
            return
        if seen is None or not math.isfinite(seen.angle_deg):
            return
        count, place = self._values.whole("NumAngles"), self._steps_to(seen.angle_deg)
        place = 2 * count - 1 - place if back else place
        start = self._values.number("RotationStart")
        self._listener.sweep(Sweep(start, self._step, count, True, seen.number - place))

    def _steps_to(self, angle_deg: float) -> int:
        """Give by how many steps an angle is on from where the stage turns round, whole turns left out."""
        half = self._step * (self._values.whole("NumAngles") - 1) / 2
        off = angle_deg - self._first_deg
        if abs(half) < FULL_TURN_DEG / 2:
            off = math.remainder(off - half, FULL_TURN_DEG) + half
        return round(off / self._step)

    async def stop(self) -> None:
        """Let the stage come to rest, and disarm the triggers. Raises DeviceFault."""
        if self._legs is not None:
            self._legs.cancel()
            self._legs = None
        self._step = 0.0
        rotation = self._devices().rotation
        if rotation.there:
            await rotation.stop(self.motor_s)
            for name, value in self._disarm:
                await self._channels.put(name, value, self.motor_s)

    async def keep(self) -> None:
        """Send a rotation on that stands though it should turn, as after its server has started anew."""
        rotation = self._devices().rotation
        on_their_way = self._legs is not None and not self._legs.done()
        if self._step and not on_their_way and rotation.there and await rotation.stands():
            self._labels.label(FrameKind.PROJECTION, ready=False)
            await self._turn(self._step / self._labels.frame_s)
            await self._announce()

    async def sync(self) -> None:
        """Take over ExposureTime and RotationStep while turning; back and forth: where the stage turns round.

        Raises DeviceFault.
        """
        self.require_step()
        devices = self._devices()
        if self._legs is not None:
            await self._until_turning_point()
        self._labels.label(FrameKind.PROJECTION, ready=False)
        self._labels.frame_s = await devices.camera.set_exposure(self._values.number("ExposureTime"))
        self._step = self._values.number("RotationStep")
        await self._turn_at(self._step / self._labels.frame_s)
        await self._announce()

    async def _turn_at(self, speed: float) -> None:
        """Go on at another speed: a stage that goes to and fro begins its way anew."""
        if not self._devices().rotation.there:
            return
        if self._legs is None:
            await self._devices().rotation.turn(speed, self._endless)
        else:
            self._legs.cancel()
            await self._turn(speed)

    async def _until_turning_point(self) -> None:
        cycle_s = 2 * self._values.whole("NumAngles") * self._labels.frame_s
        try:
            await asyncio.wait_for(self._turning_point.wait(), cycle_s + 2 * self.motor_s)
        except TimeoutError:
            raise DeviceFault("The rotation has not come back to where it turns round") from None
