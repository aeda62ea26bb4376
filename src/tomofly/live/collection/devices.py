"""Motor, shutter and camera: what each is asked for, with a time limit on every wait."""

from dataclasses import dataclass

from tomofly.live.collection.channels import ANSWER_S, Channels, DeviceFault, until
from tomofly.live.settings import MotorSettings

FAR_DEG = 1e7
"""A far target: at 36 degrees per second it lasts for three days; a rotation found standing is sent on."""

Put = tuple[str, str]


@dataclass(frozen=True)
class Motor:
    """A motor: a motor record, or PVs that stand for its fields."""

    channels: Channels
    names: MotorSettings
    label: str

    def _field(self, own: str, field: str) -> str:
        return own or f"{self.names.record}.{field}"

    @property
    def there(self) -> bool:
        """Whether the settings name it."""
        return bool(self.names.record or self.names.setpoint)

    async def position(self) -> float:
        """Give where it is."""
        return float(await self.channels.get(self._field(self.names.readback, "RBV")))

    async def velocity(self) -> float:
        """Give its speed, units per second."""
        return float(await self.channels.get(self._field(self.names.velocity, "VELO")))

    async def set_velocity(self, speed: float) -> None:
        """Set the speed of the next move."""
        await self.channels.put(self._field(self.names.velocity, "VELO"), speed)

    async def move(self, target: float, slack_s: float, speed: float | None = None) -> None:
        """Move and wait until it is there: as long as its speed needs, and `slack_s` beyond that.

        Raises DeviceFault where it does not arrive.
        """
        if speed is not None:
            await self.set_velocity(speed)
        distance = abs(target - await self.position())
        limit = distance / max(abs(await self.velocity()), 1e-9) + slack_s
        await self.channels.put(self._field(self.names.setpoint, "VAL"), target)
        what = f"The {self.label} has not reached {target:g}"
        await until(
            self.channels,
            self._field(self.names.readback, "RBV"),
            lambda at: abs(float(at) - target) <= self.names.tolerance,
            limit,
            what,
        )
        await self._at_rest(slack_s, what)

    async def _at_rest(self, limit_s: float, what: str) -> None:
        await until(
            self.channels, self._field(self.names.done, "DMOV"), lambda v: float(v) == 1, limit_s, what
        )

    async def turn(self, speed: float, way: str) -> None:
        """Begin to turn on and on, at a signed speed; `way`: jog, or move (to a far target)."""
        if way == "move":
            await self.set_velocity(abs(speed))
            target = await self.position() + (FAR_DEG if speed > 0 else -FAR_DEG)
            await self.channels.put(self._field(self.names.setpoint, "VAL"), target)
            return
        await self.channels.put(self._field(self.names.jog_velocity, "JVEL"), abs(speed))
        jog = self._field(self.names.jog, "JOGF")
        await self.channels.put(jog if speed > 0 else jog.replace("JOGF", "JOGR"), 1)

    async def stands(self) -> bool:
        """Tell whether it stands still."""
        return float(await self.channels.get(self._field(self.names.done, "DMOV"))) == 1

    async def moves(self, speed: float, slack_s: float) -> None:
        """Wait until it is on its way. Raises DeviceFault where it stands still."""
        await until(
            self.channels,
            self._field(self.names.done, "DMOV"),
            lambda v: float(v) == 0,
            slack_s,
            f"The {self.label} does not begin to turn at {speed:g}/s",
        )

    async def stop(self, slack_s: float) -> None:
        """Stop it and wait until it stands. Raises DeviceFault where it does not."""
        await self.channels.put(self._field(self.names.stop, "STOP"), 1)
        await self._at_rest(slack_s, f"The {self.label} does not stop")


@dataclass(frozen=True)
class Shutter:
    """The shutter and the fast shutter; a name left empty is left alone."""

    channels: Channels
    opening: tuple[Put, ...]
    closing: tuple[Put, ...]
    status: str
    status_open: float

    async def open(self, limit_s: float) -> None:
        """Open it, and wait until its status says so. Raises DeviceFault."""
        await self._put(self.opening, limit_s)
        await self._until(True, limit_s)

    async def close(self, limit_s: float) -> None:
        """Close it, and wait until its status says so. Raises DeviceFault."""
        await self._put(self.closing, limit_s)
        await self._until(False, limit_s)

    async def is_open(self) -> bool:
        """Tell whether its status says so; without a status it is believed to be as told."""
        return not self.status or float(await self.channels.get(self.status)) == self.status_open

    async def _put(self, puts: tuple[Put, ...], limit_s: float) -> None:
        for name, value in puts:
            if name:
                await self.channels.put(name, value, limit_s)

    async def _until(self, wanted: bool, limit_s: float) -> None:
        if self.status:
            word = "open" if wanted else "close"
            await until(
                self.channels,
                self.status,
                lambda value: (float(value) == self.status_open) is wanted,
                limit_s,
                f"The shutter does not {word}",
            )


@dataclass(frozen=True)
class Camera:
    """An areaDetector camera, taking frames on and on."""

    channels: Channels
    prefix: str
    period: str = ""
    readout_s: float = 0.0

    def _name(self, name: str) -> str:
        head, scheme, rest = self.prefix.rpartition("pva://")
        return f"{scheme}{head}{rest}cam1:{name}"

    async def set_exposure(self, seconds: float) -> float:
        """Set the exposure; give the time from frame to frame, in seconds."""
        await self.channels.put(self._name("AcquireTime"), seconds, ANSWER_S)
        frame_s = seconds + self.readout_s
        if self.period:
            await self.channels.put(self.period, frame_s, ANSWER_S)
        return max(frame_s, await self._period())

    async def _period(self) -> float:
        """Give the period that the camera keeps by itself; 0 where it has none."""
        try:
            return float(await self.channels.get(self._name("AcquirePeriod_RBV")))
        except DeviceFault:
            return 0.0

    async def start(self) -> None:
        """Take frames until told otherwise."""
        await self.channels.put(self._name("ImageMode"), "Continuous")
        # Without waiting: Acquire completes only when the camera has stopped.
        await self.channels.put(self._name("Acquire"), 1)

    async def stop(self, limit_s: float) -> None:
        """Stop it and wait until it has. Raises DeviceFault where it goes on."""
        await self.channels.put(self._name("Acquire"), 0)
        acquires = self._name("Acquire")
        await until(self.channels, acquires, _is_off, limit_s, "The camera does not stop")

    async def is_running(self) -> bool:
        """Tell whether it takes frames. Raises DeviceFault where it does not answer."""
        return not _is_off(await self.channels.get(self._name("Acquire")))


def _is_off(value: object) -> bool:
    return value in (0, "0", "Done", False)
