"""Shifts of noisy pictures of one thing: coarse by cross-correlation, fine by maximum likelihood.

Model: frame i is F_i(k) = S(k) exp(2 pi i k.s_i) + N_i(k), signal and noise Gaussian with powers P_S(|k|),
P_N(|k|). Integrating over the unknown S, the likelihood of the shifts is a sum over pairs of frames of
cross-correlations weighted by w = P_S / (P_N (P_N + n P_S)). Both powers come from the frames themselves,
ring by ring, so zeros of the CTF, blur by radiation damage and the true signal-to-noise ratio set the
weights, and a B-factor is a restraint only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.frame_spectra import (
    FrameSpectra,
    RingPowers,
    move,
    ring_powers,
    weighted_phase_gradients,
)
from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShiftEstimate:
    """Shifts to apply (frame, 2) in pixels of the spectra, with mean 0, and their standard deviations."""

    shift_yx_px: FloatArray
    uncertainty_yx_px: FloatArray
    powers: RingPowers
    rounds: int
    converged: bool


@dataclass(frozen=True)
class LikelihoodTerms:
    """Weights (ky, kx), and per axis the curvature of a pair's correlation and the variance of a gradient."""

    weight: npt.NDArray[np.float32]
    curvature_yx: FloatArray
    gradient_variance_yx: FloatArray


def correlation_shifts(
    spectra: FrameSpectra,
    weight: npt.NDArray[np.float32],
    max_shift_px: float,
    reach: float,
    threads: int = 1,
) -> FloatArray:
    """Return the shift (frame, 2) that brings each frame onto the sum of all others, by the correlation peak.

    weight: (ky, kx), negligible beyond `reach` cycles per pixel, which sets the sampling of the correlation
    map; the peak is searched within max_shift_px and refined by a parabola along each axis.
    """
    height, width = 1.0 / spectra.ky[0], 1.0 / spectra.kx[0]
    keep_y = np.flatnonzero(np.abs(spectra.ky) <= reach)
    keep_x = max(1, int(np.sum(spectra.kx <= reach)))
    rows = np.rint(spectra.ky[keep_y] * height).astype(int)
    grid = tuple(fft.next_fast_len(2 * (size + 1), real=True) for size in (int(rows.max()), keep_x))
    reach_y, reach_x = (
        int(min(np.ceil(max_shift_px * cells / size), cells // 2 - 1))
        for cells, size in zip(grid, (height, width), strict=True)
    )
    kept = spectra.values[:, keep_y, :keep_x]
    total = kept.sum(axis=0)
    weighted = weight[keep_y, :keep_x]
    shifts = np.empty((len(kept), 2))

    def correlate(index: int) -> None:
        padded = np.zeros((grid[0], grid[1] // 2 + 1), dtype=np.complex64)
        others = np.conj(total - kept[index])
        others *= kept[index]
        others *= weighted
        padded[rows, 1 : keep_x + 1] = others
        peak = _peak(fft.irfft2(padded, s=grid), reach_y, reach_x)
        shifts[index] = -peak * (height, width) / np.array(grid)

    for_each(correlate, len(kept), threads)
    return shifts


def _peak(correlation: npt.NDArray[np.float32], reach_y: int, reach_x: int) -> FloatArray:
    """Return the place of the highest value within reach of the origin of a periodic map."""
    dy, dx = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    y, x = np.unravel_index(int(np.argmax(correlation[np.ix_(dy, dx)])), (dy.size, dx.size))
    row, column = int(dy[y]), int(dx[x])
    centre = float(correlation[row, column])
    place = np.array([row, column], dtype=np.float64)
    height, width = correlation.shape
    for axis, (a, b) in enumerate(
        (
            (correlation[row - 1, column], correlation[(row + 1) % height, column]),
            (correlation[row, column - 1], correlation[row, (column + 1) % width]),
        )
    ):
        bend = 2 * centre - float(a) - float(b)
        if bend > 0:
            place[axis] += float(np.clip(0.5 * (float(b) - float(a)) / bend, -0.5, 0.5))
    return place


def coarse_weight(spectra: FrameSpectra, bfactor_px2: float) -> tuple[npt.NDArray[np.float32], float]:
    """Return whitening times exp(-B k² / 2), and the frequency beyond which it is below 1e-3."""
    powers = ring_powers(spectra)
    total = np.interp(spectra.radius, powers.frequency, powers.signal + powers.noise)
    envelope = np.exp(-0.5 * bfactor_px2 * spectra.radius**2)
    reach = float(np.sqrt(2 * np.log(1e3) / bfactor_px2)) if bfactor_px2 > 0 else float(spectra.radius.max())
    return (envelope / total).astype(np.float32), reach


def likelihood_terms(
    spectra: FrameSpectra, powers: RingPowers, bfactor_px2: float, lowest_frequency: float
) -> LikelihoodTerms:
    """Return the weights for given powers, damped by exp(-B k² / 2), and what they promise about errors."""
    n = spectra.n_frames
    signal = np.interp(spectra.radius, powers.frequency, powers.signal)
    noise = np.interp(spectra.radius, powers.frequency, powers.noise)
    weight = signal / (noise * (noise + n * signal)) * np.exp(-0.5 * bfactor_px2 * spectra.radius**2)
    weight[spectra.radius < lowest_frequency] = 0.0
    slope2_y = (2 * np.pi * spectra.ky[:, None]) ** 2
    slope2_x = (2 * np.pi * spectra.kx[None, :]) ** 2
    pair = weight * signal
    spread = 0.5 * weight**2 * (n - 1) * noise * (n * signal + noise)
    return LikelihoodTerms(
        weight.astype(np.float32),
        np.array([np.sum(pair * slope2_y), np.sum(pair * slope2_x)]),
        np.array([np.sum(spread * slope2_y), np.sum(spread * slope2_x)]),
    )


def estimate_shifts(
    spectra: FrameSpectra,
    *,
    max_shift_px: float,
    coarse_bfactor_px2: float,
    bfactor_px2: float,
    tolerance_px: float,
    iterations: int,
    lowest_frequency: float,
    threads: int = 1,
) -> ShiftEstimate:
    """Align the frames of one area; the spectra are moved in place to where they belong.

    First correlation with the sum of the other frames under a strong low-pass until shifts change by less
    than half the width of its peak, then Newton steps on the likelihood until they change by less than
    tolerance_px (root mean square). `iterations` bounds each of the two.
    """
    total = np.zeros((spectra.n_frames, 2))
    for _ in range(iterations):
        weight, reach = coarse_weight(spectra, coarse_bfactor_px2)
        change = correlation_shifts(spectra, weight, max_shift_px, reach, threads)
        change -= change.mean(axis=0)
        move(spectra, change, threads)
        total += change
        if _rms(change) < 0.1 / reach:
            break
    rounds, converged = 0, False
    while not converged and rounds < iterations:
        powers = ring_powers(spectra)
        terms = likelihood_terms(spectra, powers, bfactor_px2, lowest_frequency)
        change = newton_step(spectra, terms)
        move(spectra, change, threads)
        total += change
        rounds += 1
        converged = _rms(change) < tolerance_px
    spread = np.sqrt(terms.gradient_variance_yx) / np.maximum(spectra.n_frames * terms.curvature_yx, 1e-30)
    uncertainty = np.broadcast_to(np.where(terms.curvature_yx > 0, spread, np.inf), total.shape)
    return ShiftEstimate(total, uncertainty.copy(), powers, rounds, converged)


def newton_step(spectra: FrameSpectra, terms: LikelihoodTerms, signal_scale: float = 1.0) -> FloatArray:
    """Return a step (frame, 2), mean 0, towards the likelihood's maximum, at most two pixels per axis.

    The curvature is the expected one, n times that of a pair, for it is positive where noise makes the
    observed one useless; signal_scale is the signal power of this area relative to the powers behind the
    terms.
    """
    gradient = weighted_phase_gradients(
        spectra.values, terms.weight, spectra.ky, spectra.kx.astype(np.float32)
    )
    curvature = spectra.n_frames * signal_scale * terms.curvature_yx
    step = np.divide(gradient, curvature, out=np.zeros_like(gradient), where=curvature > 0)
    return np.asarray(np.clip(step, -2.0, 2.0))


def signal_scales(
    each: list[RingPowers], pooled: RingPowers, weight: npt.NDArray[np.float32], spectra: FrameSpectra
) -> FloatArray:
    """Return the signal power (patch,) of each patch relative to the pooled one, as the alignment weighs it.

    Measured ratios scatter by counting noise alone; they are drawn towards 1 by the part of their variance
    that this explains.
    """
    common = np.interp(spectra.radius, pooled.frequency, pooled.signal)
    noise = np.interp(spectra.radius, pooled.frequency, pooled.noise)
    share = weight * common
    total = float(np.sum(share * common))
    if total <= 0:
        return np.ones(len(each))
    own = [np.interp(spectra.radius, one.frequency, one.signal) for one in each]
    ratio = np.array([float(np.sum(share * signal)) / total for signal in own])
    by_chance = float(np.sum(share**2 * (common + noise / spectra.n_frames) ** 2)) / total**2
    real = max(0.0, 1.0 - by_chance / max(float(np.var(ratio)), 1e-12))
    return np.asarray(np.clip(1.0 + real * (ratio - 1.0), 0.1, 10.0))


def _rms(change: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(change**2, axis=1))))
