"""Beam-induced motion that differs from place to place: patches, a smooth model, and a test of the model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.trajectory_prior import TrajectoryFit, fit_trajectories

FloatArray = npt.NDArray[np.float64]

# Powers (of x, of y) of the terms in space: RELION's six first, then the cubic ones.
TERMS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (3, 0), (2, 1), (1, 2), (0, 3))
RELION_TERMS = 6
# Cubic terms need this many rows and columns of patches.
_PATCHES_FOR_CUBIC = 5


@dataclass(frozen=True)
class LocalMotion:
    """Shift to apply on top of the global one, as a smooth function of place for each frame.

    shift[axis] = sum over terms of coefficients[frame, axis, term] x^i y^j in pixels, x and y in [-0.5,
    0.5] across the frame, (i, j) in the order of TERMS (1, x, x², y, y², xy, x³, x²y, xy², y³; the last
    four may be absent); all 0 at frame 0. frame_shape: (y, x).
    """

    coefficients: FloatArray
    frame_shape: tuple[int, int]

    @property
    def mean_yx_px(self) -> FloatArray:
        """Shift (frame, 2) averaged over the whole frame."""
        # Over [-1/2, 1/2] squares average to 1/12, odd powers to 0.
        mean = [1 / 12 if term in ((2, 0), (0, 2)) else float(term == (0, 0)) for term in TERMS]
        return np.asarray(self.coefficients @ np.array(mean[: self.coefficients.shape[2]]))

    def without_mean(self) -> "LocalMotion":
        """Return the same motion less its mean over the frame."""
        coefficients = self.coefficients.copy()
        coefficients[..., 0] -= self.mean_yx_px
        return LocalMotion(coefficients, self.frame_shape)

    def shift_at(self, y: npt.ArrayLike, x: npt.ArrayLike, frame: int) -> FloatArray:
        """Return the local shift (..., 2) in pixels, order y, x, at pixel coordinates of one frame."""
        terms = spatial_basis(np.asarray(y), np.asarray(x), self.frame_shape, self.coefficients.shape[2])
        return np.asarray(terms @ self.coefficients[frame].T)

    def trajectories_at(self, y: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
        """Return the local shifts in all frames (frame, ..., 2) at pixel coordinates."""
        terms = spatial_basis(np.asarray(y), np.asarray(x), self.frame_shape, self.coefficients.shape[2])
        return np.asarray(np.einsum("...a,fca->f...c", terms, self.coefficients))


@dataclass(frozen=True)
class LocalFit:
    """A fitted model with its residuals as the root mean square over patches and frames, in pixels.

    fit_residual_px: of the patches' smoothed trajectories about the model; leave_one_out_residual_px: about
    the model fitted without the patch; log_evidence: by which the marginal likelihood with local motion
    exceeds that without, natural logarithm; predicted_part: of the variance of the patches' smoothed
    trajectories, the part that the model fitted to the other patches predicts, at most 1; patch_weight:
    (patch,) in [0, 1], low for patches that disagree with the others.
    """

    motion: LocalMotion
    fit_residual_px: float
    leave_one_out_residual_px: float
    log_evidence: float
    predicted_part: float
    patch_weight: FloatArray


def spatial_basis(
    y: npt.NDArray[np.generic], x: npt.NDArray[np.generic], shape: tuple[int, int], terms: int = RELION_TERMS
) -> FloatArray:
    """Return the first terms of TERMS (..., term) at pixel coordinates, x and y scaled to [-0.5, 0.5]."""
    v = (np.asarray(y, dtype=np.float64) + 0.5) / shape[0] - 0.5
    u = (np.asarray(x, dtype=np.float64) + 0.5) / shape[1] - 0.5
    return np.stack(np.broadcast_arrays(*(u**i * v**j for i, j in TERMS[:terms])), axis=-1)


def fit_local_motion(
    trajectory: FloatArray,
    uncertainty_px: FloatArray,
    centre_yx_px: FloatArray,
    frame_shape: tuple[int, int],
    patches: tuple[int, int],
) -> LocalFit:
    """Fit the model to local trajectories (patch, frame, 2), whose zero in time is arbitrary for each patch.

    uncertainty_px: (patch,) of one frame's position, only their ratios matter; centre_yx_px: (patch, 2). In
    space the trajectories are projected on polynomials made orthogonal over the patches; in time each
    degree has the prior of beam-induced motion with the amplitude that the data prefer, so a degree without
    evidence vanishes. The noise is what the polynomials leave. Patches that the others contradict count
    less (Huber, 1964).
    """
    terms = len(TERMS) if min(patches) >= _PATCHES_FOR_CUBIC else RELION_TERMS
    spatial = spatial_basis(centre_yx_px[:, 0], centre_yx_px[:, 1], frame_shape, terms)
    by_degree = np.argsort([i + j for i, j in TERMS[:terms]], kind="stable")
    centred = trajectory - trajectory.mean(axis=1, keepdims=True)
    base = 1.0 / np.maximum(uncertainty_px, 1e-6) ** 2
    base /= base.max()
    weight = np.ones(len(trajectory))
    for _ in range(3):
        root = np.sqrt(base * weight)
        axes, mixing = np.linalg.qr(spatial[:, by_degree] * root[:, None])
        fits = _fit_degrees(axes, root[:, None, None] * centred)
        smooth = [fit.smoother for fit in fits]
        along = np.stack(
            [s @ np.einsum("p,pfc->fc", a * root, centred) for s, a in zip(smooth, axes.T, strict=True)]
        )
        kept = max(smooth[1:], key=np.trace)
        residual, left_out = _residuals(centred, axes, root, smooth, along, kept)
        misfit = np.sqrt(np.mean(left_out**2, axis=(1, 2)))
        weight = np.clip(2.5 * np.median(misfit) / np.maximum(misfit, 1e-9), 1e-3, 1.0)
    coefficients = np.empty((trajectory.shape[1], 2, terms))
    solved = np.linalg.solve(mixing, along.reshape(terms, -1)).reshape(along.shape)
    coefficients[..., by_degree] = solved.transpose(1, 2, 0)
    scatter = _weighted_rms(np.einsum("fg,pgc->pfc", kept, centred), base * weight)
    return LocalFit(
        LocalMotion(coefficients - coefficients[0], frame_shape),
        _weighted_rms(residual, weight),
        _weighted_rms(left_out, weight),
        predicted_part=1.0 - (_weighted_rms(left_out, base * weight) / max(scatter, 1e-12)) ** 2,
        log_evidence=sum({id(fit): fit.log_evidence for fit in fits}.values()),
        patch_weight=weight,
    )


def _fit_degrees(axes: FloatArray, whitened: FloatArray) -> list[TrajectoryFit]:
    """Choose a prior in time for each degree of the axes (patch, term); returned once for each term."""
    along = np.einsum("pa,pfc->fac", axes, whitened)
    n_patches, terms = axes.shape
    # What the polynomials leave, as independent samples of the noise: project on the rest of the patches'
    # space.
    beyond = np.linalg.svd(axes)[0][:, terms:] if n_patches > terms else axes
    noise = np.einsum("pa,pfc->fac", beyond, whitened).reshape(len(along), -1)
    fits: list[TrajectoryFit] = []
    for first, last in ((0, 1), (1, 3), (3, 6), (6, 10)):
        degree = along[:, first : min(last, terms)]
        if degree.shape[1]:
            fits += [fit_trajectories(degree.reshape(len(degree), -1), noise)] * degree.shape[1]
    return fits


def _residuals(
    centred: FloatArray,
    axes: FloatArray,
    root: FloatArray,
    smooth: list[FloatArray],
    along: FloatArray,
    kept: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return smoothed residuals (patch, frame, 2) of the model, and of the model without the patch.

    For a linear smoother the latter follow from the former, with the part that the patch has in its own fit.
    """
    residual = centred - np.einsum("pa,afc->pfc", axes / root[:, None], along)
    left_out = np.empty_like(residual)
    for patch, own in enumerate(axes):
        hat = sum(a * a * s for a, s in zip(own, smooth, strict=True))
        left_out[patch] = kept @ np.linalg.solve(np.eye(len(kept)) * (1 + 1e-6) - hat, residual[patch])
    return np.einsum("fg,pgc->pfc", kept, residual), left_out


def _weighted_rms(residual: FloatArray, weight: FloatArray) -> float:
    power = np.mean(np.sum(residual**2, axis=2), axis=1)
    return float(np.sqrt(np.average(power, weights=weight)))
