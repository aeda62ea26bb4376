"""Alignment of the frames of a movie: the whole frames, then patches of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.calibrated_frames import bin_frames, calibrate_frames
from tomofly.imaging.frame_spectra import LOWEST_CYCLES, FrameSpectra, area_spectra, group_frames
from tomofly.imaging.local_motion import LocalMotion
from tomofly.imaging.patch_tracking import PatchTracks, track_patches
from tomofly.imaging.shift_estimation import ShiftEstimate, estimate_shifts
from tomofly.imaging.trajectory_prior import fit_trajectories

FloatArray = npt.NDArray[np.float64]

# Alignment works on frames binned to about this pixel size; finer detail holds next to no power at one
# frame's dose.
WORKING_PIXEL_ANGSTROM = 3.0
# The low-pass exp(-B k²/2) under which correlation peaks are first sought (e^-2 at 19 Å).
COARSE_BFACTOR_ANGSTROM2 = 1500.0


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
    bfactor_angstrom2: float = 50.0,
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
    estimate = _align_whole(
        area_spectra(small, threads=threads),
        group,
        max_shift_px=max_shift_angstrom / working_pixel,
        coarse_bfactor_px2=COARSE_BFACTOR_ANGSTROM2 / working_pixel**2,
        bfactor_px2=bfactor_angstrom2 / working_pixel**2,
        tolerance_px=tolerance_px / binning,
        iterations=iterations,
        lowest_frequency=LOWEST_CYCLES / min(small.shape[1:]),
        threads=threads,
    )
    flags = _global_flags(estimate, max_shift_angstrom / working_pixel)
    if patches == (1, 1):
        return _assemble(estimate, None, binning, movie.shape, flags)
    local = track_patches(
        small,
        estimate.shift_yx_px,
        patches=patches,
        bfactor_angstrom2=bfactor_angstrom2,
        working_pixel_angstrom=working_pixel,
        binning=binning,
        frame_shape=movie.shape,
        threads=threads,
    )
    return _assemble(estimate, local, binning, movie.shape, flags + local.flags)


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


def _align_whole(spectra: FrameSpectra, group: int, **how: Any) -> ShiftEstimate:
    """Estimate the shifts of whole frames, or of groups of them where there are at least two."""
    n_frames = spectra.n_frames
    if group == 1 or n_frames < 2 * group:
        return _smoothed(estimate_shifts(spectra, **how))
    estimate = _smoothed(estimate_shifts(group_frames(spectra, group), **how))
    return _ungrouped(estimate, n_frames, group)


def _smoothed(estimate: ShiftEstimate) -> ShiftEstimate:
    """Replace measured positions by those expected under the prior of beam-induced motion."""
    noise = float(np.mean(estimate.uncertainty_yx_px**2))
    if len(estimate.shift_yx_px) < _FEWEST_TO_SMOOTH or not np.isfinite(noise) or noise <= 0:
        return estimate
    fit = fit_trajectories(estimate.shift_yx_px, noise)
    uncertainty = np.repeat(fit.standard_deviation[:, None], 2, axis=1)
    return replace(estimate, shift_yx_px=fit.smoother @ estimate.shift_yx_px, uncertainty_yx_px=uncertainty)


# With fewer frames there is nothing to tell smooth motion from noise.
_FEWEST_TO_SMOOTH = 6


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


def _assemble(
    estimate: ShiftEstimate,
    local: PatchTracks | None,
    binning: int,
    frame_shape: tuple[int, int],
    flags: tuple[str, ...],
) -> FrameAlignment:
    shift = estimate.shift_yx_px * binning
    n_frames = len(shift)
    fit = local.fit if local is not None else None
    # Strong patches weigh more in the alignment of whole frames; with the model all places count alike.
    common = fit.motion.mean_yx_px if fit is not None else np.zeros((n_frames, 2))
    shift = shift + common
    patch_shift = np.zeros((n_frames, 0, 2))
    if local is not None:
        patch_shift = local.trajectory_yx_px.transpose(1, 0, 2) - common[:, None]
        patch_shift = patch_shift - patch_shift[0]
    return FrameAlignment(
        global_shift_yx_px=shift - shift[0],
        uncertainty_yx_px=estimate.uncertainty_yx_px * binning,
        patch_centre_yx_px=local.centre_yx_px if local is not None else np.zeros((0, 2)),
        patch_shift_yx_px=patch_shift,
        local_model=fit.motion.without_mean() if fit is not None else None,
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
