"""One motor behind one motor record: what is written to its fields moves it, and they show how it is."""

import asyncio
import time
from collections.abc import Callable

from softioc import builder

from tomofly.simulate.beamline.motion import Motor
from tomofly.simulate.beamline.motor_record import get_number, load_motor, put_number

UPDATE_S = 0.1
SWITCHES = ("STOP", "JOGF", "JOGR", "HOMF", "HOMR", "SET", "OFF", "DIR", "MOVN")


class MotorIoc:
    """Serves a motor as `name`; `released` is called when somebody gives it an order."""

    def __init__(
        self, name: str, motor: Motor, unit: str, meaning: str, released: Callable[[], None]
    ) -> None:
        self.name = name
        self._motor, self._unit, self._meaning, self._released = motor, unit, meaning, released
        self._shown: dict[str, float] = {}
        self._ours = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # The record's forward link: the first tells of a write at once, the second lasts as long as the way.
        builder.boolOut(
            f"{name}_Ordered", always_update=True, on_update=self._ordered, FLNK=f"{name}_Lasting"
        )
        builder.boolOut(f"{name}_Lasting", always_update=True, blocking=True, on_update=self._lasting)

    def load(self) -> None:
        """Make the record; after softioc's own are loaded."""
        motor = self._motor
        position = motor.motion.at(time.time())[0]
        values = {
            "VAL": position, "RBV": position, "DVAL": position, "DMOV": 1, "VELO": motor.speed,
            "VMAX": 10 * motor.speed, "JVEL": motor.jog_speed, "JAR": motor.acceleration,
            "ACCL": motor.speed / motor.acceleration, "HLM": 1e9, "LLM": -1e9, "MRES": 1e-4, "ERES": 1e-4,
        }  # fmt: skip
        self._shown = dict.fromkeys(SWITCHES, 0.0) | values
        load_motor(self.name, self._unit, self._meaning, f"{self.name}_Ordered", values)

    def _read(self, field: str) -> float:
        return get_number(f"{self.name}.{field}")

    def _show(self, field: str, value: float) -> None:
        if self._shown.get(field) != value:
            self._shown[field] = value
            # Only processing tells the monitors of VAL.
            put_number(f"{self.name}.{field}", value, process=field == "VAL")

    def _ordered(self, _value: int) -> None:
        """A field was written: find out which, and act."""
        now, motor = time.time(), self._motor
        self._take_rates()
        if self._read("STOP"):
            self._shown["STOP"] = 1.0
            self._show("STOP", 0.0)
            self._end_jogs()
            self._go(lambda: motor.stop(now))
        elif (jog := self._read("JOGF") - self._read("JOGR")) != self._shown["JOGF"] - self._shown["JOGR"]:
            self._shown |= {"JOGF": self._read("JOGF"), "JOGR": self._read("JOGR")}
            self._go((lambda: motor.jog(int(jog), now)) if jog else (lambda: motor.stop(now)))
        elif self._read("HOMF") or self._read("HOMR"):
            for field in ("HOMF", "HOMR"):
                self._shown[field] = self._read(field)
                self._show(field, 0.0)
            self._go(lambda: motor.move(0.0, now))
        elif (target := self._read("VAL")) != self._shown["VAL"]:
            self._shown["VAL"] = target
            if self._read("SET"):
                self._show("OFF", self._shown["OFF"] + motor.call_it(target, now))
            else:
                self._end_jogs()
                self._go(lambda: motor.move(target, now))
        self.update()

    def _take_rates(self) -> None:
        """Speeds and accelerations as written; ACCL is the time to reach VELO."""
        motor = self._motor
        motor.speed = max(abs(self._read("VELO")), 1e-9)
        self._take_jog_speed(max(abs(self._read("JVEL")), 1e-9))
        for field, acceleration in (
            ("ACCL", motor.speed / max(self._read("ACCL"), 1e-6)), ("JAR", self._read("JAR"))
        ):  # fmt: skip
            if self._read(field) != self._shown[field]:
                self._shown[field] = self._read(field)
                motor.acceleration = max(acceleration, 1e-6)

    def _take_jog_speed(self, speed: float) -> None:
        """A new jog speed holds at once, also for a jog under way."""
        motor = self._motor
        if speed == motor.jog_speed:
            return
        motor.jog_speed = speed
        if sense := int(self._shown["JOGF"] - self._shown["JOGR"]):
            motor.jog(sense, time.time())

    def _go(self, order: Callable[[], object]) -> None:
        self._released()
        self._idle.clear()
        order()

    def _end_jogs(self) -> None:
        self._show("JOGF", 0.0)
        self._show("JOGR", 0.0)

    async def _lasting(self, _value: int) -> None:
        """Last until the motor rests, or jogs without end."""
        while not self._idle.is_set() and not (self._shown["JOGF"] or self._shown["JOGR"]):
            await asyncio.sleep(min(max(self._motor.motion.ends_at - time.time(), 0.005), UPDATE_S))
            self.update()

    def update(self) -> None:
        """Show how the motor is now."""
        now = time.time()
        self._take_jog_speed(max(abs(self._read("JVEL")), 1e-9))
        moving = self._motor.is_moving(now)
        position = self._motor.motion.at(now)[0]
        if not moving and self._shown["DMOV"] == 0:
            self._show("VAL", position if self._was_stopped(position) else self._shown["VAL"])
        self._show("RBV", position)
        self._show("DVAL", position - self._shown["OFF"])
        self._show("MOVN", float(moving))
        self._show("DMOV", float(not moving))
        if not moving:
            self._idle.set()

    def _was_stopped(self, position: float) -> bool:
        return abs(position - self._shown["VAL"]) > 1e-6
