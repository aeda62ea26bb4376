"""Patches of a movie: each followed through the frames, all together described by one smooth model."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.frame_spectra import (
    LOWEST_CYCLES,
    FrameSpectra,
    RingPowers,
    area_spectra,
    move,
    ring_powers,
)
from tomofly.imaging.local_motion import LocalFit, fit_local_motion
from tomofly.imaging.shift_estimation import likelihood_terms, newton_step, signal_scales

FloatArray = npt.NDArray[np.float64]

# The smallest patch, in binned pixels, in which correlations make sense.
_SMALLEST_PATCH = 32
# The restraint on high frequencies, exp(-B k²/2) with B in Å², is relaxed in steps, so that patches that
# move far are not caught on a side peak.
_LOW_PASSES = (3000.0, 600.0, 0.0)
# Patches are cut anew when they are to be moved by more binned pixels than this.
_RECUT_PX = 1.0
# Among the two dozen priors tried, chance alone reaches a few units of log evidence.
_LEAST_EVIDENCE = 8.0
_LEAST_PREDICTED = 0.2
# A model that misses left-out patches by more than this would blur more than it mends.
_LARGEST_RESIDUAL_PX = 3.0


@dataclass(frozen=True)
class PatchTracks:
    """What was measured in patches, in pixels of the raw frames.

    centre_yx_px: (patch, 2); trajectory_yx_px: (patch, frame, 2) shift to apply on top of the global one,
    its zero in time arbitrary; fit: the smooth model, None where it was not kept, of which flags tell.
    """

    centre_yx_px: FloatArray
    trajectory_yx_px: FloatArray
    fit: LocalFit | None
    flags: tuple[str, ...]


def track_patches(
    small: npt.NDArray[np.float32],
    global_shift_px: FloatArray,
    *,
    patches: tuple[int, int],
    bfactor_angstrom2: float,
    working_pixel_angstrom: float,
    binning: int,
    frame_shape: tuple[int, int],
    threads: int = 1,
) -> PatchTracks:
    """Measure local motion in binned frames (frame, y, x) with known global shifts (frame, 2), binned pixels.

    All patches take Newton steps on the likelihood from where the model of the step before puts them, so a
    patch with little signal is led by the others. Patches do not overlap: with shared pixels a model would
    predict its neighbours' noise.
    """
    sizes = [n // p for n, p in zip(small.shape[1:], patches, strict=True)]
    if min(sizes) < _SMALLEST_PATCH or len(small) < 4:
        return PatchTracks(np.zeros((0, 2)), np.zeros((0, len(small), 2)), None, ("too_small_for_patches",))
    corners = _corners(small.shape[1:], sizes, patches)
    centre = (corners + np.array(sizes) / 2) * binning - 0.5
    shift = np.repeat(global_shift_px[None], len(centre), axis=0)
    with ThreadPoolExecutor(threads) as pool:
        areas = _cut(small, corners, sizes, shift, pool)
        for low_pass in _LOW_PASSES:
            steps = _newton_steps(areas, max(low_pass, bfactor_angstrom2) / working_pixel_angstrom**2, pool)
            trajectory = (steps + shift - global_shift_px) * binning
            fit = fit_local_motion(trajectory, _white_noise(trajectory), centre, frame_shape, patches)
            if fit.log_evidence <= _LEAST_EVIDENCE or low_pass == _LOW_PASSES[-1]:
                continue
            model = fit.motion.trajectories_at(centre[:, 0], centre[:, 1]).transpose(1, 0, 2) / binning
            known, shift = shift, global_shift_px + model
            if np.abs(shift - known).max() > _RECUT_PX:
                areas = _cut(small, corners, sizes, shift, pool)
            else:
                list(pool.map(move, areas, shift - known))
    return _judged(fit, centre, trajectory)


def _corners(shape: Sequence[int], sizes: Sequence[int], patches: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the first pixel (patch, 2) of every patch, evenly spread from edge to edge."""
    starts = [
        np.rint(np.linspace(0, n - size, p)).astype(np.int64)
        for n, size, p in zip(shape, sizes, patches, strict=True)
    ]
    return np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)


def _cut(
    small: npt.NDArray[np.float32],
    corners: npt.NDArray[np.int64],
    sizes: Sequence[int],
    shift_px: FloatArray,
    pool: ThreadPoolExecutor,
) -> list[FrameSpectra]:
    return list(
        pool.map(lambda corner, shift: _patch_spectra(small, corner, sizes, shift), corners, shift_px)
    )


def _patch_spectra(
    small: npt.NDArray[np.float32], corner: npt.NDArray[np.int64], sizes: Sequence[int], shift_px: FloatArray
) -> FrameSpectra:
    """Cut a patch out of every frame where it should be, to the pixel, and move it by the rest."""
    area = np.empty((len(small), sizes[0], sizes[1]), dtype=np.float32)
    rest = np.empty_like(shift_px)
    limit = np.array(small.shape[1:]) - sizes
    for index, shift in enumerate(shift_px):
        y, x = np.clip(corner - np.rint(shift).astype(int), 0, limit)
        area[index] = small[index, y : y + sizes[0], x : x + sizes[1]]
        rest[index] = shift - (corner - (y, x))
    spectra = area_spectra(area)
    move(spectra, rest)
    return spectra


def _newton_steps(areas: list[FrameSpectra], bfactor_px2: float, pool: ThreadPoolExecutor) -> FloatArray:
    """Return a Newton step (patch, frame, 2) for every patch, weighted by the powers of all patches.

    The signal's power is the median over patches: contamination in one of them has a hundred times that of
    the others at low frequencies, and its weights would leave the others with noise alone.
    """
    each = list(pool.map(ring_powers, areas))
    first = areas[0]
    powers = RingPowers(
        each[0].frequency,
        np.median([one.signal for one in each], axis=0),
        np.mean([one.noise for one in each], axis=0),
    )
    lowest = LOWEST_CYCLES / min(1 / first.ky[0], 1 / first.kx[0])
    terms = likelihood_terms(first, powers, bfactor_px2, lowest)
    scales = signal_scales(each, powers, terms.weight, first)
    return np.array(list(pool.map(lambda area, scale: newton_step(area, terms, scale), areas, scales)))


def _white_noise(trajectory: FloatArray) -> FloatArray:
    """Return the noise (patch,) of one position from second differences, which smooth motion lacks."""
    bend = np.diff(trajectory, n=2, axis=1)
    return np.asarray(np.sqrt(np.mean(bend**2, axis=(1, 2)) / 6))


def _judged(fit: LocalFit, centre: FloatArray, trajectory: FloatArray) -> PatchTracks:
    """Keep the model only where the data call for it and where it predicts patches it has not seen."""
    if fit.log_evidence <= _LEAST_EVIDENCE:
        return PatchTracks(centre, trajectory, None, ("local_motion_not_significant",))
    if fit.predicted_part < _LEAST_PREDICTED or fit.leave_one_out_residual_px > _LARGEST_RESIDUAL_PX:
        return PatchTracks(centre, trajectory, None, ("local_model_rejected",))
    flags = ("patches_downweighted",) if np.any(fit.patch_weight < 0.5) else ()
    return PatchTracks(centre, trajectory, fit, flags)
