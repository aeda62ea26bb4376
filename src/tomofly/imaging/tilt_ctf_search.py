"""Defocus of every tilt by exhaustive search, with what neighbouring tilts say of each other.

A tilt at 3 e/Å² may show its rings too faintly to be sure. Its neighbours help: the specimen's height drifts
with the tilt angle, and each tilt's focus scatters about that, save for a few that may be anywhere. Forward
and backward sums over this chain (Rabiner 1989) give each tilt's defocus from all of them. How large drift
and scatter are is weighed by how well they explain the series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.spectrum import taper_coherence, taper_noise
from tomofly.imaging.tilt_ctf_model import Demodulated, FloatArray, TiltView, smooth_bases

DEFOCUS_STEP_ANGSTROM = 100.0
# Drift from one tilt to the next and scatter of each tilt, Å: the combinations that are weighed.
CHAIN_SIZES_ANGSTROM = (
    (100.0, 100.0), (100.0, 300.0), (100.0, 800.0), (400.0, 100.0), (400.0, 500.0), (1000.0, 300.0),
    (1000.0, 2000.0),
)  # fmt: skip
# One tilt in twenty may be anywhere: refocused, shifted or badly measured.
UNEXPECTED_SHARE = 0.05
# A nominal defocus is right to about this much, and may be wrong altogether.
NOMINAL_SIGMA_ANGSTROM = 5000.0
NOMINAL_WRONG_SHARE = 0.05


# The second search stays this close to what the first has found in any tilt.
SECOND_MARGIN_ANGSTROM = 4000.0


def defocus_grid(defocus_range_angstrom: tuple[float, float]) -> FloatArray:
    """The defocus values that are tried, Å."""
    low, high = defocus_range_angstrom
    count = int(np.ceil((high - low) / DEFOCUS_STEP_ANGSTROM)) + 1
    return np.asarray(low + DEFOCUS_STEP_ANGSTROM * np.arange(count, dtype=np.float64))


def narrowed(grid: FloatArray, defocus: FloatArray) -> FloatArray:
    """The part of `grid` around what the tilts were found to have."""
    near = (grid >= defocus.min() - SECOND_MARGIN_ANGSTROM) & (grid <= defocus.max() + SECOND_MARGIN_ANGSTROM)
    return np.asarray(grid[near])


@dataclass(frozen=True)
class RingTable:
    """Rings at each defocus that is tried, the same for all tilts whose tiles are alike; (defocus, bin).

    `wave` exp(2i chi) at the axis, `coherence` what finite tiles leave of it, `noise` the variance of noise
    that ripples alike, over that of smooth noise.
    """

    grid: FloatArray
    wave: npt.NDArray[np.complex64]
    squared_wave: npt.NDArray[np.complex64]
    coherence: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]


def ring_table(view: TiltView, grid: FloatArray) -> RingTable:
    """Tabulate the rings of tiles like those of `view` over `grid` (Å)."""
    fixed = (view.fixed * view.count).sum(axis=0) / np.maximum(view.count.sum(axis=0), 1.0)
    wave = np.exp(2j * (grid[:, None] * view.bin_turn + fixed)).astype(np.complex64)
    x, y = (scale.max(axis=0) for scale in view.lag_scale)
    lag = np.maximum(x, y) * (grid[:, None] - view.fixed_lag.mean(axis=0))
    return RingTable(grid, wave, wave**2, taper_coherence(lag), taper_noise(lag))


def series_evidence(tilts: list[Demodulated], grid: FloatArray, astigmatism: FloatArray) -> FloatArray:
    """Gain in log likelihood of every tilt at each defocus of `grid`; (tilt, defocus)."""
    tables: dict[tuple[float, ...], RingTable] = {}
    rows = []
    for tilt in tilts:
        view = tilt.view
        kind = (*view.frequency[[0, -1]], float(view.count.sum()))
        if kind not in tables:
            tables[kind] = ring_table(view, grid)
        rows.append(defocus_evidence(tilt, tables[kind], astigmatism))
    return np.stack(rows)


def defocus_evidence(tilt: Demodulated, table: RingTable, astigmatism: FloatArray) -> FloatArray:
    """Gain in log likelihood of one tilt at each defocus, with the best single fall-off; (defocus,)."""
    view = tilt.view
    data, single, double = (part.astype(np.complex64) for part in _without_azimuth(tilt, astigmatism))
    envelope = table.coherence * view.spread.mean(axis=0).astype(np.float32)
    ripple = -envelope * (table.wave * data).real
    ones = -envelope * (table.wave * single).real
    total = tilt.moments[0] * view.count.sum(axis=0)
    squares = 0.5 * envelope**2 * (total.astype(np.float32) + (table.squared_wave * double).real)
    basis, falls = smooth_bases(view)
    normal = basis.T @ (total[:, None] * basis)
    flat = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(normal)), basis.T)
    level = flat @ tilt.mean
    best = np.zeros(table.grid.size)
    for fall in falls.T:
        cross = ones @ (fall[:, None] * basis)
        match = ripple @ fall - cross @ level
        norm = squares @ fall**2 - np.einsum("gs,gs->g", cross, ones @ (fall[:, None] * flat.T))
        noise = table.noise @ (fall**2 / (fall**2).sum())
        best = np.maximum(best, 0.5 * np.maximum(match, 0.0) ** 2 / np.maximum(norm, 1e-12) / noise)
    return np.asarray(best * view.independence / view.misfit)


def _without_azimuth(tilt: Demodulated, astigmatism: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums over sectors (bin,) of the demodulated data and its companions, the astigmatism taken out."""
    view = tilt.view
    turned = np.exp(2j * view.turn * (astigmatism[0] * view.cos_2a + astigmatism[1] * view.sin_2a))
    data = (turned * tilt.data[0]).sum(axis=0)
    single = (turned * view.count).sum(axis=0) * tilt.single[0]
    double = (turned**2 * view.count).sum(axis=0) * tilt.double[0]
    return data, single, double


def nominal_log_prior(grid: FloatArray, nominal_defocus_angstrom: float | None) -> FloatArray:
    """Log of how likely each defocus is before anything is measured, up to a constant."""
    if nominal_defocus_angstrom is None:
        return np.zeros(grid.size)
    distance = (grid - nominal_defocus_angstrom) / NOMINAL_SIGMA_ANGSTROM
    core = np.exp(-0.5 * distance**2)
    return np.asarray(np.log(core / core.sum().clip(1e-300) + NOMINAL_WRONG_SHARE / grid.size))


@dataclass(frozen=True)
class Chain:
    """What the series says of each tilt: most likely defocus (tilt,), and what the other tilts expect.

    `expected` and `expected_precision` (tilt,): mean and inverse variance (Å⁻²; 0 where the others do not
    bind it) of each tilt's defocus from its neighbours alone.
    """

    defocus: FloatArray
    expected: FloatArray
    expected_precision: FloatArray


def settle_chain(evidence: FloatArray, grid: FloatArray, tilt_angle_deg: FloatArray) -> Chain:
    """Weigh the tilts' evidence (tilt, defocus) against each other along the tilt angle."""
    order = np.argsort(tilt_angle_deg, kind="stable")
    top = evidence.max(axis=1, keepdims=True)
    likelihood = np.exp(evidence - top)
    results = [_expectations(likelihood[order], grid, *sizes) for sizes in CHAIN_SIZES_ANGSTROM]
    scores = np.array([score for _, score in results])
    weights = np.exp(scores - scores.max())
    others = np.einsum("m,mtg->tg", weights / weights.sum(), np.stack([found for found, _ in results]))
    others = others[np.argsort(order)]
    defocus = grid[np.argmax(others * likelihood, axis=1)]
    return Chain(defocus, *_core(others, grid, defocus))


def _expectations(
    likelihood: FloatArray, grid: FloatArray, drift: float, scatter: float
) -> tuple[FloatArray, float]:
    """Probability (tilt, defocus) of each tilt's defocus given the others, and the log evidence of all."""
    count, size = likelihood.shape
    move = _spread_matrix(grid, drift)
    blur = (1 - UNEXPECTED_SHARE) * _spread_matrix(grid, scatter) + UNEXPECTED_SHARE / size
    seen = likelihood @ blur
    before, after = np.full((count, size), 1.0 / size), np.full((count, size), 1.0 / size)
    score = 0.0
    for i in range(count):
        both = before[i] * seen[i]
        score += float(np.log(both.sum()))
        if i + 1 < count:
            before[i + 1] = move @ (both / both.sum())
    for i in range(count - 1, 0, -1):
        back = move @ (after[i] * seen[i])
        after[i - 1] = back / back.sum()
    height = before * after
    return (height / height.sum(axis=1, keepdims=True)) @ blur, score


def _spread_matrix(grid: FloatArray, sigma: float) -> FloatArray:
    """Normal spread from each defocus to the others; symmetric, rows sum to 1 save at the ends."""
    share = np.exp(-0.5 * ((grid[:, None] - grid[None, :]) / sigma) ** 2)
    return np.asarray(share / share.sum(axis=0).max())


def _core(others: FloatArray, grid: FloatArray, defocus: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and precision of what the other tilts expect, as far as the tilt itself agrees with them."""
    floor = others.min(axis=1, keepdims=True)
    core = others - floor
    total = core.sum(axis=1)
    bound = total > 0.5 * others.sum(axis=1)
    core /= np.maximum(total, 1e-300)[:, None]
    mean = core @ grid
    variance = np.maximum(core @ grid**2 - mean**2, DEFOCUS_STEP_ANGSTROM**2)
    here = others[np.arange(len(defocus)), np.searchsorted(grid, defocus)]
    agreement = 1.0 - floor[:, 0] / here
    return np.where(bound, mean, defocus), np.where(bound, agreement / variance, 0.0)
