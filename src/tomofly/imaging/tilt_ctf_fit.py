"""Refinement of a series' CTF: a defocus for every tilt, one astigmatism for all, by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomofly.imaging.ctf_search import HALF_ASTIGMATISM_PRIOR_ANGSTROM
from tomofly.imaging.tilt_ctf_model import (
    CLOSE_KNOTS,
    Demodulated,
    Evaluation,
    FloatArray,
    demodulate,
    evaluate,
)
from tomofly.imaging.tilt_ctf_search import (
    Chain,
    defocus_grid,
    narrowed,
    nominal_log_prior,
    series_evidence,
    settle_chain,
)

# Coarse rings first: the likelihood is smooth there, and astigmatism of a micrometre is within reach.
STAGES_ANGSTROM = (14.0, 9.0, 0.1)
ITERATIONS = 6
# The likelihood is close to quadratic only while no ring moves by more than about a third of its spacing.
LARGEST_TURN_RAD = 1.0
CONVERGED_ANGSTROM = 2.0
# From this underfocus on, no background with close knots can imitate the rings.
CLOSE_RINGS_ANGSTROM = 15000.0
# What the modulation gains by being fitted to noise as well as to rings, in log likelihood.
GAIN_OF_NOISE = 1.5
LEAST_INFORMATION = 1e-12
# Nobody knows better than this at what height of the slab the matter is that the rings come from.
HEIGHT_ERROR_ANGSTROM = 30.0


@dataclass(frozen=True)
class SeriesFit:
    """The most likely CTF of a series for one sense of the depth.

    `defocus` (tilt,) at the axis; `astigmatism` (2,): half of U - V times cos and sin of twice the angle;
    `defocus_error` (tilt,), `astigmatism_covariance` (2, 2); `gain` (tilt,) in log likelihood over no rings.
    """

    hand: int
    tilts: list[Demodulated]
    defocus: FloatArray
    astigmatism: FloatArray
    defocus_error: FloatArray
    data_error: FloatArray
    astigmatism_covariance: FloatArray
    gain: FloatArray
    evaluations: list[Evaluation]
    chain: Chain


def fit_series(
    tilts: list[Demodulated],
    hand: int,
    tilt_angle_deg: FloatArray,
    defocus_range_angstrom: tuple[float, float],
    nominal_defocus_angstrom: float | None,
) -> SeriesFit:
    """Search, settle and refine; twice, as more can be told once defocus and astigmatism are known."""
    grid = defocus_grid(defocus_range_angstrom)
    astigmatism, defocus = np.zeros(2), np.zeros(len(tilts))
    for stages in (STAGES_ANGSTROM, STAGES_ANGSTROM[-1:]):
        if np.median(defocus) >= CLOSE_RINGS_ANGSTROM:
            tilts = [replace(tilt, view=replace(tilt.view, knots=CLOSE_KNOTS)) for tilt in tilts]
        evidence = series_evidence(tilts, grid, astigmatism)
        evidence += nominal_log_prior(grid, nominal_defocus_angstrom)
        chain = settle_chain(evidence, grid, tilt_angle_deg)
        grid = narrowed(grid, chain.defocus)
        defocus = chain.defocus
        for finest in stages:
            defocus, astigmatism = _refine(tilts, chain, defocus, astigmatism, 1.0 / finest)
    evaluations = [evaluate(t, float(d), astigmatism, np.inf) for t, d in zip(tilts, defocus, strict=True)]
    data_error, error, covariance = _errors(evaluations, chain)
    return SeriesFit(
        hand=hand,
        tilts=tilts,
        defocus=defocus,
        astigmatism=astigmatism,
        defocus_error=error,
        data_error=data_error,
        astigmatism_covariance=covariance,
        gain=np.array([one.gain for one in evaluations]),
        evaluations=evaluations,
        chain=chain,
    )


def _refine(
    tilts: list[Demodulated], chain: Chain, defocus: FloatArray, astigmatism: FloatArray, finest: float
) -> tuple[FloatArray, FloatArray]:
    """Fisher scoring of all defocus values and the astigmatism together, with the chain as a prior."""
    start = defocus
    longest = LARGEST_TURN_RAD / max(
        float(t.view.bin_turn[t.view.frequency <= finest].max(initial=1e-9)) for t in tilts
    )
    for _ in range(ITERATIONS):
        parts = [evaluate(t, float(d), astigmatism, finest) for t, d in zip(tilts, defocus, strict=True)]
        step, turn = _joint_step(parts, chain, defocus, astigmatism)
        step = np.clip(step, -longest, longest)
        # The search has settled which rings are which: the refinement may not leave them.
        defocus = np.clip(defocus + step, start - 2 * longest, start + 2 * longest)
        astigmatism = astigmatism + turn * min(1.0, longest / max(float(np.hypot(*turn)), 1e-9))
        if max(float(np.abs(step).max()), float(np.abs(turn).max())) < CONVERGED_ANGSTROM:
            break
    return defocus, astigmatism


def _joint_step(
    parts: list[Evaluation], chain: Chain, defocus: FloatArray, astigmatism: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solve the arrow-shaped system: each tilt's defocus meets the others only through the astigmatism."""
    gradient = np.stack([part.gradient for part in parts])
    information = np.stack([part.information for part in parts])
    slope = gradient[:, 0] + chain.expected_precision * (chain.expected - defocus)
    own = information[:, 0, 0] + chain.expected_precision + LEAST_INFORMATION
    across = information[:, 0, 1:3]
    shared = information[:, 1:3, 1:3].sum(axis=0) + np.eye(2) / HALF_ASTIGMATISM_PRIOR_ANGSTROM**2
    shared = shared - np.einsum("ti,tj->ij", across, across / own[:, None])
    right = gradient[:, 1:3].sum(axis=0) - astigmatism / HALF_ASTIGMATISM_PRIOR_ANGSTROM**2
    turn = np.linalg.solve(shared, right - (across * (slope / own)[:, None]).sum(axis=0))
    return (slope - across @ turn) / own, turn


def _errors(parts: list[Evaluation], chain: Chain) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standard errors of each defocus from its own rings, and with the chain; covariance of astigmatism."""
    own = np.array([part.information[0, 0] for part in parts]) + LEAST_INFORMATION
    gain = np.array([part.gain for part in parts])
    # The modulation is fitted to noise as well as to rings, and so promises more than the rings can hold.
    excess = np.maximum(gain / np.maximum(gain - GAIN_OF_NOISE, 0.25), 1.0)
    shared = np.stack([part.information[1:3, 1:3] for part in parts]).sum(axis=0)
    shared = shared + np.eye(2) / HALF_ASTIGMATISM_PRIOR_ANGSTROM**2
    covariance = np.asarray(np.linalg.inv(shared), dtype=np.float64)
    across = np.stack([part.information[0, 1:3] for part in parts]) / own[:, None]
    variance = excess / own + np.einsum("ti,ij,tj->t", across, covariance, across)
    variance = variance + HEIGHT_ERROR_ANGSTROM**2
    together = 1.0 / (1.0 / variance + chain.expected_precision)
    return np.sqrt(variance), np.sqrt(together), covariance


def depth_scale(fit: SeriesFit, rounds: int = 3) -> tuple[float, float]:
    """How steep the defocus is found to be, over what the geometry says, with the hand's sign; and its error.

    1 or -1 where geometry and hand are right; the astigmatism is held.
    """
    scale, error = float(fit.hand), np.inf
    tilts, defocus = fit.tilts, fit.defocus
    for _ in range(rounds):
        parts = [evaluate(t, float(d), fit.astigmatism, np.inf) for t, d in zip(tilts, defocus, strict=True)]
        gradient = np.stack([part.gradient for part in parts])
        information = np.stack([part.information for part in parts])
        own = information[:, 0, 0] + fit.chain.expected_precision + LEAST_INFORMATION
        across = information[:, 0, 3] / own
        slope = gradient[:, 0] + fit.chain.expected_precision * (fit.chain.expected - defocus)
        left = float((information[:, 3, 3] - across * information[:, 0, 3]).sum())
        if left <= LEAST_INFORMATION:
            return scale, np.inf
        # The parameter is the scale relative to the depth that was taken out.
        step = float((gradient[:, 3] - across * slope).sum()) / left
        error = abs(scale) / np.sqrt(left)
        step = float(np.clip(step, -0.5, 0.5))
        defocus = defocus + (slope - information[:, 0, 3] * step) / own
        scale *= 1.0 + step
        if abs(step) < 0.02:
            break
        tilts = [demodulate(t.view, scale) for t in tilts]
    return scale, error
