"""Alignment of a tilt series without markers: from nominal angles to a geometry and its errors."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_axis import LevelSearch, scan_axis, search_level, search_thickness
from tomofly.imaging.tilt_coarse import LEAST_PEAK_SIGMA, align_coarsely, fill_shifts
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_preparation import PreparedTilts, prepare_tilts
from tomofly.imaging.tilt_refinement import (
    Refinement,
    SlabState,
    neighbour_correlation,
    refine_shifts,
    shift_errors,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Axis and level are searched on small images, shifts at last on larger ones; sides in pixels.
_SEARCH_SIDE, _FINAL_SIDE = 208, 512
_THICKNESSES_ANGSTROM = (400.0, 800.0, 1500.0, 2500.0, 4000.0)
# Fewer tilts than these, or a smaller range of angles, do not tell axis and level.
_LEAST_TILTS, _LEAST_RANGE_DEG = 7, 24.0
# The axis is searched this many times its uncertainty away, within bounds in degrees.
_AXIS_REACH_SIGMA, _AXIS_REACH_DEG = 4.0, (2.0, 90.0)
# Sweeps over axis and level, by the highest frequency in cycles per pixel of the small images.
_SWEEPS = (0.15, 0.15, 0.3, 0.3)
_FINEST_ANGSTROM = 45.0
# A tilt with this many times the noise of the others shows something else, or nothing.
_HOPELESS_NOISE = 60.0
# On simulated series shifts err this many times more than the curvature of the likelihood promises:
# matter in particles is less even than the model's.
_ERROR_SCALE = 1.5


@dataclass(frozen=True)
class LocalDeformation:
    """Smooth movement on top of the global alignment.

    ``centre_zyx_px`` (patch, 3): centred positions in the specimen, pixels of the given images;
    ``shift_yx_px`` (tilt, patch, 2): what must be applied to the image there, on top of the global shift.
    """

    centre_zyx_px: FloatArray
    shift_yx_px: FloatArray


@dataclass(frozen=True)
class TiltAlignment:
    """A tilt series in place, in pixels of the images that were given; whatever was not measured is NaN.

    ``geometry``: with the tilt offset in its angles, the levelling rotation and the shifts to apply.
    ``used`` (tilt,): False where an image had no content or could not be aligned; its shift is then that of
    its neighbours. ``shift_uncertainty_yx_px`` (tilt, 2): standard deviations. ``residual_angstrom`` (tilt,):
    median distance of patches from where the model has them. ``neighbour_ncc`` (tilt,): correlation with the
    used neighbour nearest in angle, and ``ncc_at_deg``: its mean near |tilt| = 0, 20, 40 and 60 degrees.
    ``leave_one_out_angstrom``: error at patches that the bundle fit has not seen. ``flags``: fallbacks.

    An axis turned by 180° with all tilts reversed is the same geometry, and turned alone is that of a
    mirrored specimen: images do not tell these apart. The axis is given within 90° of the nominal one.
    """

    geometry: TiltGeometry
    used: BoolArray
    shift_uncertainty_yx_px: FloatArray
    residual_angstrom: FloatArray
    neighbour_ncc: FloatArray
    ncc_at_deg: dict[int, float]
    axis_angle_deg: float
    axis_uncertainty_deg: float
    tilt_offset_deg: float
    tilt_offset_uncertainty_deg: float
    x_tilt_uncertainty_deg: float
    leave_one_out_angstrom: float
    local: LocalDeformation | None
    flags: tuple[str, ...]


def align_tilt_series(
    images: npt.ArrayLike,
    tilt_angle_deg: npt.ArrayLike,
    axis_angle_deg: float,
    *,
    pixel_size_angstrom: float,
    axis_prior_sigma_deg: float = 3.0,
    largest_shift_part: float = 0.3,
    threads: int = 1,
) -> TiltAlignment:
    """Align images (tilt, y, x) of nominal angles in degrees, in any order.

    ``axis_angle_deg``: expected direction of the tilt axis, anticlockwise from the image's y axis, right
    within ``axis_prior_sigma_deg``. Shifts are searched up to ``largest_shift_part`` of an image's sides.
    Raises ValueError for images and angles that do not belong together.
    """
    stack, tilts = np.asarray(images), np.asarray(tilt_angle_deg, dtype=np.float64)
    if tilts.shape != stack.shape[:1] or not np.all(np.isfinite(tilts)):
        raise ValueError(f"{len(stack)} images need as many finite tilt angles, not {tilts.shape}")
    small = prepare_tilts(stack, largest_side=_SEARCH_SIDE, threads=threads)
    start = nominal_geometry(tilts, axis_angle_deg)
    coarse = align_coarsely(
        small.images, start, small.has_content, largest_shift_part=largest_shift_part, threads=threads
    )
    used = small.has_content & (coarse.peak_sigma >= LEAST_PEAK_SIGMA)
    flags = () if used.all() else ("tilts_left_out",)
    if used.sum() < 2:
        return _unaligned(
            start, used, (*flags, "nothing_to_align", "nominal_axis_kept", "level_not_measured")
        )
    found = _Found(
        small.images[used], coarse.geometry.subset(used), pixel_size_angstrom * small.binning, threads
    )
    reach = float(np.clip(_AXIS_REACH_SIGMA * axis_prior_sigma_deg, *_AXIS_REACH_DEG))
    level = None
    state = found.first_state()
    if used.sum() >= _LEAST_TILTS and np.ptp(tilts[used]) >= _LEAST_RANGE_DEG:
        state, level = found.levelled(state, axis_prior_sigma_deg, reach)
    else:
        flags = (*flags, "few_tilts", "nominal_axis_kept", "level_not_measured")
    large = prepare_tilts(stack[used], largest_side=_FINAL_SIDE, threads=threads)
    refined = _refined(large, state.binned(large.binning / small.binning), pixel_size_angstrom, threads)
    return _assembled(refined, level, (start, used, large.binning), flags)


@dataclass(frozen=True)
class _Found:
    """The usable small images, where the coarse alignment has them, and their pixel size."""

    images: npt.NDArray[np.float32]
    coarse: TiltGeometry
    pixel_size_angstrom: float
    threads: int

    def first_state(self) -> SlabState:
        """Choose a thickness and refine the shifts at low frequencies."""
        candidates = np.array(_THICKNESSES_ANGSTROM) / self.pixel_size_angstrom
        state = SlabState(self.coarse, float(np.median(candidates)), np.ones(len(self.coarse)))
        state = refine_shifts(self.images, state, highest=0.06, rounds=4, threads=self.threads).state
        return search_thickness(self.images, state, candidates, highest=0.1, threads=self.threads)

    def levelled(
        self, state: SlabState, axis_sigma_deg: float, reach_deg: float
    ) -> tuple[SlabState, LevelSearch]:
        """Find the axis, align again with it, and search axis, offset, x-tilt and thickness finely."""
        state, turn = scan_axis(
            self.images, state, axis_sigma_deg, reach_deg, highest=0.1, threads=self.threads
        )
        again = replace(state.geometry, shift_yx_px=self.coarse.shift_yx_px)
        every = np.ones(len(again), dtype=bool)
        coarse = align_coarsely(self.images, again, every, threads=self.threads)
        state = replace(state, geometry=coarse.geometry)
        for highest in (0.06, 0.12):
            state = refine_shifts(self.images, state, highest=highest, rounds=4, threads=self.threads).state
        level = search_level(self.images, state, turn, axis_sigma_deg, highest=_SWEEPS, threads=self.threads)
        return level.state, level


def _refined(large: PreparedTilts, state: SlabState, pixel_size_angstrom: float, threads: int) -> Refinement:
    highest = float(np.clip(pixel_size_angstrom * large.binning / _FINEST_ANGSTROM, 0.05, 0.3))
    return refine_shifts(large.images, state, highest=highest, rounds=3, threads=threads)


def _assembled(
    refined: Refinement,
    level: LevelSearch | None,
    given: tuple[TiltGeometry, BoolArray, float],
    flags: tuple[str, ...],
) -> TiltAlignment:
    """Bring what was found of the used tilts into the order and the pixels of all tilts given."""
    start, used, binning = given
    value, sigma = (level.value, level.sigma) if level else ({}, {})
    geometry = refined.state.geometry
    error = _with_level_errors(_ERROR_SCALE * shift_errors(refined), level, geometry)
    hopeless = refined.state.tilt_noise >= _HOPELESS_NOISE
    if hopeless.any():
        flags = (*flags, "tilts_not_aligned")
    good = used.copy()
    good[used] = ~hopeless
    whole = replace(
        start,
        tilt_angle_deg=start.tilt_angle_deg + value.get("offset", 0.0),
        axis_angle_deg=start.axis_angle_deg + value.get("axis", 0.0),
        shift_yx_px=_spread(geometry.shift_yx_px * binning, used),
        x_tilt_deg=geometry.x_tilt_deg,
    )
    ncc = _spread(neighbour_correlation(refined), used)
    return TiltAlignment(
        geometry=fill_shifts(whole, good),
        used=good,
        shift_uncertainty_yx_px=_spread(error * binning, used),
        residual_angstrom=np.full(len(used), np.nan),
        neighbour_ncc=ncc,
        ncc_at_deg=_ncc_at(start.tilt_angle_deg, ncc),
        axis_angle_deg=float(whole.axis_angle_deg[0]),
        axis_uncertainty_deg=float(sigma.get("axis", np.nan)),
        tilt_offset_deg=float(value.get("offset", 0.0)),
        tilt_offset_uncertainty_deg=float(sigma.get("offset", np.nan)),
        x_tilt_uncertainty_deg=float(sigma.get("x_tilt", np.nan)),
        leave_one_out_angstrom=np.nan,
        local=None,
        flags=flags,
    )


def _with_level_errors(error: FloatArray, level: LevelSearch | None, geometry: TiltGeometry) -> FloatArray:
    """Add to the errors of the shifts what they owe to those of axis, offset and x-tilt.

    A slope is measured on small images, whose shifts are turned into those of large ones by the ratio of the
    two shifts' sizes; a common movement of the specimen is no error.
    """
    if level is None:
        return error
    scale = _scale(level.state.geometry, geometry)
    whole = geometry.rotations()[:, 1::-1, :].reshape(-1, 3)
    free = np.eye(len(whole)) - whole @ np.linalg.pinv(whole)
    variance = error**2
    for name, slope in level.shift_slope.items():
        if isinstance(slope, np.ndarray) and np.isfinite(level.sigma[name]):
            moved = (free @ slope.ravel()).reshape(-1, 2) * scale * level.sigma[name]
            variance = variance + moved**2
    return np.asarray(np.sqrt(variance))


def _scale(small: TiltGeometry, large: TiltGeometry) -> float:
    """Give how many pixels of the large images one of the small ones spans, from the shifts of both."""
    power = float(np.sum(small.shift_yx_px**2))
    return float(np.sum(small.shift_yx_px * large.shift_yx_px)) / power if power > 0 else 1.0


def _spread(values: FloatArray, used: BoolArray) -> FloatArray:
    """Put values of the used tilts in their places, NaN elsewhere."""
    spread = np.full((len(used), *values.shape[1:]), np.nan)
    spread[used] = values
    return spread


def _ncc_at(tilt_deg: FloatArray, ncc: FloatArray) -> dict[int, float]:
    """Give the mean correlation within five degrees of |tilt| = 0, 20, 40 and 60, NaN where none is."""
    found = {}
    for angle in (0, 20, 40, 60):
        near = ncc[np.abs(np.abs(tilt_deg) - angle) <= 5.0]
        known = near[np.isfinite(near)]
        found[angle] = float(known.mean()) if len(known) else np.nan
    return found


def _unaligned(start: TiltGeometry, used: BoolArray, flags: tuple[str, ...]) -> TiltAlignment:
    unknown = np.full(len(used), np.nan)
    return TiltAlignment(
        geometry=start,
        used=used,
        shift_uncertainty_yx_px=np.full((len(used), 2), np.nan),
        residual_angstrom=unknown,
        neighbour_ncc=unknown,
        ncc_at_deg=dict.fromkeys((0, 20, 40, 60), np.nan),
        axis_angle_deg=float(start.axis_angle_deg[0]),
        axis_uncertainty_deg=np.nan,
        tilt_offset_deg=0.0,
        tilt_offset_uncertainty_deg=np.nan,
        x_tilt_uncertainty_deg=np.nan,
        leave_one_out_angstrom=np.nan,
        local=None,
        flags=flags,
    )
