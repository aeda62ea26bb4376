"""When exposures begin: by a clock, by the stage's position, or when the stage has arrived and rests."""

import math
from collections.abc import Iterator
from typing import Protocol

from tomofly.simulate.beamline.motion import Motor, next_crossing
from tomofly.simulate.beamline.patterns import pattern_angles
from tomofly.simulate.beamline.settings import PatternName

# Rest before an exposure after the stage has arrived.
SETTLING_S = 0.02
# A pattern that stops at each angle has so many of them before it begins again.
STOPS = 180


class Schedule(Protocol):
    """Begins of exposures, POSIX."""

    def next_begin(self, after_s: float) -> float | None:
        """The first begin after a time; None where nothing is due until something changes."""
        ...


class Periodic:
    """Begins at whole periods after the first: nothing adds up however long it runs."""

    def __init__(self, first_s: float, period_s: float) -> None:
        self.first_s = first_s
        self.period_s = period_s

    def next_begin(self, after_s: float) -> float:
        """The first begin after a time."""
        if after_s < self.first_s:
            return self.first_s
        number = math.floor((after_s - self.first_s) / self.period_s + 1e-6) + 1
        return self.first_s + number * self.period_s


class Crossings:
    """An exposure is in its middle when the stage passes `start_deg` plus a whole number of steps."""

    def __init__(self, motor: Motor, start_deg: float, step_deg: float, exposure_s: float) -> None:
        self._motor = motor
        self._grid = start_deg, step_deg
        self._half = exposure_s / 2

    def next_begin(self, after_s: float) -> float | None:
        """The first begin after a time, as far as the stage's orders tell."""
        crossing = next_crossing(self._motor.motion, after_s + self._half, *self._grid)
        return None if crossing is None else crossing - self._half


class StepAndStop:
    """The stage goes to one angle after the other, and the camera exposes when it rests."""

    def __init__(self, motor: Motor, pattern: PatternName, span_deg: float) -> None:
        self._motor = motor
        self._angles = self._endless(pattern, span_deg)
        self._begin = -math.inf

    @staticmethod
    def _endless(pattern: PatternName, span_deg: float) -> Iterator[float]:
        while True:
            yield from pattern_angles(pattern, STOPS, span_deg).tolist()

    def next_begin(self, after_s: float) -> float:
        """The first begin after a time; sends the stage on once the last exposure has begun."""
        if after_s >= self._begin:
            self._begin = self._motor.move(next(self._angles), after_s + SETTLING_S) + SETTLING_S
        return self._begin
