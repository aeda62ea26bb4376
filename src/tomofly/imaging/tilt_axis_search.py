"""A first look at a tilt series: coarse shifts on small images, and the direction of the tilt axis."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_axis import scan_axis, search_level, search_thickness
from tomofly.imaging.tilt_coarse import LEAST_PEAK_SIGMA, align_coarsely
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_preparation import PreparedTilts, prepare_tilts
from tomofly.imaging.tilt_refinement import SlabState, refine_shifts

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Axis and level are searched on small images; the longer side in pixels.
SEARCH_SIDE = 208
_THICKNESSES_ANGSTROM = (400.0, 800.0, 1500.0, 2500.0, 4000.0)
# Fewer tilts than these, or a smaller range of angles, do not tell axis and level.
_LEAST_TILTS, _LEAST_RANGE_DEG = 7, 24.0
# The axis is searched this many times its uncertainty away, within bounds in degrees.
_AXIS_REACH_SIGMA, _AXIS_REACH_DEG = 4.0, (2.0, 90.0)
# Highest frequencies, cycles per pixel of the small images.
_SCANNED, _CLIMBED = 0.1, 0.15


@dataclass(frozen=True)
class AxisSearch:
    """Where a first look has a series, in pixels of the images given.

    ``geometry``: of all tilts, nominal in their angles. ``used`` (tilt,): what could be followed.
    ``axis_uncertainty_deg`` is NaN where the images do not tell the axis, which is then the expected one.
    ``flags``: "tilts_left_out", "nothing_to_align", "few_tilts", "nominal_axis_kept".
    """

    geometry: TiltGeometry
    used: BoolArray
    thickness_px: float
    axis_uncertainty_deg: float
    flags: tuple[str, ...]

    @property
    def axis_angle_deg(self) -> float:
        """The tilt axis, anticlockwise from the image's y axis, within 90° of the expected one."""
        return float(self.geometry.axis_angle_deg[0])

    @property
    def tells_level(self) -> bool:
        """Whether there are enough tilts, over a range large enough, to search axis and level."""
        return tells_level(self.geometry.tilt_angle_deg[self.used])


def tells_level(tilt_angle_deg: FloatArray) -> bool:
    """Say whether tilts are enough, over a range large enough, to tell axis and level."""
    return len(tilt_angle_deg) >= _LEAST_TILTS and bool(np.ptp(tilt_angle_deg) >= _LEAST_RANGE_DEG)


def search_axis(
    images: npt.ArrayLike,
    tilt_angle_deg: npt.ArrayLike,
    axis_angle_deg: float,
    *,
    pixel_size_angstrom: float,
    axis_prior_sigma_deg: float = 3.0,
    largest_shift_part: float = 0.3,
    threads: int = 1,
) -> AxisSearch:
    """Align images (tilt, y, x) coarsely about an axis that is searched, and about no level yet.

    ``axis_angle_deg``: expected direction of the tilt axis, right within ``axis_prior_sigma_deg``; 90 stands
    for unknown. Shifts are searched up to ``largest_shift_part`` of an image's sides. Raises ValueError for
    images and angles that do not belong together.
    """
    stack, tilts = np.asarray(images), np.asarray(tilt_angle_deg, dtype=np.float64)
    if tilts.shape != stack.shape[:1] or not np.all(np.isfinite(tilts)):
        raise ValueError(f"{len(stack)} images need as many finite tilt angles, not {tilts.shape}")
    small = prepare_tilts(stack, largest_side=SEARCH_SIDE, threads=threads)
    look = _Look(small, pixel_size_angstrom * small.binning, largest_shift_part, threads)
    geometry, used = look.aligned(nominal_geometry(tilts, axis_angle_deg))
    if used.sum() < 2:
        flags = (*_left_out(used), "nothing_to_align", "nominal_axis_kept", "level_not_measured")
        return AxisSearch(nominal_geometry(tilts, axis_angle_deg), used, np.nan, np.nan, flags)
    state = look.first_state(geometry, used)
    if not tells_level(tilts[used]):
        flags = (*_left_out(used), "few_tilts", "nominal_axis_kept", "level_not_measured")
        thickness = state.thickness_px * small.binning
        return AxisSearch(geometry.binned(1 / small.binning), used, thickness, np.nan, flags)
    reach = float(np.clip(_AXIS_REACH_SIGMA * axis_prior_sigma_deg, *_AXIS_REACH_DEG))
    state, axis, sigma = look.axis(state, used, axis_prior_sigma_deg, reach)
    turned = replace(geometry, axis_angle_deg=np.full(len(tilts), axis_angle_deg + axis))
    geometry, used = look.aligned(turned)
    thickness = state.thickness_px * small.binning
    return AxisSearch(geometry.binned(1 / small.binning), used, thickness, sigma, _left_out(used))


def _left_out(used: BoolArray) -> tuple[str, ...]:
    return () if used.all() else ("tilts_left_out",)


@dataclass(frozen=True)
class _Look:
    """The small images, their pixel size, and how far shifts are looked for."""

    small: PreparedTilts
    pixel_size_angstrom: float
    largest_shift_part: float
    threads: int

    def aligned(self, start: TiltGeometry) -> tuple[TiltGeometry, BoolArray]:
        """Align all images that hold anything, and say which of them could be followed."""
        coarse = align_coarsely(
            self.small.images,
            start,
            self.small.has_content,
            largest_shift_part=self.largest_shift_part,
            threads=self.threads,
        )
        return coarse.geometry, self.small.has_content & (coarse.peak_sigma >= LEAST_PEAK_SIGMA)

    def first_state(self, geometry: TiltGeometry, used: BoolArray) -> SlabState:
        """Choose a thickness and refine the shifts at low frequencies."""
        images = self.small.images[used]
        candidates = np.array(_THICKNESSES_ANGSTROM) / self.pixel_size_angstrom
        state = SlabState(geometry.subset(used), float(np.median(candidates)), np.ones(int(used.sum())))
        state = refine_shifts(images, state, highest=0.06, rounds=4, threads=self.threads).state
        return search_thickness(images, state, candidates, highest=0.1, threads=self.threads)

    def axis(
        self, state: SlabState, used: BoolArray, sigma_deg: float, reach_deg: float
    ) -> tuple[SlabState, float, float]:
        """Find the axis: the state about it, by how much it turned, and its uncertainty."""
        images = self.small.images[used]
        state, turn = scan_axis(images, state, sigma_deg, reach_deg, highest=_SCANNED, threads=self.threads)
        found = search_level(
            images, state, turn, sigma_deg, highest=(_CLIMBED,), names=("axis",), threads=self.threads
        )
        return found.state, found.value["axis"], found.sigma["axis"]
