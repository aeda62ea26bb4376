"""Numbers that count up for ever, from ids that wrap around, repeat, come late or begin again."""

import math
from dataclasses import dataclass
from enum import Enum

# A camera wraps where its counter ends, one time stamp apart; nearer than this to both ends is a wrap.
_NEAR_THE_END = 4096
# An id further back than this is no frame that was overtaken on its way.
_LATE = 512
# A gap wider than an hour at 500 frames/s is no gap: the camera counts from somewhere else.
_WIDEST_GAP = 2_000_000
# Where nothing but ids is known, so far back to the first of all ids is a new start.
_FIRST_IDS, _NEARLY_IN_ORDER = (0, 1), 16
_16_BITS, _31_BITS = 2**16, 2**31


class Arrival(Enum):
    """How a frame comes after those before it."""

    NEXT = "next"  # perhaps after a gap
    LATE = "late"  # one that was missing
    DUPLICATE = "duplicate"
    RESTART = "restart"  # the camera counts anew: the number goes on by one


@dataclass(frozen=True)
class Numbered:
    """`number` of a frame; `lap` is what wrapping has added to its id since the camera last started."""

    number: int
    arrival: Arrival
    lap: int = 0


class FrameNumbers:
    """Unwraps ids of 16 or 32 bits. ``missing == last - first + 1 - received``, always.

    Time stamps tell a camera that counts anew from a frame that comes late or twice: such a frame was taken
    before the last one or with it. Where there are no time stamps (NaN), an id that goes back a little is
    late. One that goes back far is a new start in any case: the camera's clock may have been set back too.
    """

    def __init__(self) -> None:
        self.first = 0
        self.last = 0
        self.received = 0
        self._last_id = 0
        self._last_time = math.nan
        self._lap = 0
        self._start = 0  # number of the frame with which the present counting began
        self._wrapped_at = -_LATE  # number at which the ids last wrapped
        self._period = 0
        self._absent: dict[int, None] = {}

    @property
    def missing(self) -> int:
        """Numbers between the first and the last of which no frame has come."""
        return self.last - self.first + 1 - self.received if self.received else 0

    def take(self, unique_id: int, taken_at: float = math.nan) -> Numbered:
        """The number of the frame with this id, taken at this time (POSIX seconds, NaN where unknown)."""
        if not self.received:
            return self._begin(unique_id, taken_at)
        step = self._step(unique_id)
        earlier = taken_at <= self._last_time
        unknown = math.isnan(taken_at) or math.isnan(self._last_time)
        if step > _WIDEST_GAP:
            return self._restart(unique_id, taken_at)
        if step > 0:
            return self._forward(step, unique_id, taken_at)
        wrapped = self.last - self._wrapped_at < _LATE
        anew = unknown and unique_id in _FIRST_IDS and step < -_NEARLY_IN_ORDER and not wrapped
        if step > -_LATE and (earlier or unknown) and not anew:
            return self._backward(step)
        return self._restart(unique_id, taken_at)

    def _begin(self, unique_id: int, taken_at: float) -> Numbered:
        self.first = self.last = self._start = unique_id
        self.received = 1
        self._last_id, self._last_time = unique_id, taken_at
        return Numbered(unique_id, Arrival.NEXT)

    def _step(self, unique_id: int) -> int:
        """How far this id is on from the last, with wrapping undone where there has been one."""
        plain = unique_id - self._last_id
        period = self._wrap(unique_id)
        if period:
            self._period = period
            return plain + period
        if self._period and self.last - self._wrapped_at < _LATE and plain > self._period - 2 * _LATE:
            return plain - self._period  # late, from before the wrap
        return plain

    def _wrap(self, unique_id: int) -> int:
        """After how many ids the counter wrapped between the last id and this one; 0 where it did not."""
        last = self._last_id
        if _16_BITS - _NEAR_THE_END <= last < _16_BITS and 0 <= unique_id < _NEAR_THE_END:
            # Some cameras go from 65535 to 1, as 0 means "no id" to them.
            return _16_BITS - (last == _16_BITS - 1 and unique_id == 1)
        if last < _31_BITS - _NEAR_THE_END:
            return 0
        if unique_id < _NEAR_THE_END - _31_BITS:  # an unsigned counter, sent as a signed one
            return 2 * _31_BITS
        return _31_BITS if 0 <= unique_id < _NEAR_THE_END else 0

    def _forward(self, step: int, unique_id: int, taken_at: float) -> Numbered:
        if unique_id < self._last_id:
            self._lap += self._period
            self._wrapped_at = self.last
        number = self.last + step
        # Only what can still come late is remembered one by one, oldest first.
        while self._absent and next(iter(self._absent)) <= number - _LATE:
            del self._absent[next(iter(self._absent))]
        self._absent.update(dict.fromkeys(range(max(self.last + 1, number - _LATE), number)))
        self.last = number
        self.received += 1
        self._last_id, self._last_time = unique_id, taken_at
        return Numbered(number, Arrival.NEXT, self._lap)

    def _backward(self, step: int) -> Numbered:
        number = self.last + step
        if number in self._absent:
            del self._absent[number]
        elif number < self.first == self._start:
            self._absent.update(dict.fromkeys(range(number + 1, self.first)))
            self.first = self._start = number
        else:
            return Numbered(number, Arrival.DUPLICATE, self._lap)
        self.received += 1
        return Numbered(number, Arrival.LATE, self._lap)

    def _restart(self, unique_id: int, taken_at: float) -> Numbered:
        self.last += 1
        self.received += 1
        self._start = self.last
        self._lap = self._period = 0
        self._wrapped_at = self.last - _LATE
        self._absent.clear()
        self._last_id, self._last_time = unique_id, taken_at
        return Numbered(self.last, Arrival.RESTART)
