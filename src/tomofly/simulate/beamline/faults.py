"""What goes wrong with frames on request: losses, doubles, wrong order, wrapping ids, a camera that hangs."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tomofly.simulate.beamline.codecs import CodecName

DropMode = Literal["none", "random", "periodic", "burst"]
DROP_MODES: tuple[DropMode, ...] = ("none", "random", "periodic", "burst")
Blank = Literal["none", "zero", "saturated"]
BLANKS: tuple[Blank, ...] = ("none", "zero", "saturated")


@dataclass
class Wishes:
    """What is to go wrong now; written by whoever asks, read once per frame.

    random: each frame is lost with probability `drop_share`; periodic: one of `drop_period`; burst:
    `drop_burst` in a row of `drop_period`.
    """

    drop: DropMode = "none"
    drop_share: float = 0.01
    drop_period: int = 100
    drop_burst: int = 5
    wrap_16_bits: bool = False
    frozen: bool = False
    codec: CodecName = "none"
    blank: Blank = "none"
    duplicate_next: bool = False
    swap_next: bool = False


@dataclass
class Delivery:
    """Decides which frames leave, in which order and under which ids; counts what does not."""

    seed: int = 0
    first_id: int = 1
    wishes: Wishes = field(default_factory=Wishes)
    dropped: list[int] = field(default_factory=list)
    sent: int = 0
    _base: int = 0
    _held: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 7])

    def restart_ids(self, number: int) -> None:
        """Let the frame after `number` have the first id again."""
        self._base = number

    def unique_id(self, number: int) -> int:
        """Id as sent of a frame that counts from 1: 32 bits with sign, or 16 bits."""
        count = number - self._base - 1 + self.first_id
        if self.wishes.wrap_16_bits:
            return count & 0xFFFF
        return (count + 2**31) % 2**32 - 2**31

    def leaving(self, number: int) -> Iterator[int]:
        """Numbers of the frames to be sent now that `number` is there; it may have to wait for the next."""
        wishes = self.wishes
        if self._is_lost(number):
            with self._lock:
                self.dropped.append(self.unique_id(number))
            return
        if wishes.swap_next and self._held is None:
            wishes.swap_next, self._held = False, number
            return
        yield number
        if wishes.duplicate_next:
            wishes.duplicate_next = False
            yield number
        if self._held is not None:
            held, self._held = self._held, None
            yield held

    def dropped_ids(self) -> list[int]:
        """Ids of frames that were lost on purpose."""
        with self._lock:
            return list(self.dropped)

    def _is_lost(self, number: int) -> bool:
        wishes = self.wishes
        if wishes.drop == "random":
            return bool(self._random.random() < wishes.drop_share)
        period = max(wishes.drop_period, 1)
        if wishes.drop == "periodic":
            return number % period == 0
        return wishes.drop == "burst" and number % period < wishes.drop_burst
