"""Motors: position and velocity at any time, as legs of constant acceleration."""

import math
import threading
from bisect import bisect_right
from dataclasses import dataclass

# Legs that are kept of what has been: frames are looked up a few seconds late at most.
MOST_LEGS = 400


@dataclass(frozen=True)
class Leg:
    """From `start_s` on: position, velocity then, and the constant acceleration."""

    start_s: float
    position: float
    velocity: float
    acceleration: float

    def at(self, time_s: float) -> tuple[float, float]:
        """Position and velocity at a time."""
        if self.velocity == 0 and self.acceleration == 0:
            return self.position, 0.0
        t = time_s - self.start_s
        position = self.position + t * (self.velocity + 0.5 * t * self.acceleration)
        return position, self.velocity + t * self.acceleration


@dataclass(frozen=True)
class Motion:
    """A way in time: legs in their order, the last of which goes on for ever."""

    legs: tuple[Leg, ...]

    def at(self, time_s: float) -> tuple[float, float]:
        """Position and velocity at a time; before the first leg, what it begins with."""
        place = bisect_right(self.legs, time_s, key=lambda leg: leg.start_s) - 1
        if place < 0:
            return self.legs[0].position, 0.0
        return self.legs[place].at(time_s)

    @property
    def ends_at(self) -> float:
        """When it comes to rest; infinity where it never does."""
        last = self.legs[-1]
        return last.start_s if last.velocity == 0 else math.inf

    def then(self, time_s: float, legs: list[Leg]) -> "Motion":
        """The same way until a time, and new legs after it."""
        before = [leg for leg in self.legs if leg.start_s < time_s]
        return Motion((*before, *legs)[-MOST_LEGS:])


def at_rest(position: float) -> Motion:
    """A motor that has always been there."""
    return Motion((Leg(-math.inf, position, 0.0, 0.0),))


def stopped(motion: Motion, time_s: float, acceleration: float) -> Motion:
    """Brake from a time on."""
    position, velocity = motion.at(time_s)
    return motion.then(time_s, _braking(time_s, position, velocity, acceleration))


def jogged(motion: Motion, time_s: float, velocity: float, acceleration: float) -> Motion:
    """Change to a velocity, with sign, and keep it."""
    position, now = motion.at(time_s)
    change = Leg(time_s, position, now, math.copysign(acceleration, velocity - now))
    end = time_s + abs(velocity - now) / acceleration
    return motion.then(time_s, [change, Leg(end, change.at(end)[0], velocity, 0.0)])


def moved(motion: Motion, time_s: float, target: float, speed: float, acceleration: float) -> Motion:
    """Go to a place and stop there; first brake where it is too near or behind."""
    position, velocity = motion.at(time_s)
    way = target - position
    braking = velocity**2 / (2 * acceleration)
    if velocity * way < 0 or braking > abs(way):
        legs = _braking(time_s, position, velocity, acceleration)
        rest = legs.pop()
        legs += _trapezium(rest.start_s, rest.position, 0.0, target, speed, acceleration)
    else:
        legs = _trapezium(time_s, position, abs(velocity), target, speed, acceleration)
    return motion.then(time_s, legs)


def _braking(time_s: float, position: float, velocity: float, acceleration: float) -> list[Leg]:
    leg = Leg(time_s, position, velocity, -math.copysign(acceleration, velocity))
    if velocity == 0:
        return [Leg(time_s, position, 0.0, 0.0)]
    end = time_s + abs(velocity) / acceleration
    return [leg, Leg(end, leg.at(end)[0], 0.0, 0.0)]


def _trapezium(
    time_s: float, position: float, velocity: float, target: float, speed: float, acceleration: float
) -> list[Leg]:
    """Legs to a target that lies ahead, farther than the way to brake; `velocity` >= 0 is towards it."""
    way = abs(target - position)
    sense = math.copysign(1.0, target - position)
    top = min(max(speed, 1e-12), math.sqrt(acceleration * way + velocity**2 / 2))
    phases = [(abs(top - velocity) / acceleration, math.copysign(acceleration, top - velocity))]
    rest = way - abs(top**2 - velocity**2) / (2 * acceleration) - top**2 / (2 * acceleration)
    if top > 0:
        phases += [(max(rest, 0.0) / top, 0.0), (top / acceleration, -acceleration)]
    legs: list[Leg] = []
    for seconds, change in phases:
        if seconds > 0:
            legs.append(Leg(time_s, position, sense * velocity, sense * change))
            time_s += seconds
            position = legs[-1].at(time_s)[0]
            velocity += change * seconds
    return [*legs, Leg(time_s, target, 0.0, 0.0)]


def next_crossing(motion: Motion, after_s: float, start: float, step: float) -> float | None:
    """When, after a time, the position next is `start` plus a whole number of `step`s; None: never."""
    legs = motion.legs
    first = max(bisect_right(legs, after_s, key=lambda leg: leg.start_s) - 1, 0)
    for place in range(first, len(legs)):
        begin = max(legs[place].start_s, after_s)
        end = legs[place + 1].start_s if place + 1 < len(legs) else math.inf
        found = _crossing_in(legs[place], begin, end, start, abs(step))
        if found is not None:
            return found
    return None


def _crossing_in(leg: Leg, begin: float, end: float, start: float, step: float) -> float | None:
    """The first crossing within one leg: of the grid's place above or of that below."""
    if leg.velocity == 0 and leg.acceleration == 0:
        return None
    place = (leg.at(begin)[0] - start) / step
    above, below = math.floor(place + 1e-9) + 1, math.ceil(place - 1e-9) - 1
    times: list[float] = []
    for index in (above, below):
        offset = leg.position - (start + index * step)
        times += [leg.start_s + t for t in _roots(leg.acceleration / 2, leg.velocity, offset)]
    later = [t for t in times if begin + 1e-9 < t <= end]
    return min(later, default=None)


def _roots(a: float, b: float, c: float) -> list[float]:
    """Real roots of a t² + b t + c."""
    if a == 0:
        return [-c / b] if b else []
    inside = b * b - 4 * a * c
    if inside < 0:
        return []
    q = -0.5 * (b + math.copysign(math.sqrt(inside), b))
    return [q / a] + ([c / q] if q else [])


class Motor:
    """A motor that takes commands at given times; safe to use from several threads.

    Positions are the user's: `offset` is added to what the drive counts.
    """

    def __init__(self, position: float, speed: float, acceleration: float) -> None:
        self.speed = speed
        self.jog_speed = speed
        self.acceleration = acceleration
        self._motion = at_rest(position)
        self._lock = threading.Lock()

    @property
    def motion(self) -> Motion:
        """The way so far, and what is ordered."""
        with self._lock:
            return self._motion

    def move(self, target: float, time_s: float, speed: float | None = None) -> float:
        """Go to a place, at the motor's own speed or another; return when it will be there."""
        with self._lock:
            self._motion = moved(self._motion, time_s, target, speed or self.speed, self.acceleration)
            return self._motion.ends_at

    def jog(self, sense: int, time_s: float, speed: float | None = None) -> None:
        """Turn on for ever, forward (1) or backward (-1)."""
        with self._lock:
            velocity = sense * (speed or self.jog_speed)
            self._motion = jogged(self._motion, time_s, velocity, self.acceleration)

    def stop(self, time_s: float) -> float:
        """Brake; return when it will be at rest."""
        with self._lock:
            self._motion = stopped(self._motion, time_s, self.acceleration)
            return self._motion.ends_at

    def call_it(self, position: float, time_s: float) -> float:
        """Call the place of this moment by another number; return by how much all numbers change."""
        with self._lock:
            change = position - self._motion.at(time_s)[0]
            legs = [
                Leg(leg.start_s, leg.position + change, leg.velocity, leg.acceleration)
                for leg in self._motion.legs
            ]
            self._motion = Motion(tuple(legs))
            return change

    def is_moving(self, time_s: float) -> bool:
        """Whether it moves at a time, or is told to later."""
        motion = self.motion
        return motion.at(time_s)[1] != 0 or time_s < motion.ends_at != math.inf
