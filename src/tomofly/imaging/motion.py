"""Alignment of the frames of a movie: the whole frames, then patches of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.calibrated_frames import bin_frames, calibrate_frames
from tomofly.imaging.frame_spectra import (
    LOWEST_CYCLES,
    FrameSpectra,
    RingPowers,
    area_spectra,
    group_frames,
    move,
    ring_powers,
)
from tomofly.imaging.local_motion import (
    LocalFit,
    LocalMotion,
    cubic_basis,
    fit_local_motion,
    spline_basis,
)
from tomofly.imaging.shift_estimation import ShiftEstimate, estimate_shifts, likelihood_terms, newton_step

FloatArray = npt.NDArray[np.float64]

# Alignment works on frames binned to about this pixel size; finer detail holds next to no power at one
# frame's dose.
WORKING_PIXEL_ANGSTROM = 3.0
# The low-pass exp(-B k²/2) under which correlation peaks are first sought (e^-2 at 19 Å).
COARSE_BFACTOR_ANGSTROM2 = 1500.0
# Patches overlap by this part of their spacing, for tapered edges would waste what lies there.
_PATCH_OVERLAP = 0.2
# The smallest patch, in binned pixels, in which correlations make sense.
_SMALLEST_PATCH = 32


@dataclass(frozen=True)
class FrameAlignment:
    """Where the frames of a movie have to be moved.

    global_shift_yx_px: (frame, 2) shift to apply to each frame to bring it onto frame 0, pixels of the raw
    frames; uncertainty_yx_px: (frame, 2) standard deviation of each frame's position about the mean of all
    frames (so a difference of two frames is uncertain by both in quadrature); inf where nothing was
    measured; patch_centre_yx_px: (patch, 2); patch_shift_yx_px: (frame, patch, 2) measured local shift on
    top of the global one, relative to frame 0; local_model: the smooth model of these or None;
    fit_residual_px and leave_one_out_residual_px: root mean square of the patches about the model (NaN
    without one); flags: what was decided or found, in words that do not change; iterations: of the global
    alignment.
    """

    global_shift_yx_px: FloatArray
    uncertainty_yx_px: FloatArray
    patch_centre_yx_px: FloatArray
    patch_shift_yx_px: FloatArray
    local_model: LocalMotion | None
    fit_residual_px: float
    leave_one_out_residual_px: float
    frame_shape: tuple[int, int]
    flags: tuple[str, ...]
    iterations: int
    converged: bool

    def shift_field(self, y: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
        """Return global plus local shift (frame, len(y), len(x), 2) on a grid of pixel coordinates."""
        rows, columns = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
        field = np.zeros((len(self.global_shift_yx_px), rows.size, columns.size, 2))
        field += self.global_shift_yx_px[:, None, None, :]
        if self.local_model is not None:
            field += self.local_model.trajectories_at(rows[:, None], columns[None, :])
        return field


def align_frames(
    frames: npt.NDArray[Any],
    *,
    pixel_size_angstrom: float,
    gain: npt.NDArray[Any] | None = None,
    defects: npt.NDArray[np.bool_] | None = None,
    patches: tuple[int, int] = (5, 5),
    bfactor_angstrom2: float = 150.0,
    max_shift_angstrom: float = 100.0,
    iterations: int = 10,
    group: int = 1,
    tolerance_px: float = 0.02,
    threads: int = 1,
) -> FrameAlignment:
    """Measure how the specimen moved during a movie (frame, y, x).

    gain: (y, x), multiplied; defects: (y, x), True is bad; patches: rows and columns of patches for local
    motion, (1, 1) for none, at least 3 in each direction otherwise; bfactor_angstrom2: restraint exp(-B
    k²/2) on the weight of high frequencies, on top of what the measured signal-to-noise ratio says;
    max_shift_angstrom: search range; group: number of neighbouring frames averaged for the global
    alignment, for very low doses; tolerance_px: stop when shifts change by less (root mean square). A movie
    of one frame is returned unshifted, with a flag.

    Flags: "single_frame", "not_converged", "low_signal", "max_shift_reached", "local_motion_not_significant",
    "local_model_rejected", "patches_downweighted", "too_small_for_patches".
    Raises ValueError for frames without any structure (all pixels equal), with NaN, or arguments that make
    no sense.
    """
    _check_arguments(pixel_size_angstrom, patches, iterations, group)
    movie = calibrate_frames(frames, gain, defects)
    if len(movie.raw) == 1:
        return _unaligned(1, movie.shape, ("single_frame",))
    binning = max(1, min(round(WORKING_PIXEL_ANGSTROM / pixel_size_angstrom), min(movie.shape) // 64))
    small = _standardised(bin_frames(movie, binning, threads))
    working_pixel = binning * pixel_size_angstrom
    estimate = _align_whole(small, working_pixel, bfactor_angstrom2, max_shift_angstrom, iterations, group,
                            tolerance_px / binning)  # fmt: skip
    flags = _global_flags(estimate, max_shift_angstrom / working_pixel)
    local = None
    if patches != (1, 1):
        local, notes = _align_patches(small, estimate.shift_yx_px, patches, bfactor_angstrom2 /
        working_pixel**2,
                                      binning, movie.shape, threads)  # fmt: skip
        flags += notes
    return _assemble(estimate, local, binning, movie.shape, flags)


@dataclass(frozen=True)
class _LocalResult:
    fit: LocalFit | None
    centre_yx_px: FloatArray
    trajectory_px: FloatArray


def _check_arguments(
    pixel_size_angstrom: float, patches: tuple[int, int], iterations: int, group: int
) -> None:
    if not (np.isfinite(pixel_size_angstrom) and pixel_size_angstrom > 0):
        raise ValueError(f"pixel size is {pixel_size_angstrom} Å; it must be positive")
    if patches != (1, 1) and min(patches) < 3:
        raise ValueError(f"patches are {patches}; use (1, 1) for none or at least 3 in each direction")
    if iterations < 1 or group < 1:
        raise ValueError(f"iterations ({iterations}) and group ({group}) are at least 1")


def _standardised(small: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Bring every frame to mean 0 and standard deviation 1, clipped at 6, in place."""
    for index, frame in enumerate(small):
        mean, spread = float(frame.mean(dtype=np.float64)), float(frame.std(dtype=np.float64))
        if not np.isfinite(spread):
            raise ValueError(f"frame {index} holds NaN or infinite values")
        if spread <= 1e-6 * max(abs(mean), 1e-30):
            raise ValueError(f"frame {index} holds nothing but the value {mean:g}; it cannot be aligned")
        small[index] = np.clip((frame - np.float32(mean)) / np.float32(spread), -6, 6)
    return small


def _align_whole(
    small: npt.NDArray[np.float32],
    working_pixel: float,
    bfactor_angstrom2: float,
    max_shift_angstrom: float,
    iterations: int,
    group: int,
    tolerance_px: float,
) -> ShiftEstimate:
    spectra = area_spectra(small)
    grouped = group_frames(spectra, group) if group > 1 and len(small) >= 2 * group else spectra
    estimate = estimate_shifts(
        grouped,
        max_shift_px=max_shift_angstrom / working_pixel,
        coarse_bfactor_px2=COARSE_BFACTOR_ANGSTROM2 / working_pixel**2,
        bfactor_px2=bfactor_angstrom2 / working_pixel**2,
        tolerance_px=tolerance_px,
        iterations=iterations,
        lowest_frequency=LOWEST_CYCLES / min(small.shape[1:]),
    )
    return estimate if grouped is spectra else _ungrouped(estimate, len(small), group)


def _ungrouped(estimate: ShiftEstimate, n_frames: int, group: int) -> ShiftEstimate:
    """Interpolate the shifts of groups to frames, linearly, also beyond the first and last group's centre."""
    runs = len(estimate.shift_yx_px)
    edges = np.append(np.arange(runs) * group, n_frames)
    centre = (edges[:-1] + edges[1:] - 1) / 2
    frame = np.arange(n_frames)
    left = np.clip(np.searchsorted(centre, frame, side="right") - 1, 0, runs - 2)
    part = ((frame - centre[left]) / (centre[left + 1] - centre[left]))[:, None]
    shift = (1 - part) * estimate.shift_yx_px[left] + part * estimate.shift_yx_px[left + 1]
    spread = np.hypot(
        (1 - part) * estimate.uncertainty_yx_px[left], part * estimate.uncertainty_yx_px[left + 1]
    )
    return ShiftEstimate(shift, spread, estimate.powers, estimate.rounds, estimate.converged)


def _global_flags(estimate: ShiftEstimate, max_shift_px: float) -> tuple[str, ...]:
    flags = []
    if not estimate.converged:
        flags.append("not_converged")
    if not np.all(estimate.uncertainty_yx_px < 1.0):
        flags.append("low_signal")
    if np.max(np.abs(estimate.shift_yx_px)) > max_shift_px:
        flags.append("max_shift_reached")
    return tuple(flags)


def _align_patches(
    small: npt.NDArray[np.float32],
    global_shift_px: FloatArray,
    patches: tuple[int, int],
    bfactor_px2: float,
    binning: int,
    frame_shape: tuple[int, int],
    threads: int,
) -> tuple[_LocalResult | None, tuple[str, ...]]:
    """Follow every patch through the movie in binned pixels, and fit the smooth model in raw ones."""
    sizes = [
        min(n, round(n / p * (1 + _PATCH_OVERLAP))) for n, p in zip(small.shape[1:], patches, strict=True)
    ]
    if min(sizes) < _SMALLEST_PATCH or len(small) < 4:
        return None, ("too_small_for_patches",)
    corners = [
        (y, x)
        for y in np.rint(np.linspace(0, small.shape[1] - sizes[0], patches[0])).astype(int)
        for x in np.rint(np.linspace(0, small.shape[2] - sizes[1], patches[1])).astype(int)
    ]
    centre = (np.array(corners) + np.array(sizes) / 2) * binning - 0.5
    fit: LocalFit | None = None
    bases = _temporal_bases(len(small))
    with ThreadPoolExecutor(threads) as pool:
        for low_pass in _LOW_PASSES:
            shift = _predicted(global_shift_px, fit, centre, binning)
            areas = list(
                pool.map(
                    lambda job: _patch_spectra(small, job[0], sizes, job[1]), zip(corners, shift, strict=True)
                )
            )
            trajectory, uncertainty = _patch_positions(areas, low_pass * bfactor_px2, pool)
            trajectory = (trajectory + shift - global_shift_px) * binning
            fits = [
                fit_local_motion(trajectory, uncertainty * binning, centre, frame_shape, basis, name)
                for name, basis in bases.items()
            ]
            fit = max(fits, key=lambda candidate: candidate.gain)
    return _judged(fit, centre, trajectory)


# The restraint on high frequencies is relaxed in steps, so that patches that move far are not caught on a
# side peak.
_LOW_PASSES = (20.0, 4.0, 1.0)


def _temporal_bases(n_frames: int) -> dict[str, FloatArray]:
    bases = {"cubic": cubic_basis(n_frames)}
    if n_frames >= 12:
        bases["spline"] = spline_basis(n_frames)
    return bases


def _predicted(
    global_shift_px: FloatArray, fit: LocalFit | None, centre: FloatArray, binning: int
) -> FloatArray:
    """Return the shifts (patch, frame, 2) in binned pixels that are known so far."""
    shift = np.repeat(global_shift_px[None], len(centre), axis=0)
    if fit is not None and fit.gain > 0:
        shift += fit.motion.trajectories_at(centre[:, 0], centre[:, 1]).transpose(1, 0, 2) / binning
    return shift


def _patch_spectra(
    small: npt.NDArray[np.float32], corner: tuple[int, int], sizes: Sequence[int], shift_px: FloatArray
) -> FrameSpectra:
    """Cut a patch out of every frame where it should be, to the pixel, and move it by the rest."""
    area = np.empty((len(small), sizes[0], sizes[1]), dtype=np.float32)
    rest = np.empty_like(shift_px)
    limit = np.array(small.shape[1:]) - sizes
    for index, shift in enumerate(shift_px):
        y, x = np.clip(np.array(corner) - np.rint(shift).astype(int), 0, limit)
        area[index] = small[index, y : y + sizes[0], x : x + sizes[1]]
        rest[index] = shift - (np.array(corner) - (y, x))
    spectra = area_spectra(area)
    move(spectra, rest)
    return spectra


def _patch_positions(
    areas: list[FrameSpectra], bfactor_px2: float, pool: ThreadPoolExecutor
) -> tuple[FloatArray, FloatArray]:
    """Return a Newton step (patch, frame, 2) for every patch, and the standard deviations (patch,)."""
    each = list(pool.map(ring_powers, areas))
    powers = RingPowers(
        each[0].frequency,
        np.mean([one.signal for one in each], axis=0),
        np.mean([one.noise for one in each], axis=0),
    )
    n, shape = areas[0].n_frames, areas[0].values.shape[1:]
    lowest = LOWEST_CYCLES / min(1 / areas[0].ky[0], 1 / areas[0].kx[0])
    terms = likelihood_terms(areas[0], powers, bfactor_px2, lowest)
    weight = np.interp(areas[0].radius, powers.frequency, powers.signal) * terms.weight
    del shape
    signal = np.array([_signal_scale(one, powers, weight, areas[0]) for one in each])
    steps = list(pool.map(lambda job: newton_step(job[0], terms, job[1]), zip(areas, signal, strict=True)))
    curvature = n * float(terms.curvature_yx.mean())
    spread = np.sqrt(float(terms.gradient_variance_yx.mean())) / max(curvature, 1e-30)
    return np.array(steps), spread / signal


def _signal_scale(one: RingPowers, pooled: RingPowers, weight: FloatArray, area: FrameSpectra) -> float:
    """Return the signal power of a patch relative to that of all, weighted as the alignment weighs it."""
    own = np.interp(area.radius, one.frequency, one.signal)
    common = np.interp(area.radius, pooled.frequency, pooled.signal)
    total = float(np.sum(weight * common))
    return float(np.clip(np.sum(weight * own) / total, 0.1, 10.0)) if total > 0 else 1.0


def _judged(
    fit: LocalFit | None, centre: FloatArray, trajectory: FloatArray
) -> tuple[_LocalResult, tuple[str, ...]]:
    """Keep the model only if it predicts patches that it has not seen better than no local motion does."""
    if fit is None or fit.gain <= 0:
        largest = 0.0 if fit is None else fit.leave_one_out_residual_px
        flag = "local_model_rejected" if largest > _LARGEST_RESIDUAL_PX else "local_motion_not_significant"
        return _LocalResult(None, centre, trajectory), (flag,)
    if fit.leave_one_out_residual_px > _LARGEST_RESIDUAL_PX:
        return _LocalResult(None, centre, trajectory), ("local_model_rejected",)
    flags = ("patches_downweighted",) if np.any(fit.patch_weight < 0.5) else ()
    return _LocalResult(fit, centre, trajectory), flags


# A model that misses left-out patches by more than this would blur more than it mends.
_LARGEST_RESIDUAL_PX = 3.0


def _assemble(
    estimate: ShiftEstimate,
    local: _LocalResult | None,
    binning: int,
    frame_shape: tuple[int, int],
    flags: tuple[str, ...],
) -> FrameAlignment:
    shift = estimate.shift_yx_px * binning
    n_frames = len(shift)
    fit = local.fit if local is not None else None
    patch_shift = np.zeros((n_frames, 0, 2))
    if local is not None:
        patch_shift = local.trajectory_px.transpose(1, 0, 2)
        patch_shift = patch_shift - patch_shift[0]
    return FrameAlignment(
        global_shift_yx_px=shift - shift[0],
        uncertainty_yx_px=estimate.uncertainty_yx_px * binning,
        patch_centre_yx_px=local.centre_yx_px if local is not None else np.zeros((0, 2)),
        patch_shift_yx_px=patch_shift,
        local_model=fit.motion if fit is not None else None,
        fit_residual_px=fit.fit_residual_px if fit is not None else float("nan"),
        leave_one_out_residual_px=fit.leave_one_out_residual_px if fit is not None else float("nan"),
        frame_shape=frame_shape,
        flags=flags,
        iterations=estimate.rounds,
        converged=estimate.converged,
    )


def _unaligned(n_frames: int, frame_shape: tuple[int, int], flags: tuple[str, ...]) -> FrameAlignment:
    return FrameAlignment(
        global_shift_yx_px=np.zeros((n_frames, 2)),
        uncertainty_yx_px=np.full((n_frames, 2), np.inf),
        patch_centre_yx_px=np.zeros((0, 2)),
        patch_shift_yx_px=np.zeros((n_frames, 0, 2)),
        local_model=None,
        fit_residual_px=float("nan"),
        leave_one_out_residual_px=float("nan"),
        frame_shape=frame_shape,
        flags=flags,
        iterations=0,
        converged=True,
    )
