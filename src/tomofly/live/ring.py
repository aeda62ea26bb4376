"""Which projections the slices are made of: slots of a ring, by angle.

A projection takes the place of the one that was seen at the same angle, modulo 180°, whatever the order in
which angles come: round and round, back and forth, interlaced, or by the golden angle.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.angular_weights import angular_weights, coverage_deg
from tomofly.imaging.xray.running_slices import Window

FloatArray = npt.NDArray[np.float64]

HALF_TURN_DEG = 180.0
# Without an angular step told, so many projections are looked at before one is taken for granted.
_LOOKED_AT = 16
# Of the latest projections, how many may fall on a slot that shows another angle before cells are halved.
_RECENT, _CROWDED = 64, 16
_OTHER_ANGLE = 0.25  # of a cell
# Going to and fro brings an angle again after two half turns at the latest, and lost frames later still.
_LONGEST_AWAY = 2.5  # windows
_LEAST_STEP_DEG = 1e-3


@dataclass(frozen=True)
class Entry:
    """What a slot holds: angle as measured, in degrees, and the frame's number; ``cell`` of the half turn.

    ``crowding``: it pushed out another angle, still young, from its cell.
    """

    slot: int
    angle_deg: float
    number: int
    order: int
    cell: int
    crowding: bool = False


class AngularRing:
    """Slots for a window of ``turns``, at most ``slots`` of them, ``spare`` more to store into meanwhile.

    A window of half turns keeps, for each angle, as many projections as it has half turns, the newest;
    those at angles that are not seen any more leave some windows later. Of a window that is no whole number
    of half turns, projections leave when so many newer ones have come as the window has steps. No array is
    held here; ``place`` says where to store, and what leaves.
    """

    def __init__(self, slots: int, spare: int, turns: float, step_deg: float | None = None) -> None:
        self._capacity, self._told = slots, step_deg
        self._turns = turns
        self._free = deque(range(slots + spare))
        self._leaving: list[int] = []
        self._entries: dict[int, Entry] = {}
        self._cells: dict[int, list[Entry]] = {}
        self._order = 0
        self._origin = 0.0
        self._window: Window | None = None
        self._early: list[float] = []
        self._crowded: deque[bool] = deque(maxlen=_RECENT)
        self._step = self._legal(step_deg or HALF_TURN_DEG / slots)

    @property
    def step_deg(self) -> float:
        """Width of a cell: projections closer than this replace each other."""
        return self._step

    @property
    def layers(self) -> int:
        """Projections kept of each angle."""
        return max(1, int(np.ceil(2 * self._turns - 1e-6)))

    @property
    def longest_life(self) -> int:
        """Newer projections after which one leaves, where none at its own angle has replaced it."""
        halves = 2 * self._turns
        whole = abs(halves - round(halves)) < 1e-6 and halves > 0.5
        windows = _LONGEST_AWAY if whole else 1.0
        return max(1, round(windows * halves * HALF_TURN_DEG / self._step))

    @property
    def can_take(self) -> int:
        """Projections that can be placed before ``release`` must be called."""
        return len(self._free)

    def __len__(self) -> int:
        return len(self._entries)

    def place(self, angle_deg: float, number: int) -> tuple[Entry, Entry | None]:
        """Give the slot for a projection, and the entry it takes the place of, if any.

        What left the window still is in its slot until ``release``. Raises ValueError for an angle that is no
        number, and where no slot is free.
        """
        if not np.isfinite(angle_deg):
            raise ValueError(f"a projection without an angle ({angle_deg}) has no place")
        if not self._free:
            raise ValueError("no slot is free: release those that left")
        self._window = None
        self._learn(angle_deg)
        self._order += 1
        cell = self._cell(angle_deg)
        here = self._cells.setdefault(cell, [])
        replaced = min(here, key=lambda entry: entry.order) if len(here) >= self.layers else None
        crowding = self._crowds(angle_deg, replaced)
        self._crowded.append(crowding and replaced is not None and self._is_no_move(replaced))
        if replaced is None and len(self._entries) >= self._capacity:
            replaced = min(self._entries.values(), key=lambda entry: entry.order)
        if replaced is not None:
            self._retire(replaced)
        entry = Entry(self._free.popleft(), float(angle_deg), number, self._order, cell, crowding)
        self._entries[entry.slot] = entry
        self._cells.setdefault(cell, []).append(entry)
        self._retire_old()
        self._refine()
        return entry, replaced

    def release(self) -> None:
        """Free the slots of what left the window, once nothing holds their projections any more."""
        # Used last, used first: memory that was never touched stays so.
        self._free.extendleft(self._leaving)
        self._leaving.clear()

    def reshape(self, turns: float, step_deg: float | None) -> None:
        """Change the window; what is kept stays where it fits."""
        self._turns, self._told, self._window = turns, step_deg, None
        self._rearrange(self._legal(step_deg or self._step))

    def window(self) -> Window:
        """Give what is kept, with weights by the angles' gaps."""
        if self._window is None:
            entries = list(self._entries.values())
            angles = np.array([entry.angle_deg for entry in entries], np.float64)
            slots = np.array([entry.slot for entry in entries], np.int64)
            self._window = Window(slots, angles, angular_weights(angles))
        return self._window

    def coverage_deg(self) -> float:
        """Give how much of the half turn is seen."""
        return coverage_deg(self.window().weight) if self._entries else 0.0

    def entries(self) -> list[Entry]:
        """Give what is kept, oldest first."""
        return sorted(self._entries.values(), key=lambda entry: entry.order)

    def opposite(self, angle_deg: float) -> Entry | None:
        """Find the entry nearest to half a turn from an angle, within one and a half steps."""

        def off(entry: Entry) -> float:
            turned = (entry.angle_deg - angle_deg - HALF_TURN_DEG) % (2 * HALF_TURN_DEG)
            return min(turned, 2 * HALF_TURN_DEG - turned)

        # An opposite projection lies in the same cell, or beside it.
        cells, cell = round(HALF_TURN_DEG / self._step), self._cell(angle_deg)
        around = {(cell + side) % cells for side in range(-2, 3)}
        near = [entry for place in around for entry in self._cells.get(place, ())]
        best = min(near, key=off, default=None)
        return best if best is not None and off(best) <= 1.5 * self._step else None

    def _legal(self, step_deg: float) -> float:
        """Give a cell that divides the half turn and for which there are slots."""
        finest = HALF_TURN_DEG * self.layers / self._capacity
        cells = max(1, round(HALF_TURN_DEG / max(step_deg, min(finest, HALF_TURN_DEG), _LEAST_STEP_DEG)))
        return HALF_TURN_DEG / cells

    def _cell(self, angle_deg: float) -> int:
        cells = round(HALF_TURN_DEG / self._step)
        return round((angle_deg - self._origin) % HALF_TURN_DEG / self._step) % cells

    def _learn(self, angle_deg: float) -> None:
        """Take the usual step between successive angles, where none was told, from the first projections."""
        if self._told is not None or len(self._early) >= _LOOKED_AT:
            return
        if not self._early:
            self._origin = angle_deg
        self._early.append(angle_deg)
        if len(self._early) == _LOOKED_AT:
            steps = np.abs(np.diff(self._early)) % HALF_TURN_DEG
            steps = np.minimum(steps, HALF_TURN_DEG - steps)
            usual = float(np.median(steps))
            if usual > _LEAST_STEP_DEG:
                self._rearrange(self._legal(usual))

    def _crowds(self, angle_deg: float, replaced: Entry | None) -> bool:
        """Tell whether a projection pushes out another angle that is not older than a window."""
        if replaced is None or self._told is not None:
            return False
        off = abs(angle_deg - replaced.angle_deg) % HALF_TURN_DEG
        other = min(off, HALF_TURN_DEG - off) > _OTHER_ANGLE * self._step
        return other and self._order - replaced.order < self.layers * HALF_TURN_DEG / self._step

    def _is_no_move(self, replaced: Entry) -> bool:
        """Tell whether a cell is too wide: angles that moved on as a whole push out old ones, and once."""
        young = self._order - replaced.order < self.layers * HALF_TURN_DEG / self._step / 2
        return young or replaced.crowding

    def _refine(self) -> None:
        """Halve the cells where angles lie closer than they are wide, as interlaced ones do."""
        if sum(self._crowded) < _CROWDED:
            return
        self._crowded.clear()
        finer = self._legal(self._step / 2)
        if finer < 0.75 * self._step:
            self._rearrange(finer)

    def _rearrange(self, step_deg: float) -> None:
        """Sort what is kept into new cells, the newest of each staying."""
        self._step = step_deg
        kept, self._cells, self._entries = self.entries(), {}, {}
        for entry in kept:
            moved = replace(entry, cell=self._cell(entry.angle_deg), crowding=False)
            here = self._cells.setdefault(moved.cell, [])
            here.append(moved)
            self._entries[moved.slot] = moved
            if len(here) > self.layers:
                self._retire(here[0])
        self._retire_old()

    def _retire(self, entry: Entry) -> None:
        del self._entries[entry.slot]
        self._cells[entry.cell].remove(entry)
        self._leaving.append(entry.slot)

    def _retire_old(self) -> None:
        # Entries stand in the order in which they came.
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if self._order - oldest.order < self.longest_life:
                return
            self._retire(oldest)
