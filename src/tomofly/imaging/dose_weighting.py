"""Dose weighting: how much of each frame's signal survives radiation damage, at each spatial frequency."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Critical dose relative to 300 kV; the lower voltages as RELION 3.1 and unblur have them.
_VOLTAGE_FACTORS = ((100.0, 0.532), (200.0, 0.8), (300.0, 1.0))


def critical_dose(frequency_per_angstrom: npt.ArrayLike, voltage_kv: float = 300.0) -> FloatArray:
    """Return the dose (e/Å²) at which signal power falls to 1/e, at frequencies in 1/Å.

    Grant & Grigorieff (2015): Ne(k) = 0.24499 k^-1.6649 + 2.8141 at 300 kV; between
    the voltages measured the factor is interpolated. Infinite at frequency 0.
    """
    frequency = np.asarray(frequency_per_angstrom, dtype=np.float64)
    voltages, factors = zip(*_VOLTAGE_FACTORS, strict=True)
    factor = float(np.interp(voltage_kv, voltages, factors))
    with np.errstate(divide="ignore"):
        return np.asarray(factor * (0.24499 * frequency**-1.6649 + 2.8141))


def accumulated_dose(n_frames: int, dose_per_frame: npt.ArrayLike, pre_exposure: float = 0.0) -> FloatArray:
    """Return the dose (e/Å²) at the end of each frame; dose_per_frame is one number or one per frame.

    Raises ValueError for negative doses or a wrong number of them.
    """
    dose = np.asarray(dose_per_frame, dtype=np.float64)
    if dose.ndim and dose.shape != (n_frames,):
        raise ValueError(
            f"dose_per_frame has shape {dose.shape}; it is one number or one for each of {n_frames} frames"
        )
    if not np.isfinite(dose).all() or (dose < 0).any() or pre_exposure < 0:
        raise ValueError("doses are finite and not negative (e/Å²)")
    return pre_exposure + np.cumsum(np.broadcast_to(dose, (n_frames,)))


def dose_weights(
    frequency_per_angstrom: npt.ArrayLike, dose_e_per_angstrom2: npt.ArrayLike, voltage_kv: float = 300.0
) -> FloatArray:
    """Return q = exp(-dose / (2 Ne(k))), shape (doses, frequencies), in [0, 1] (Grant & Grigorieff, 2015)."""
    rate = 0.5 / critical_dose(frequency_per_angstrom, voltage_kv)
    dose = np.asarray(dose_e_per_angstrom2, dtype=np.float64)
    return np.exp(-np.multiply.outer(dose, rate))


def normalised_dose_weights(weights: FloatArray) -> FloatArray:
    """Divide weights (frames, frequencies) by sqrt(frames) sqrt(sum q²): noise stays flat, the mean stays.

    With it the weighted sum of n frames has the mean of one frame, and at every frequency the noise power
    that the plain average of the frames has.
    """
    norm = np.sqrt((weights**2).sum(axis=0) * weights.shape[0])
    return np.asarray(weights / np.maximum(norm, np.finfo(np.float64).tiny))


def separable_weights(weights: FloatArray, tolerance: float = 1e-3) -> tuple[FloatArray, FloatArray]:
    """Split weights (frames, frequencies) into temporal (frames, rank) @ spectral (rank, frequencies).

    Weights that decay exponentially in dose at smoothly changing rates have very low rank, so a
    dose-weighted sum needs a handful of Fourier transforms, not one per frame: transform rank sums of
    frames weighted by the temporal factors, multiply by the spectral factors, add. tolerance: largest error
    allowed in any weight, relative to the largest weight at that frequency.
    """
    scale = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float64).tiny)
    left, singular, right = np.linalg.svd(weights / scale, full_matrices=False)
    for rank in range(1, singular.size + 1):
        temporal = left[:, :rank] * singular[:rank]
        if np.abs(temporal @ right[:rank] - weights / scale).max() <= tolerance:
            break
    return temporal, right[:rank] * scale
