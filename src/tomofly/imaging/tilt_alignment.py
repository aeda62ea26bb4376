"""Alignment of a tilt series without markers: from nominal angles to a geometry and its errors."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_axis import LevelSearch, search_level
from tomofly.imaging.tilt_axis_search import SEARCH_SIDE, AxisSearch, search_axis
from tomofly.imaging.tilt_coarse import fill_shifts
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_local import LocalDeformation
from tomofly.imaging.tilt_patch_fit import (
    PatchFit,
    fit_patches,
    local_deformation,
    patch_residuals,
    residual_of_tilts,
)
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

# Shifts are refined at last on images of this longer side, in pixels.
_FINAL_SIDE = 512
# Sweeps over axis and level, by the highest frequency in cycles per pixel of the small images.
_SWEEPS = (0.15, 0.15, 0.3, 0.3)
_FINEST_ANGSTROM = 45.0
# A first look that lies this many of its expected errors from the expected axis is taken again about that.
_FAR_SIGMA = 4.0
# A tilt with this many times the noise of the others shows something else, or nothing.
_HOPELESS_NOISE = 60.0
# On simulated series shifts err this many times more than the curvature of the likelihood promises:
# matter in particles is less even than the model's.
_ERROR_SCALE = 1.5


@dataclass(frozen=True)
class TiltAlignment:
    """A tilt series in place, in pixels of the images that were given; whatever was not measured is NaN.

    ``geometry``: with the tilt offset in its angles, the levelling rotation and the shifts to apply.
    ``used`` (tilt,): False where an image had no content or could not be aligned; its shift is then that of
    its neighbours. ``shift_uncertainty_yx_px`` (tilt, 2): standard deviations. ``residual_angstrom`` (tilt,):
    median distance of patches from where the geometry has them. ``neighbour_ncc`` (tilt,): correlation with
    the used neighbour nearest in angle, and ``ncc_at_deg``: its mean near |tilt| = 0, 20, 40 and 60 degrees.
    ``leave_one_out_angstrom``: error at views of patches that the bundle fit has not seen. ``local``: what
    moves on top of the geometry, where that was asked for and found. ``flags``: fallbacks.

    An axis turned by 180° with all tilts reversed is the same geometry, and turned alone is that of a
    mirrored specimen, with the depth of every point reversed: images do not tell these apart, but the defocus
    across tilted images does. The axis is given within 90° of the nominal one.
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
    start: AxisSearch | None = None,
    exposure_order: npt.ArrayLike | None = None,
    local: bool = False,
    coarse: bool = False,
    threads: int = 1,
) -> TiltAlignment:
    """Align images (tilt, y, x) of nominal angles in degrees, in any order.

    ``axis_angle_deg``: expected direction of the tilt axis, anticlockwise from the image's y axis, right
    within ``axis_prior_sigma_deg``. Shifts are searched up to ``largest_shift_part`` of an image's sides.
    ``start``: where a first look at these images has them; without one, it is taken here. ``coarse``: refine
    shifts alone, for a preview. ``local``: look for local movement that grows with ``exposure_order``
    (tilt,). Raises ValueError for images and angles that do not belong together.
    """
    stack = np.asarray(images)
    if start is None or _is_far(start, axis_angle_deg, axis_prior_sigma_deg):
        start = search_axis(
            stack,
            tilt_angle_deg,
            axis_angle_deg,
            pixel_size_angstrom=pixel_size_angstrom,
            axis_prior_sigma_deg=axis_prior_sigma_deg,
            largest_shift_part=largest_shift_part,
            threads=threads,
        )
    if start.used.sum() < 2:
        return _unaligned(start)
    used = stack[start.used]
    state, level = SlabState(start.geometry.subset(start.used), start.thickness_px, np.ones(len(used))), None
    if not coarse and np.isfinite(start.axis_uncertainty_deg):
        state, level = _levelled(used, state, axis_angle_deg, axis_prior_sigma_deg, threads)
    large = prepare_tilts(used, largest_side=_FINAL_SIDE, threads=threads)
    fine = _Fine(large, pixel_size_angstrom * large.binning, threads)
    refined, patches = fine.refined(state.binned(large.binning), follow=not coarse)
    found = _assembled(refined, level, patches, (start, fine))
    flags = found.flags if patches or coarse else (*found.flags, "patches_not_followed")
    if not local:
        return replace(found, flags=flags)
    movement = fine.local(patches, refined, start, exposure_order) if patches else None
    flags = flags if movement else (*flags, "local_model_skipped")
    return replace(found, local=movement, flags=flags)


def _is_far(start: AxisSearch, axis_angle_deg: float, sigma_deg: float) -> bool:
    """Say whether a first look found another axis than is expected now."""
    off = (start.axis_angle_deg - axis_angle_deg + 90.0) % 180.0 - 90.0
    return abs(off) > _FAR_SIGMA * sigma_deg


def _levelled(
    images: npt.NDArray[np.generic],
    state: SlabState,
    axis_angle_deg: float,
    axis_sigma_deg: float,
    threads: int,
) -> tuple[SlabState, LevelSearch]:
    """Search axis, offset, x-tilt and thickness finely on small images; give the state in given pixels."""
    small = prepare_tilts(images, largest_side=SEARCH_SIDE, threads=threads)
    state = state.binned(small.binning)
    for highest in (0.06, 0.12):
        state = refine_shifts(small.images, state, highest=highest, rounds=4, threads=threads).state
    turn = (float(state.geometry.axis_angle_deg[0]) - axis_angle_deg + 90.0) % 180.0 - 90.0
    level = search_level(small.images, state, turn, axis_sigma_deg, highest=_SWEEPS, threads=threads)
    slope = {
        name: each * small.binning if isinstance(each, np.ndarray) else each
        for name, each in level.shift_slope.items()
    }
    return level.state.binned(1 / small.binning), replace(level, shift_slope=slope)


@dataclass(frozen=True)
class _Fine:
    """The images on which shifts are refined at last, and their pixel size."""

    images: PreparedTilts
    pixel_size_angstrom: float
    threads: int

    @property
    def highest(self) -> float:
        """The highest frequency used, cycles per pixel."""
        return float(np.clip(self.pixel_size_angstrom / _FINEST_ANGSTROM, 0.05, 0.3))

    def refined(self, state: SlabState, *, follow: bool) -> tuple[Refinement, PatchFit | None]:
        """Refine the shifts, and again about the axis that patches show, where some can be followed."""
        refined = self._shifts(state, 3)
        if not follow:
            return refined, None
        patches = fit_patches(
            self.images.images,
            refined.state,
            self.pixel_size_angstrom,
            highest=self.highest,
            threads=self.threads,
        )
        if patches is None:
            return refined, None
        return self._shifts(replace(refined.state, geometry=patches.bundle.geometry), 2), patches

    def _shifts(self, state: SlabState, rounds: int) -> Refinement:
        return refine_shifts(
            self.images.images, state, highest=self.highest, rounds=rounds, threads=self.threads
        )

    def local(
        self,
        patches: PatchFit,
        refined: Refinement,
        start: AxisSearch,
        exposure_order: npt.ArrayLike | None,
    ) -> LocalDeformation | None:
        """Give the local movement in pixels of the images given, of all tilts."""
        if exposure_order is None:
            raise ValueError("local movement is looked for in the order of exposure, which is not given")
        order = np.asarray(exposure_order, dtype=np.float64)[start.used]
        shape = (self.images.images.shape[1], self.images.images.shape[2])
        found = local_deformation(patches, refined.state.geometry, order, shape)
        if found is None:
            return None
        shift = np.zeros((len(start.used), *found.shift_yx_px.shape[1:]))
        shift[start.used] = found.shift_yx_px * self.images.binning
        return replace(found, centre_zyx_px=found.centre_zyx_px * self.images.binning, shift_yx_px=shift)


def _assembled(
    refined: Refinement,
    level: LevelSearch | None,
    patches: PatchFit | None,
    given: tuple[AxisSearch, _Fine],
) -> TiltAlignment:
    """Bring what was found of the used tilts into the order and the pixels of all tilts given."""
    start, fine = given
    used, binning = start.used, fine.images.binning
    sigma = dict(level.sigma) if level else {}
    if patches and np.isfinite(patches.axis_uncertainty_deg):
        sigma["axis"] = patches.axis_uncertainty_deg
    found = refined.state.geometry
    error = _with_level_errors(_ERROR_SCALE * shift_errors(refined) * binning, level, sigma, found)
    hopeless = refined.state.tilt_noise >= _HOPELESS_NOISE
    good = used.copy()
    good[used] = ~hopeless
    offset = float(found.tilt_angle_deg[0] - start.geometry.tilt_angle_deg[used][0])
    whole = TiltGeometry(
        start.geometry.tilt_angle_deg + offset,
        np.full(len(used), found.axis_angle_deg[0]),
        _spread(found.shift_yx_px * binning, used),
        found.x_tilt_deg,
    )
    residual, unseen = np.full(len(found), np.nan), np.nan
    if patches:
        residual = residual_of_tilts(patch_residuals(patches, found)) * fine.pixel_size_angstrom
        unseen = patches.bundle.leave_one_out_px * fine.pixel_size_angstrom
    ncc = _spread(neighbour_correlation(refined), used)
    return TiltAlignment(
        geometry=fill_shifts(whole, good),
        used=good,
        shift_uncertainty_yx_px=_spread(error, used),
        residual_angstrom=_spread(residual, used),
        neighbour_ncc=ncc,
        ncc_at_deg=_ncc_at(start.geometry.tilt_angle_deg, ncc),
        axis_angle_deg=float(whole.axis_angle_deg[0]),
        axis_uncertainty_deg=float(sigma.get("axis", start.axis_uncertainty_deg)),
        tilt_offset_deg=offset,
        tilt_offset_uncertainty_deg=float(sigma.get("offset", np.nan)),
        x_tilt_uncertainty_deg=float(sigma.get("x_tilt", np.nan)),
        leave_one_out_angstrom=float(unseen),
        local=None,
        flags=(*start.flags, "tilts_not_aligned") if hopeless.any() else start.flags,
    )


def _with_level_errors(
    error: FloatArray, level: LevelSearch | None, sigma: dict[str, float], geometry: TiltGeometry
) -> FloatArray:
    """Add to the errors of the shifts what they owe to those of axis, offset and x-tilt.

    A common movement of the specimen is no error. Lengths are in pixels of the images given.
    """
    if level is None:
        return error
    whole = geometry.rotations()[:, 1::-1, :].reshape(-1, 3)
    free = np.eye(len(whole)) - whole @ np.linalg.pinv(whole)
    variance = error**2
    for name, slope in level.shift_slope.items():
        if isinstance(slope, np.ndarray) and np.isfinite(sigma.get(name, np.nan)):
            variance = variance + ((free @ slope.ravel()).reshape(-1, 2) * sigma[name]) ** 2
    return np.asarray(np.sqrt(variance))


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


def _unaligned(start: AxisSearch) -> TiltAlignment:
    unknown = np.full(len(start.used), np.nan)
    return TiltAlignment(
        geometry=start.geometry,
        used=start.used,
        shift_uncertainty_yx_px=np.full((len(start.used), 2), np.nan),
        residual_angstrom=unknown,
        neighbour_ncc=unknown,
        ncc_at_deg=dict.fromkeys((0, 20, 40, 60), np.nan),
        axis_angle_deg=start.axis_angle_deg,
        axis_uncertainty_deg=np.nan,
        tilt_offset_deg=0.0,
        tilt_offset_uncertainty_deg=np.nan,
        x_tilt_uncertainty_deg=np.nan,
        leave_one_out_angstrom=np.nan,
        local=None,
        flags=start.flags,
    )
