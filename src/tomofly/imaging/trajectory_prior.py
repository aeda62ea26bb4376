"""What motion under the beam looks like: smooth, fast at first, slower later; how strongly, the data decide.

A trajectory is a Gaussian process of the warped time u = log(1 + t / t0): a constant speed in u plus an
integrated Wiener process (the prior behind cubic smoothing splines; Wahba, 1978). Amplitude, roughness and
t0 are chosen by the greatest marginal likelihood of the measured positions, so jerky motion is followed and
noise is not.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# t0 as a part of the movie's length; the last is as good as no warping.
_WARPS = (0.03, 0.15, 1.0, 100.0)
# Power of the integrated Wiener process relative to that of the constant speed.
_ROUGHNESS = (0.3, 3.0, 30.0, 300.0, 3000.0, 30000.0)
# Ratios of the trajectories' variance to the noise's that are tried.
_SIGNAL_TO_NOISE = 10.0 ** np.linspace(-3, 6, 37)


@dataclass(frozen=True)
class TrajectoryPrior:
    """Principal modes (frame, mode) of trajectories about their mean, and their variances (mode,)."""

    modes: FloatArray
    variance: FloatArray


@dataclass(frozen=True)
class TrajectoryFit:
    """The prior that the data prefer.

    shrinkage: (mode,) in [0, 1), the part of each mode that is kept; noise_variance: (mode,) of the
    measurement; log_evidence: natural logarithm by which the marginal likelihood exceeds that of no motion
    at all.
    """

    modes: FloatArray
    shrinkage: FloatArray
    noise_variance: FloatArray
    log_evidence: float

    @property
    def smoother(self) -> FloatArray:
        """Matrix (frame, frame) that turns measured positions into expected ones with mean 0."""
        return np.asarray(self.modes * self.shrinkage @ self.modes.T)

    @property
    def standard_deviation(self) -> FloatArray:
        """Uncertainty (frame,) of an expected position about the mean of its trajectory."""
        return np.asarray(np.sqrt(self.modes**2 @ (self.shrinkage * self.noise_variance)))


@lru_cache(maxsize=8)
def trajectory_priors(n_frames: int) -> tuple[TrajectoryPrior, ...]:
    """Return the priors to choose from for a movie of n_frames (at least 2) frames."""
    time = np.arange(n_frames, dtype=np.float64)
    centre = np.eye(n_frames) - 1.0 / n_frames
    priors = []
    for warp in _WARPS:
        u = np.log1p(time / (warp * n_frames)) / np.log1p((n_frames - 1) / (warp * n_frames))
        low, high = np.minimum.outer(u, u), np.maximum.outer(u, u)
        wiener = low * low * (3 * high - low) / 2
        for roughness in _ROUGHNESS:
            covariance = centre @ (np.outer(u, u) + roughness * wiener) @ centre
            variance, modes = np.linalg.eigh(covariance)
            # The first mode is the mean over frames, which centring has taken away.
            kept = np.s_[:0:-1]
            variance = np.maximum(variance[kept], 0.0)
            priors.append(TrajectoryPrior(modes[:, kept], variance / variance.mean()))
    return tuple(priors)


def fit_trajectories(positions: FloatArray, noise: FloatArray | float) -> TrajectoryFit:
    """Choose the prior and its amplitude for positions (frame, m) that share both.

    noise: the variance of one position, or (frame, k) samples of its error. The power of these is taken
    mode by mode, for errors that wander with time, as those of diffusing ice do, look like motion.
    """
    best: TrajectoryFit | None = None
    best_score = -np.inf
    columns = positions.shape[1]
    for prior in trajectory_priors(len(positions)):
        power = np.sum((prior.modes.T @ positions) ** 2, axis=1)
        variance = _mode_noise(prior, noise) if isinstance(noise, np.ndarray) else np.full(power.size, noise)
        ratio = _SIGNAL_TO_NOISE[:, None] * (variance.mean() * prior.variance / variance)
        gain = 0.5 * np.sum(power / variance * ratio / (1 + ratio) - columns * np.log1p(ratio), axis=1)
        chosen = int(np.argmax(gain))
        if gain[chosen] > best_score:
            best_score = float(gain[chosen])
            best = TrajectoryFit(prior.modes, ratio[chosen] / (1 + ratio[chosen]), variance, best_score)
    if best is None:
        raise ValueError("positions are not finite")
    return best


# The noise of a mode is averaged with that of its neighbours until it rests on so many samples.
_LEAST_SAMPLES = 60


def _mode_noise(prior: TrajectoryPrior, noise: FloatArray) -> FloatArray:
    power = np.sum((prior.modes.T @ noise) ** 2, axis=1)
    half = min(int(np.ceil(_LEAST_SAMPLES / noise.shape[1])) // 2, power.size)
    window = np.ones(2 * half + 1)
    samples = np.convolve(np.full(power.size, noise.shape[1], dtype=np.float64), window, "same")
    mean = np.convolve(power, window, "same")[: power.size] / samples[: power.size]
    return np.asarray(np.maximum(mean, 1e-12))
