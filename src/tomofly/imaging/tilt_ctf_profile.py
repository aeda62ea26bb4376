"""What one tilt's rings look like at the defocus of its axis: for people, and for the resolution."""

from __future__ import annotations

import numpy as np

from tomofly.imaging.ctf import CtfOptics, phase_aberration
from tomofly.imaging.ctf_quality import CtfProfile
from tomofly.imaging.tilt_ctf_model import Evaluation, FloatArray, TiltView, window_effects

FEWEST_BINS_IN_HALF_WINDOW = 5


def tilt_profile(
    view: TiltView,
    hand: int,
    defocus: float,
    astigmatism: FloatArray,
    evaluation: Evaluation,
    background: FloatArray,
    optics: CtfOptics,
) -> CtfProfile:
    """Average of all tiles along lines of equal phase, at the mean defocus of the axis.

    `astigmatism` (2,) half of U - V times cos and sin of twice the angle; `background` (bin,) the power that
    the view's excess is relative to. Bins are evenly spaced in squared frequency.
    """
    excess, count = _equal_phase_average(view, hand, defocus, astigmatism, optics)
    excess = excess - evaluation.background
    squared = view.frequency**2
    chi = phase_aberration(squared, defocus, optics)
    envelope = (window_effects(view, defocus)[0] * view.spread).mean(axis=0)
    ripple = -np.cos(2 * chi) * envelope
    noise = 3.0 / np.sqrt(np.maximum(count, 1.0) * view.independence)
    scale = np.maximum(evaluation.modulation * envelope, np.maximum(noise, 1e-3))
    # Rings are evenly spaced in squared frequency, as the bins are.
    period = np.pi / max(float(np.median(np.abs(np.gradient(chi)))), 1e-6)
    return CtfProfile(
        frequency=view.frequency,
        power=1.0 + excess,
        measured=0.5 + 0.5 * excess / scale,
        fitted=np.sin(chi) ** 2,
        background=background * (1.0 + evaluation.background),
        depth=evaluation.modulation,
        agreement=_local_correlation(excess, ripple, count, period),
    )


def _equal_phase_average(
    view: TiltView, hand: int, defocus: float, astigmatism: FloatArray, optics: CtfOptics
) -> tuple[FloatArray, FloatArray]:
    """Mean excess by bin of the squared frequency that has the same phase at the axis; and the samples."""
    local = defocus + astigmatism[0] * view.cos_2a + astigmatism[1] * view.sin_2a
    phase = view.turn * local + view.fixed - optics.amplitude_phase_rad
    phase = phase + hand * view.depth[:, None, None] * view.turn
    kappa, sigma = optics.defocus_coefficient * defocus, optics.spherical_coefficient
    squared = 2 * phase / (kappa + np.sqrt(np.maximum(kappa**2 - 4 * sigma * phase, 0.0)))
    first, width = view.frequency[0] ** 2, float(np.diff(view.frequency**2).mean())
    where = np.rint((squared - first) / width).astype(np.int64)
    size = view.frequency.size
    inside = (where >= 0) & (where < size)
    weight = np.broadcast_to(view.count, where.shape)[inside]
    count = np.bincount(where[inside], weight, minlength=size).astype(np.float64)
    total = np.bincount(where[inside], weight * view.excess[inside], minlength=size)
    return total / np.maximum(count, 1e-12), count


def _local_correlation(
    measured: FloatArray, fitted: FloatArray, weight: FloatArray, period_bins: float
) -> FloatArray:
    """Weighted correlation in a window of two rings around each bin."""
    half = int(np.clip(round(period_bins), FEWEST_BINS_IN_HALF_WINDOW, measured.size // 4))
    window = np.ones(2 * half + 1)

    def total(values: FloatArray) -> FloatArray:
        return np.convolve(weight * values, window, mode="same")

    norm = np.maximum(total(np.ones_like(measured)), 1e-12)
    mean_m, mean_f = total(measured) / norm, total(fitted) / norm
    together = total(measured * fitted) - norm * mean_m * mean_f
    spread_m = np.maximum(total(measured**2) - norm * mean_m**2, 0.0)
    spread_f = np.maximum(total(fitted**2) - norm * mean_f**2, 0.0)
    scale = np.sqrt(spread_m * spread_f)
    return np.where(scale > 0, together / np.maximum(scale, 1e-300), 0.0)
