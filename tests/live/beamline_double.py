"""A beamline in memory, for tests of collection: motors that take time, a shutter, a camera that sees it all.

What the camera truly sees at each frame is noted beside what collection said that it would see.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tomofly.live.collection.angles import AngleList
from tomofly.live.collection.channels import DeviceFault
from tomofly.live.frames import Frame, FrameKind

ROTATION, SAMPLE_X = "rot", "sx"
SAMPLE_OUT_MM = 5.0


@dataclass
class SimulatedMotor:
    """A motor record: it moves evenly, and notices nothing but VAL, VELO, STOP, JOGF and JVEL."""

    velocity: float
    position: float = 0.0
    stuck: bool = False
    speed: float = 0.0
    target: float = 0.0
    began: tuple[float, float] = (0.0, 0.0)
    jogging: bool = False

    def at(self, now: float) -> float:
        if self.speed == 0:
            return self.position
        moved = self.began[1] + self.speed * (now - self.began[0])
        if not self.jogging and (moved - self.target) * np.sign(self.speed) >= 0:
            self.position, self.speed = self.target, 0.0
            return self.position
        return float(moved)

    def go(self, now: float, target: float) -> None:
        if self.stuck:
            return
        self.position = self.at(now)
        self.target, self.jogging = target, False
        self.speed = float(np.sign(target - self.position)) * self.velocity
        self.began = (now, self.position)

    def jog(self, now: float, speed: float) -> None:
        self.position = self.at(now)
        self.jogging, self.speed, self.began = True, speed, (now, self.position)

    def stop(self, now: float) -> None:
        self.position, self.speed = self.at(now), 0.0


@dataclass(frozen=True)
class Truth:
    """A frame: what it shows in truth, and what was said at that moment."""

    number: int
    truth: FrameKind
    said: FrameKind
    angle_deg: float
    exposure_s: float


@dataclass(eq=False)
class BeamlineDouble:
    """Channels to a beamline that exists in memory only."""

    values: dict[str, Any] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    frames: list[Truth] = field(default_factory=list)
    said: FrameKind = FrameKind.OTHER
    angles_told: list[tuple[AngleList, int]] = field(default_factory=list)
    lenses: list[int] = field(default_factory=list)
    frame_s: float = 0.002
    send_angles: bool = True
    on_frame: Callable[[Frame], None] = lambda frame: None
    puts: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.motors = {ROTATION: SimulatedMotor(500.0), SAMPLE_X: SimulatedMotor(400.0)}
        self.values |= {"cam:cam1:Acquire": 0, "cam:cam1:AcquireTime": 0.001, "shutter": 0, "lens": 0}
        self._watchers: dict[str, list[Callable[[Any], object]]] = {}
        self._task = asyncio.create_task(self._run())
        self._number = 100

    async def _run(self) -> None:
        """Take frames, and tell motors' places: the simulated time of the beamline."""
        while True:
            await asyncio.sleep(self.frame_s)
            for name in self.motors:
                for part in ("RBV", "DMOV"):
                    self._tell(f"{name}.{part}")
            if self.values["cam:cam1:Acquire"] and "cam:cam1:Acquire" not in self.gone:
                self._expose()

    def _expose(self) -> None:
        now = self.loop.time()
        self._number += 1
        sample = self.motors[SAMPLE_X]
        place = sample.at(now)
        moving = sample.speed != 0
        flat = abs(place - SAMPLE_OUT_MM) < 0.01
        truth = FrameKind.OTHER if moving or (abs(place) > 0.01 and not flat) else FrameKind.PROJECTION
        truth = FrameKind.FLAT if flat and not moving else truth
        truth = truth if self.values["shutter"] else FrameKind.DARK
        angle = self.motors[ROTATION].at(now)
        self.frames.append(Truth(self._number, truth, self.said, angle, self.values["cam:cam1:AcquireTime"]))
        self.on_frame(
            Frame(
                self._number, self._number, np.zeros((3, 4), np.uint8), self.said,
                angle if self.send_angles else np.nan, now, now,
            )
        )  # fmt: skip

    # Listeners of collection.

    def kind(self, kind: FrameKind) -> None:
        self.said = kind

    def angles(self, angles: AngleList, first_id: int) -> None:
        self.angles_told.append((angles, first_id))

    def lens(self, lens: int) -> None:
        self.lenses.append(lens)

    # Channels.

    def value(self, name: str) -> Any:
        motor, _, part = name.partition(".")
        if motor not in self.motors:
            return self.values[name]
        its, now = self.motors[motor], self.loop.time()
        place = its.at(now)
        return {"RBV": place, "DMOV": float(its.speed == 0), "VELO": its.velocity, "VAL": its.target}[part]

    async def get(self, name: str) -> Any:
        self._answer(name)
        return self.value(name)

    def _answer(self, name: str) -> None:
        if (
            name.endswith("AcquirePeriod_RBV")
            or name in self.gone
            or name.split(".", maxsplit=1)[0] in self.gone
        ):
            raise DeviceFault(f"{name} does not answer")

    async def put(self, name: str, value: Any, wait_s: float | None = None) -> None:
        self._answer(name)
        self.puts.append((name, value))
        motor, _, part = name.partition(".")
        if motor in self.motors:
            self._command(self.motors[motor], part, float(value))
            return
        self.values[name] = value
        if name in ("open", "close"):
            self.values["shutter"] = int(name == "open")
            self._tell("shutter")
        self._tell(name)

    def _command(self, motor: SimulatedMotor, part: str, value: float) -> None:
        now = self.loop.time()
        if part == "VAL":
            motor.go(now, value)
        elif part in ("VELO", "JVEL"):
            motor.velocity = value
            if motor.jogging and motor.speed:
                motor.jog(now, value)
        elif part == "JOGF" and not motor.stuck:
            motor.jog(now, motor.velocity)
        elif part == "STOP":
            motor.stop(now)

    def watch(self, name: str, told: Callable[[Any], object], gone: object = None) -> Any:
        told(self.value(name))
        self._watchers.setdefault(name, []).append(told)
        double = self

        class Watching:
            def close(self) -> None:
                double._watchers[name].remove(told)

        return Watching()

    def _tell(self, name: str) -> None:
        if name.split(".", maxsplit=1)[0] not in self.gone:
            for told in tuple(self._watchers.get(name, ())):
                told(self.value(name))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
