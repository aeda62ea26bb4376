"""Turns the stage by itself, for those who want frames without a program that collects."""

import threading

from tomofly.simulate.beamline.motion import Motor
from tomofly.simulate.beamline.schedule import Schedule, StepAndStop
from tomofly.simulate.beamline.settings import PatternName

STEPPING: tuple[PatternName, ...] = ("interlaced", "golden")
PATTERNS: tuple[PatternName, ...] = ("none", "continuous", "back-and-forth", "interlaced", "golden")


class Autopilot:
    """Keeps a rotation pattern going; "none" leaves the stage to whoever gives it orders."""

    def __init__(
        self, motor: Motor, pattern: PatternName, speed_deg_s: float, span_deg: float = 180.0
    ) -> None:
        self._motor = motor
        self._span_deg = span_deg
        self._lock = threading.Lock()
        self._stepping: StepAndStop | None = None
        self.speed_deg_s = speed_deg_s
        self.pattern = pattern
        self._due = pattern != "none"

    def fly(self, pattern: PatternName, speed_deg_s: float | None = None) -> None:
        """Change the pattern, or its speed."""
        with self._lock:
            self.pattern = pattern
            self.speed_deg_s = speed_deg_s or self.speed_deg_s
            self._stepping = None
            self._due = True

    def let_go(self) -> None:
        """Leave the stage to somebody else, as it moves now."""
        with self._lock:
            self.pattern = "none"
            self._stepping, self._due = None, False

    def steer(self, now: float) -> None:
        """Give the stage the orders that are due."""
        with self._lock:
            if self._due:
                self._begin(now)
            elif self.pattern == "back-and-forth" and self._motor.motion.ends_at <= now:
                self._turn_back()

    def schedule(self) -> Schedule | None:
        """How a pattern that stops at each angle times the camera; None for the others."""
        with self._lock:
            if self.pattern in STEPPING and self._stepping is None:
                self._stepping = StepAndStop(self._motor, self.pattern, self._span_deg)
            return self._stepping

    def _begin(self, now: float) -> None:
        self._due = False
        if self.pattern == "continuous":
            self._motor.jog(1, now, self.speed_deg_s)
        elif self.pattern == "back-and-forth":
            self._motor.move(self._span_deg, now, self.speed_deg_s)
        elif self.pattern == "none":
            self._motor.stop(now)

    def _turn_back(self) -> None:
        """Leave for the other end at the very time of arrival, however late it is looked at."""
        arrived = self._motor.motion.ends_at
        at_far_end = abs(self._motor.motion.at(arrived)[0] - self._span_deg) < self._span_deg / 2
        self._motor.move(0.0 if at_far_end else self._span_deg, arrived, self.speed_deg_s)
