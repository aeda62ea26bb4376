"""The ring and the slices out of it, without threads of its own: what the live reconstruction runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.angular_weights import angular_weights
from tomofly.imaging.xray.backend import Choice, RingBackend, RingShape, open_backend
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.preview import bin_columns, preview_volume
from tomofly.imaging.xray.rotation_centre import CentreEstimate, agreed_centre, centre_from_pair
from tomofly.imaging.xray.running_slices import RunningLevel, RunningSlices, SlicePlan
from tomofly.imaging.xray.slices import Views, plane_line
from tomofly.live.frames import Frame
from tomofly.live.parameters import WINDOW, LiveParameters
from tomofly.live.ring import HALF_TURN_DEG, AngularRing, Entry

FloatArray = NDArray[np.float32]

# Projections that are stored before the slices follow.
BATCH = 16
# A coarse answer uses so many projections at most: for 1024 × 1024 pixels 30 ms of back-projection.
_COARSE_VIEWS = 225
# Rows of a pair looked at for the centre, and pairs that are agreed upon.
_CENTRE_ROWS, _CENTRE_PAIRS = 128, 9
# A found centre is not followed over less than this many columns: each step costs a full sum.
_CENTRE_STEP = 0.15
# Projections of a preview: streaks are finer than its voxels.
_PREVIEW_VIEWS = 90


@dataclass(frozen=True)
class Room:
    """How much memory the ring may take, how many slots at most, on what, and by how many threads.

    ``memory``: taken beforehand, flat, float32, for rings to lie in where it is large enough for them.
    """

    memory_bytes: int = 6 * 2**30
    most_slots: int = 4096
    backend: Choice = "auto"
    threads: int = 2
    half: bool = False
    memory: FloatArray | None = field(default=None, compare=False, repr=False)

    def shape(self, rows: int, columns: int) -> RingShape:
        """Give the ring for a detector; at least two batches of slots, whatever the memory."""
        one = RingShape(rows, columns, 1).size_bytes
        slots = min(self.most_slots, self.memory_bytes // one)
        return RingShape(rows, columns, max(2 * BATCH, slots))


@dataclass(frozen=True, eq=False)
class Images:
    """Slices z (y, x), y (z, x) and x (z, y) per pixel, float32."""

    z: FloatArray
    y: FloatArray
    x: FloatArray


class LiveSlicer:
    """A ring for one size of detector, and running slices of one plan at a time."""

    def __init__(self, rows: int, columns: int, parameters: LiveParameters, room: Room) -> None:
        self.shape = room.shape(rows, columns)
        self.backend: RingBackend = open_backend(
            room.backend, self.shape, threads=room.threads, half=room.half, memory=room.memory
        )
        self._threads = room.threads
        self._parameters = parameters
        self.ring = AngularRing(
            self.shape.slots - BATCH, BATCH, parameters.window_turns, parameters.angular_step_deg
        )
        self._running: RunningSlices | None = None
        self._level: RunningLevel | None = None
        self._centres: list[CentreEstimate] = []
        self._taken_centre: float | None = None
        self._since_centre = 0
        self._made_with = np.full(self.shape.slots, -1)
        self.newest: Frame | None = None

    def set(self, parameters: LiveParameters) -> None:
        """Take new parameters; ``full`` puts them into effect."""
        if any(getattr(parameters, name) != getattr(self._parameters, name) for name in WINDOW):
            self.ring.reshape(parameters.window_turns, parameters.angular_step_deg)
        self._parameters = parameters

    @property
    def centre(self) -> float:
        """The centre in use: as set, or found where that is wanted, or the middle of the detector."""
        wanted = self._parameters
        if wanted.auto_centre and self._taken_centre is not None:
            return self._taken_centre
        return (self.shape.columns - 1) / 2 if wanted.centre is None else wanted.centre

    @property
    def found_centre(self) -> CentreEstimate | None:
        """The centre that pairs of projections agree upon; None before the first."""
        return agreed_centre(self._centres) if self._centres else None

    @property
    def ortho_xyz(self) -> tuple[int, int, int]:
        """Positions of the slices in use."""
        wanted = self._parameters
        x, y, z = wanted.ortho_x, wanted.ortho_y, wanted.ortho_z
        middle = self.shape.columns // 2
        return (
            middle if x is None else x,
            middle if y is None else y,
            self.shape.rows // 2 if z is None else z,
        )

    def accept(self, prepared: list[tuple[Frame, FloatArray]], preparation: int) -> None:
        """Store up to ``BATCH`` projections (z, s) that were prepared alike, and find the centre in pairs."""
        if self._running is None:
            self.ring.release()
        places = []
        for frame, image in prepared:
            pair = self.ring.opposite(frame.angle_deg)
            entry, _ = self.ring.place(frame.angle_deg, frame.number)
            places.append((entry, image, pair))
            self.newest = frame

        def store(index: int) -> None:
            entry, image, _ = places[index]
            self.backend.store(entry.slot, image)

        for_each(store, len(places), self._threads)
        for entry, _, _ in places:
            self._made_with[entry.slot] = preparation
        self._since_centre += len(places)
        if self._since_centre >= len(self.ring) / _CENTRE_PAIRS:
            self._find_centre([(entry, pair) for entry, _, pair in places if pair is not None])

    def _find_centre(self, pairs: list[tuple[Entry, Entry]]) -> None:
        if not pairs:
            return
        self._since_centre = 0
        entry, pair = pairs[-1]
        every = max(1, self.shape.rows // _CENTRE_ROWS)
        projections = (self.backend.projection(one.slot, every) for one in (entry, pair))
        found = centre_from_pair(*projections)
        if found.likeness > 0.2 and np.isfinite(found.centre):
            self._centres = [*self._centres[1 - _CENTRE_PAIRS :], found]
        agreed = self.found_centre
        if agreed is None or not agreed.certain:
            return
        if self._taken_centre is None or abs(agreed.centre - self._taken_centre) > _CENTRE_STEP:
            self._taken_centre = agreed.centre

    def _plan(self) -> SlicePlan:
        wanted, size = self._parameters, self.shape.columns
        x, y, z = self.ortho_xyz
        lines = (plane_line("y", y, wanted.rot_y, size), plane_line("x", x, wanted.rot_x, size))
        plane = TiltedPlane(z, wanted.rot_z, self.shape.rows) if wanted.rot_z else None
        return SlicePlan(lines, plane, wanted.filter, self.centre, size)

    def coarse(self) -> Images:
        """Answer at once, from binned projections and fewer of them."""
        plan, window = self._plan(), self.ring.window()
        order = np.argsort(np.mod(window.angle_deg, HALF_TURN_DEG), kind="stable").astype(np.int64)
        every = max(1, -(-len(order) // _COARSE_VIEWS))
        chosen = order[::every]
        views = window.views(plan, chosen)
        share = window.weight.sum() / max(views.weight.sum(), 1e-12)
        views.weight[:] *= share
        y, x = self.backend.coarse_planes(plan.lines, plan.filter_name, views)
        z = self.backend.level(self.ortho_xyz[2], plan.filter_name, views, coarse=True)
        return Images(z, y, x)

    def full(self, given_up: Callable[[], bool] = lambda: False) -> Images | None:
        """Sum the whole window with the parameters as they are; None where it was given up in between."""
        plan, window = self._plan(), self.ring.window()
        running = RunningSlices(self.backend, plan)
        self._running, self._level = None, None
        if not running.fill(window, given_up):
            return None
        self._running = running
        self.ring.release()
        if plan.plane is not None:
            return self._images(running, running.tilted())
        row = self.ortho_xyz[2]
        if not self.backend.level_is_quick:
            self._level = RunningLevel(self.backend, plan, row, window)
        return self._images(running, self.backend.level(row, plan.filter_name, window.views(plan)))

    def follow(self) -> Images | None:
        """Bring the slices to the window as it now is; None before the first ``full``, or when it must be."""
        running = self._running
        if running is None or running.plan.centre != self.centre:
            return None
        window, plan = self.ring.window(), running.plan
        running.move(window)
        if plan.plane is not None:
            level = running.tilted()
        elif self._level is not None:
            level = self._level.image(window)
        else:
            level = self.backend.level(self.ortho_xyz[2], plan.filter_name, window.views(plan))
        self.ring.release()
        return self._images(running, level)

    def _images(self, running: RunningSlices, level: FloatArray) -> Images:
        y, x = running.planes()
        return Images(level, y, x)

    def preview(self, size: int) -> FloatArray:
        """Give a volume (z, y, x) per pixel, about ``size`` voxels along x, float32, of some projections."""
        window = self.ring.window()
        binning = max(1, self.shape.columns // size)
        order = np.argsort(np.mod(window.angle_deg, HALF_TURN_DEG), kind="stable")
        chosen = order[:: max(1, len(order) // _PREVIEW_VIEWS)]
        weight = angular_weights(window.angle_deg[chosen])
        small = [
            bin_columns(self.backend.projection(int(slot), binning), binning) for slot in window.slots[chosen]
        ]
        views = Views(
            window.slots[chosen], window.angle_deg[chosen], weight, self.centre,
            self.shape.columns // binning, binning,
        )  # fmt: skip
        return preview_volume(np.stack(small), views, threads=self._threads)

    def settled(self, preparation: int) -> float:
        """Give the share of projections that were prepared as they now would be."""
        slots = self.ring.window().slots
        return float(np.mean(self._made_with[slots] == preparation)) if len(slots) else 0.0

    def forget(self, keep: Literal["centres", "nothing"] = "nothing") -> None:
        """Begin with an empty ring; a new sample has another centre, unless that is to be kept."""
        self.ring = AngularRing(
            self.shape.slots - BATCH, BATCH, self._parameters.window_turns, self._parameters.angular_step_deg
        )
        self._running = None
        if keep == "nothing":
            self._centres, self._taken_centre = [], None
