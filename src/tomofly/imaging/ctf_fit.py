"""Refinement of CTF parameters by maximum likelihood, with their uncertainties.

The averaged power of each sample is a gamma variable whose mean is ``b (1 - m cos 2 chi)``: a smooth
background `b` and a modulation depth `m`, both splines of the frequency, and the CTF. Background, depth and
CTF are fitted to the samples together, so that no subtraction made beforehand can move the rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.ctf_ring import BACKGROUND_SPLINES, FloatVector, SampleVector, ThonRing, spline_basis
from tomofly.imaging.ctf_search import HALF_ASTIGMATISM_PRIOR_ANGSTROM, CtfCandidate
from tomofly.imaging.spectrum import taper_coherence, taper_noise

DEPTH_SPLINES = 6
LARGEST_DEPTH = 0.6
# Samples that stick out by more than this many standard deviations (lattice spots) count as this much.
OUTLIER_SIGMAS = 6.0
# What a spectrum without rings gains in the median.
LOG_LIKELIHOOD_GAIN_OF_NOISE = 8.0
# Steps are converged where they are this small against the standard error.
CONVERGED_SIGMAS = 0.02
# The likelihood is close to quadratic only while no ring moves by more than about a third of its spacing.
LARGEST_TURN_RAD = 1.0


@dataclass(frozen=True)
class CtfParameters:
    """Mean defocus and half the astigmatism as a vector (cos, sin of twice the angle), Å; phase in rad."""

    mean_defocus: float
    astigmatism_cos: float
    astigmatism_sin: float
    phase_shift_rad: float

    @property
    def half_astigmatism(self) -> float:
        """Half of U - V, Å."""
        return float(np.hypot(self.astigmatism_cos, self.astigmatism_sin))

    @property
    def defocus_u(self) -> float:
        """The larger defocus, Å."""
        return self.mean_defocus + self.half_astigmatism

    @property
    def defocus_v(self) -> float:
        """The smaller defocus, Å."""
        return self.mean_defocus - self.half_astigmatism

    @property
    def angle_deg(self) -> float:
        """Direction of U from +x towards +y, 0 to 180."""
        return float(np.rad2deg(0.5 * np.arctan2(self.astigmatism_sin, self.astigmatism_cos)) % 180.0)

    def vector(self) -> FloatVector:
        """The four numbers in order."""
        return np.array([self.mean_defocus, self.astigmatism_cos, self.astigmatism_sin, self.phase_shift_rad])


@dataclass(frozen=True)
class CtfFit:
    """The most likely parameters, their covariance (4, 4) and the smooth curves that go with them.

    `background` and `depth` by radial bin of the ring; `log_likelihood_gain` is over a background
    without rings, divided by `misfit` where that exceeds 1: the variance of the residuals over that of noise.
    """

    parameters: CtfParameters
    covariance: FloatVector
    background: FloatVector
    depth: FloatVector
    log_likelihood_gain: float
    misfit: float


class RingModel:
    """The samples of a ring with everything that stays the same while the parameters move."""

    def __init__(self, ring: ThonRing, optics: CtfOptics) -> None:
        self.ring = ring
        self.optics = optics
        squared = ring.frequency**2
        self.phase_per_defocus = optics.defocus_coefficient * squared
        self.fixed_phase = optics.amplitude_phase_rad - optics.spherical_coefficient * squared**2
        self.slope_per_defocus = 2 * optics.defocus_coefficient * ring.frequency
        self.fixed_slope = 4 * optics.spherical_coefficient * ring.frequency * squared
        cos, sin = np.cos(ring.azimuth_rad), np.sin(ring.azimuth_rad)
        self.cos_2a, self.sin_2a = cos * cos - sin * sin, 2 * sin * cos
        self.x_share = np.abs(cos) / (math.pi * ring.tile_length_angstrom)
        self.y_share = np.abs(sin) / (math.pi * ring.tile_length_angstrom)
        bins = ring.bin_frequency
        low, high = float(ring.frequency.min()), float(ring.frequency.max())
        self.background_basis = spline_basis(bins, low, high, BACKGROUND_SPLINES)
        self.depth_basis = spline_basis(bins, low, high, DEPTH_SPLINES)
        self.power = ring.power

    def chi(self, p: FloatVector) -> SampleVector:
        """Phase at each sample for (mean, cos, sin, phase)."""
        mean, along, diagonal, phase = (float(value) for value in p)
        defocus = mean + along * self.cos_2a + diagonal * self.sin_2a
        return np.asarray(self.phase_per_defocus * defocus + (self.fixed_phase + phase))

    def coherence(self, p: FloatVector) -> SampleVector:
        """What the finite tile leaves of the rings at each sample."""
        x, y = self._lag_fractions(p)
        return taper_coherence(x) * taper_coherence(y)

    def rings(self, p: FloatVector) -> tuple[SampleVector, SampleVector]:
        """The ripple -cos(2 chi) as the tiles show it, and its derivative by chi."""
        twice = 2 * self.chi(p)
        coherence = self.coherence(p)
        return -coherence * np.cos(twice), 2 * coherence * np.sin(twice)

    def noise(self, p: FloatVector) -> SampleVector:
        """Variance, at each sample, of the noise that ripples like the rings, over that of white noise."""
        x, y = self._lag_fractions(p)
        return taper_noise(x) * taper_noise(y)

    def _lag_fractions(self, p: FloatVector) -> tuple[SampleVector, SampleVector]:
        """Tiles, along x and y, over which the CTF carries each frequency, without astigmatism."""
        slope = self.slope_per_defocus * float(p[0]) - self.fixed_slope
        return np.asarray(slope * self.x_share), np.asarray(slope * self.y_share)

    def smooth_curves(self, ripple: SampleVector, weight: SampleVector) -> tuple[FloatVector, FloatVector]:
        """Background and depth by radial bin: least squares with both held at 0 or more."""
        where, size = self.ring.radial_bin, self.ring.bin_frequency.size

        def total(values: SampleVector) -> FloatVector:
            return np.bincount(where, values, minlength=size).astype(np.float64)

        wr = weight * ripple
        ones, first, second = total(weight), total(wr), total(wr * ripple)
        design_b, design_g = self.background_basis, self.depth_basis
        cross = design_b.T @ (first[:, None] * design_g)
        normal = np.block(
            [
                [design_b.T @ (ones[:, None] * design_b), cross],
                [cross.T, design_g.T @ (second[:, None] * design_g)],
            ]
        )
        right = np.concatenate((design_b.T @ total(weight * self.power), design_g.T @ total(wr * self.power)))
        ridge = 1e-9 * np.trace(normal) / normal.shape[0]
        factor = np.linalg.cholesky(normal + ridge * np.eye(normal.shape[0]))
        coefficients, _ = nnls(factor.T, np.linalg.solve(factor, right))
        background = np.maximum(design_b @ coefficients[: design_b.shape[1]], 1e-6)
        depth = design_g @ coefficients[design_b.shape[1] :] / background
        return background, np.clip(depth, 0.0, LARGEST_DEPTH)

    def curves_at(self, p: FloatVector) -> tuple[FloatVector, FloatVector]:
        """Background and depth for given parameters and nothing else known."""
        return _settled_curves(self, self.rings(p)[0])


@dataclass(frozen=True)
class _State:
    """One evaluation of the model at given parameters and smooth curves.

    `information` is the Fisher information of independent samples; `jacobian` (parameter, sample) of the log
    of the expected power.
    """

    likelihood: float
    gradient: FloatVector
    information: FloatVector
    jacobian: SampleVector
    expected: SampleVector
    misfit: float


def refine_ctf(
    ring: ThonRing,
    optics: CtfOptics,
    start: CtfCandidate,
    *,
    fit_phase: bool,
    iterations: int = 12,
) -> CtfFit:
    """Maximise the likelihood from `start` by Fisher scoring; the smooth curves follow each step."""
    model = RingModel(ring, optics)
    free = np.array([True, True, True, fit_phase])
    p = np.array(
        [
            start.mean_defocus_angstrom,
            start.astigmatism_cos_angstrom,
            start.astigmatism_sin_angstrom,
            np.deg2rad(start.phase_shift_deg),
        ]
    )
    rings = model.rings(p)
    curves = _settled_curves(model, rings[0])
    state = _evaluate(model, p, rings, curves)
    for _ in range(iterations):
        step = _bounded_step(model, state, free)
        p = p + step
        rings = model.rings(p)
        curves = model.smooth_curves(rings[0], 1.0 / state.expected**2)
        state = _evaluate(model, p, rings, curves)
        if float(step @ state.information @ step) < CONVERGED_SIGMAS**2:
            break
    flat = _evaluate(model, p, rings, _flat_curves(model))
    gain = (state.likelihood - flat.likelihood) / max(1.0, state.misfit)
    # The depth is fitted to noise as well as to rings, and so promises more than the rings can hold.
    excess = gain / max(gain - LOG_LIKELIHOOD_GAIN_OF_NOISE, 1.0)
    return CtfFit(
        parameters=CtfParameters(*(float(value) for value in p)),
        covariance=_covariance(model, p, state, free) * max(excess, 1.0),
        background=curves[0],
        depth=curves[1],
        log_likelihood_gain=gain,
        misfit=state.misfit,
    )


def _settled_curves(model: RingModel, ripple: SampleVector) -> tuple[FloatVector, FloatVector]:
    """Smooth curves from nothing: two rounds, the second with the weights that follow from the first."""
    curves = model.smooth_curves(ripple, np.ones_like(model.power))
    return model.smooth_curves(ripple, 1.0 / _expected_power(model, ripple, curves) ** 2)


def _flat_curves(model: RingModel) -> tuple[FloatVector, FloatVector]:
    """The best background without any rings."""
    nothing = np.zeros_like(model.power)
    background, _ = model.smooth_curves(nothing, np.ones_like(model.power))
    return background, np.zeros_like(background)


def _expected_power(
    model: RingModel, ripple: SampleVector, curves: tuple[FloatVector, FloatVector]
) -> SampleVector:
    """b (1 + m ripple) at each sample."""
    background, depth = (curve.astype(np.float32)[model.ring.radial_bin] for curve in curves)
    return np.asarray(background * (1.0 + depth * ripple))


def _evaluate(
    model: RingModel,
    p: FloatVector,
    rings: tuple[SampleVector, SampleVector],
    curves: tuple[FloatVector, FloatVector],
) -> _State:
    """Log likelihood of gamma variables (Whittle 1953), its gradient and Fisher information."""
    dof = model.ring.samples_dof
    ripple, by_phase = rings
    background, depth = curves
    expected = _expected_power(model, ripple, curves)
    # Strong spots are held back: they are lattice or detector, and few.
    residual = np.minimum(model.power / expected - 1.0, OUTLIER_SIGMAS / math.sqrt(model.ring.single_dof))
    slope = by_phase * (background * depth).astype(np.float32)[model.ring.radial_bin] / expected
    jacobian = np.empty((4, slope.size), dtype=np.float32)
    np.multiply(slope, model.phase_per_defocus, out=jacobian[0])
    np.multiply(jacobian[0], model.cos_2a, out=jacobian[1])
    np.multiply(jacobian[0], model.sin_2a, out=jacobian[2])
    jacobian[3] = slope
    prior = np.array([0.0, 1.0, 1.0, 0.0]) / HALF_ASTIGMATISM_PRIOR_ANGSTROM**2
    fit = -dof * float(np.sum(np.log(expected) + residual, dtype=np.float64))
    return _State(
        likelihood=fit - 0.5 * float(prior @ p**2),
        gradient=dof * (jacobian @ residual).astype(np.float64) - prior * p,
        information=dof * (jacobian @ jacobian.T).astype(np.float64) + np.diag(prior),
        jacobian=jacobian,
        expected=expected,
        misfit=float(model.ring.single_dof * np.mean(residual**2, dtype=np.float64)),
    )


def _bounded_step(
    model: RingModel, state: _State, free: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> FloatVector:
    """Fisher scoring step of the free parameters, cut where it would turn the outermost rings too far."""
    both = np.ix_(free, free)
    step = np.zeros(free.size)
    step[free] = np.linalg.solve(
        state.information[both] + 1e-12 * np.eye(int(free.sum())), state.gradient[free]
    )
    turn = float(model.phase_per_defocus.max() * np.abs(step[:3]).sum() + abs(step[3]))
    return step * min(1.0, LARGEST_TURN_RAD / max(turn, 1e-12))


def _covariance(
    model: RingModel, p: FloatVector, state: _State, free: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> FloatVector:
    """Covariance of the estimate (Huber 1967), widened where the residuals exceed counting noise."""
    covariance = np.zeros((free.size, free.size))
    both = np.ix_(free, free)
    inverse = np.linalg.pinv(state.information[both] + 1e-12 * np.eye(int(free.sum())), hermitian=True)
    jacobian = state.jacobian[free]
    score_variance = model.ring.samples_dof * ((jacobian * model.noise(p)) @ jacobian.T).astype(np.float64)
    covariance[both] = inverse @ score_variance @ inverse * max(1.0, state.misfit)
    return covariance
