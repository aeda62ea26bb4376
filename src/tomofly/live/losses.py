"""Every frame accounted for: what came, what never came, and where the rest was lost."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from tomofly.live.frame_numbers import Arrival, FrameNumbers, Numbered


@dataclass(frozen=True)
class Losses:
    """The account at one moment.

    ``received + missing == last - first + 1``: numbers `first` to `last` have been expected. `missing` never
    came: lost by the camera, its IOC or the network, or overrun in the queue of the PVAccess client, which
    tells only by the gap. `duplicates` and `late` frames and `restarts` of the camera's counting are told
    apart. `lost` says how many of the received frames were lost afterwards, by stage or reason.
    """

    first: int = 0
    last: int = -1
    received: int = 0
    missing: int = 0
    duplicates: int = 0
    late: int = 0
    restarts: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Frames that never came or were lost later, at whatever stage."""
        return self.missing + sum(self.lost.values())

    def summary(self) -> dict[str, int]:
        """The account as flat numbers, for status lines and attributes."""
        named = {f"lost, {stage}": count for stage, count in self.lost.items()}
        plain = ("first", "last", "received", "missing", "duplicates", "late", "restarts")
        return {**{name: getattr(self, name) for name in plain}, **named}


class LossCounter:
    """Keeps the account; any thread may call it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = FrameNumbers()
        self._arrivals: Counter[Arrival] = Counter()
        self._lost: Counter[str] = Counter()

    def receive(self, unique_id: int, taken_at: float = math.nan) -> Numbered:
        """Number the frame with this id, taken at this time (POSIX seconds, NaN where unknown)."""
        with self._lock:
            numbered = self._numbers.take(unique_id, taken_at)
            self._arrivals[numbered.arrival] += 1
            return numbered

    def lose(self, stage: str, frames: int = 1) -> None:
        """Count frames that were received and lost at a stage, or for a reason, of this name."""
        with self._lock:
            self._lost[stage] += frames

    def account(self) -> Losses:
        """The account as it stands."""
        with self._lock:
            numbers = self._numbers
            return Losses(
                first=numbers.first,
                last=numbers.last if numbers.received else numbers.first - 1,
                received=numbers.received,
                missing=numbers.missing,
                duplicates=self._arrivals[Arrival.DUPLICATE],
                late=self._arrivals[Arrival.LATE],
                restarts=self._arrivals[Arrival.RESTART],
                lost=dict(self._lost),
            )
