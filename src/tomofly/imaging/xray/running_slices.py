"""Slices that follow a moving window: what is new is added, and exactly what a slot held is taken away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.backend import PlaneSums, RingBackend
from tomofly.imaging.xray.filters import FilterName
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.slices import Line, Views

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A weight that changed by less than this fraction stays as it was: angles read from an encoder jitter.
WEIGHT_TOLERANCE = 0.02
_PIECES = 4  # of a full sum, between which it may be given up


@dataclass(frozen=True)
class SlicePlan:
    """What to reconstruct: vertical planes, the tilted plane where the horizontal one is tilted, and how."""

    lines: Sequence[Line]
    plane: TiltedPlane | None
    filter_name: FilterName
    centre: float
    size: int


@dataclass(frozen=True, eq=False)
class Window:
    """The projections a slice is to be made of: slots, angles in degrees, weights in radians."""

    slots: IntArray
    angle_deg: Float64Array
    weight: Float64Array

    def part(self, chosen: IntArray) -> "Window":
        """Give some of the projections, with their weights as they are."""
        return Window(self.slots[chosen], self.angle_deg[chosen], self.weight[chosen])

    def views(self, plan: SlicePlan, chosen: IntArray | slice = slice(None)) -> Views:
        """Give the projections, or some of them, as views of a plan."""
        return Views(self.slots[chosen], self.angle_deg[chosen], self.weight[chosen], plan.centre, plan.size)


class RunningSlices:
    """Sums of one plan over a window that moves on.

    Of each slot, what the sums hold is remembered: angle and weight. The sums thus never drift, whatever the
    order in which projections come and go.
    """

    def __init__(self, backend: RingBackend, plan: SlicePlan) -> None:
        self.plan = plan
        self._backend = backend
        self._sums: PlaneSums = self._empty()
        self._angle = np.zeros(backend.shape.slots)
        self._weight = np.zeros(backend.shape.slots)

    def _empty(self) -> PlaneSums:
        return self._backend.sums(self.plan.lines, self.plan.plane, self.plan.filter_name, self.plan.size)

    def fill(self, window: Window, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Sum the whole window anew; False where ``given_up`` said so in between, and nothing holds."""
        self._sums = self._empty()
        self._weight[:] = 0
        for piece in np.array_split(np.arange(len(window.slots)), _PIECES):
            if given_up():
                return False
            self._backend.add(self._sums, window.views(self.plan, piece))
        self._hold(window)
        return True

    def move(self, window: Window) -> None:
        """Bring the sums to a window, touching only what changed.

        A slot whose content changes must have left the window, by a move, before it is stored anew.
        """
        wanted_weight, wanted_angle = np.zeros_like(self._weight), self._angle.copy()
        wanted_weight[window.slots], wanted_angle[window.slots] = window.weight, window.angle_deg
        held = self._weight
        moved = (wanted_angle != self._angle) & (held != 0)
        off = np.abs(wanted_weight - held) > WEIGHT_TOLERANCE * np.maximum(wanted_weight, held)
        # At the same angle the difference of weights is added; at another all is taken away first.
        gone, changed = np.flatnonzero(moved), np.flatnonzero(off | moved)
        before = np.where(moved, 0.0, held)
        slots = np.concatenate([gone, changed])
        if not len(slots):
            return
        angles = np.concatenate([self._angle[gone], wanted_angle[changed]])
        weights = np.concatenate([-held[gone], (wanted_weight - before)[changed]])
        self._backend.add(self._sums, Views(slots, angles, weights, self.plan.centre, self.plan.size))
        self._angle[changed], self._weight[changed] = wanted_angle[changed], wanted_weight[changed]

    def _hold(self, window: Window) -> None:
        self._angle[window.slots], self._weight[window.slots] = window.angle_deg, window.weight

    def planes(self) -> list[npt.NDArray[np.float32]]:
        """Give the vertical planes (z, t), float32."""
        return self._backend.planes(self._sums)

    def tilted(self) -> npt.NDArray[np.float32]:
        """Give the tilted plane (y, x), float32; only where the plan has one."""
        return self._backend.tilted(self._sums)


class RunningLevel:
    """A horizontal slice that follows a window, where a sum anew is dearer than some projections in and out.

    All that was in the window at first is summed through Fourier space, as long as any of it is left; what
    came since is summed directly, and at each step some of the first projections change over. Both ways give
    the same but for the tolerance of the first.
    """

    def __init__(self, backend: RingBackend, plan: SlicePlan, row: int, window: Window) -> None:
        plane = TiltedPlane(row, 0.0, backend.shape.rows)
        self._backend, self._row = backend, row
        self._direct = RunningSlices(backend, replace(plan, lines=(), plane=plane))
        self._first_angle = np.full(backend.shape.slots, np.nan)
        self._first_angle[window.slots] = window.angle_deg

    def image(self, window: Window, *, change_over: int = 16) -> npt.NDArray[np.float32]:
        """Give the slice (y, x), float32, of a window, once sums have moved to it."""
        first = np.flatnonzero(self._first_angle[window.slots] == window.angle_deg)
        going, staying = first[:change_over], first[change_over:]
        self._first_angle[window.slots[going]] = np.nan
        others = np.setdiff1d(np.arange(len(window.slots)), staying)
        self._direct.move(window.part(others))
        image = self._direct.tilted()
        if len(staying):
            views = window.part(staying).views(self._direct.plan)
            image = image + self._backend.level(self._row, self._direct.plan.filter_name, views)
        return image
