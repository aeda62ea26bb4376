"""Beam-induced motion that differs from place to place: patches, a smooth model, and a test of the model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

FloatArray = npt.NDArray[np.float64]

SPATIAL_TERMS = ("1", "x", "x^2", "y", "y^2", "xy")
# A spline with this many functions in time, with knots dense early, where beam-induced motion is fast.
SPLINE_FUNCTIONS = 6


@dataclass(frozen=True)
class LocalMotion:
    """Shift to apply on top of the global one, as a smooth function of place and frame.

    shift = sum over a, b of coefficients[axis, a, b] spatial_a(x, y) temporal[frame, b], in pixels; spatial
    is {1, x, x², y, y², xy} with x, y in [-0.5, 0.5] across the frame. temporal: (frame, b), 0 at frame 0;
    basis: "cubic" (t, t², t³ with t in frames) or "spline"; frame_shape: (y, x).
    """

    coefficients: FloatArray
    temporal: FloatArray
    basis: str
    frame_shape: tuple[int, int]

    def shift_at(self, y: npt.ArrayLike, x: npt.ArrayLike, frame: npt.ArrayLike) -> FloatArray:
        """Return the local shift (..., 2) in pixels, order y, x, at pixel coordinates of a frame."""
        spatial = spatial_basis(np.asarray(y), np.asarray(x), self.frame_shape)
        temporal = self.temporal[np.asarray(frame)]
        return np.asarray(np.einsum("...a,cab,...b->...c", spatial, self.coefficients, temporal))

    def trajectories_at(self, y: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
        """Return the local shifts in all frames (frame, ..., 2) at pixel coordinates."""
        spatial = spatial_basis(np.asarray(y), np.asarray(x), self.frame_shape)
        return np.asarray(np.einsum("...a,cab,fb->f...c", spatial, self.coefficients, self.temporal))


@dataclass(frozen=True)
class LocalFit:
    """A fitted model with its residuals as the root mean square over patches and frames, in pixels.

    fit_residual_px: of the patches' smoothed trajectories about the model; leave_one_out_residual_px: about
    the model fitted without the patch; gain: by which part the model, with each patch left out in turn,
    makes the patches' scatter smaller than no local motion does (at most 0: the model predicts nothing);
    patch_weight: (patch,) in [0, 1], below 1 for patches that disagree with the others.
    """

    motion: LocalMotion
    fit_residual_px: float
    leave_one_out_residual_px: float
    gain: float
    patch_weight: FloatArray


def spatial_basis(
    y: npt.NDArray[np.generic], x: npt.NDArray[np.generic], shape: tuple[int, int]
) -> FloatArray:
    """Return {1, x, x², y, y², xy} (..., 6) at pixel coordinates, x and y scaled to [-0.5, 0.5]."""
    v = (np.asarray(y, dtype=np.float64) + 0.5) / shape[0] - 0.5
    u = (np.asarray(x, dtype=np.float64) + 0.5) / shape[1] - 0.5
    v, u = np.broadcast_arrays(v, u)
    return np.stack([np.ones_like(u), u, u * u, v, v * v, u * v], axis=-1)


def cubic_basis(n_frames: int) -> FloatArray:
    """Return t, t², t³ (frame, 3) with t the frame's number; fewer columns for fewer than four frames."""
    return np.arange(n_frames, dtype=np.float64)[:, None] ** np.arange(1, min(3, n_frames - 1) + 1)


def spline_basis(n_frames: int, functions: int = SPLINE_FUNCTIONS) -> FloatArray:
    """Return cubic B-splines (frame, functions), 0 at frame 0, with knots at (n - 1) (j / m)²."""
    inner = (n_frames - 1) * np.linspace(0.0, 1.0, functions - 1) ** 2
    knots = np.concatenate([np.zeros(3), inner, np.full(3, n_frames - 1.0)])
    design = BSpline.design_matrix(np.arange(n_frames, dtype=np.float64), knots, 3).toarray()
    return np.asarray((design - design[0])[:, 1:], dtype=np.float64)


def fit_local_motion(
    trajectory: FloatArray,
    uncertainty_px: FloatArray,
    centre_yx_px: FloatArray,
    frame_shape: tuple[int, int],
    temporal: FloatArray,
    basis: str,
) -> LocalFit:
    """Fit the model to local trajectories (patch, frame, 2), whose zero in time is arbitrary for each patch.

    uncertainty_px: (patch,) of one frame's position; centre_yx_px: (patch, 2). Least squares in two steps,
    exact because every patch is seen in every frame: each trajectory onto the functions of time, then their
    coefficients onto the functions of place. Patches that the others contradict are weighted down (Huber,
    1964).
    """
    spatial = spatial_basis(centre_yx_px[:, 0], centre_yx_px[:, 1], frame_shape)
    varying = temporal - temporal.mean(axis=0)
    centred = trajectory - trajectory.mean(axis=1, keepdims=True)
    in_time = np.einsum("bf,pfc->pbc", np.linalg.pinv(varying), centred)
    base = 1.0 / np.maximum(uncertainty_px, 1e-6) ** 2
    base /= base.max()
    weight = np.ones(len(trajectory))
    for _ in range(4):
        coefficients, left_out = _fit_in_space(spatial, in_time, base * weight)
        misfit = np.sqrt(np.mean(np.einsum("fb,pbc->pfc", varying, left_out) ** 2, axis=(1, 2)))
        weight = np.minimum(1.0, 2.5 * np.median(misfit) / np.maximum(misfit, 1e-9))
    residual = np.einsum("fb,pbc->pfc", varying, in_time - np.einsum("pa,cab->pbc", spatial, coefficients))
    predicted = np.einsum("fb,pbc->pfc", varying, in_time - left_out)
    scatter = np.sum(base * weight * np.sum(centred**2, axis=(1, 2)))
    unexplained = np.sum(base * weight * np.sum((centred - predicted) ** 2, axis=(1, 2)))
    return LocalFit(
        LocalMotion(coefficients, temporal, basis, frame_shape),
        fit_residual_px=_weighted_rms(residual, weight),
        leave_one_out_residual_px=_weighted_rms(np.einsum("fb,pbc->pfc", varying, left_out), weight),
        gain=float(1.0 - unexplained / scatter) if scatter > 0 else 0.0,
        patch_weight=weight,
    )


def _weighted_rms(residual: FloatArray, weight: FloatArray) -> float:
    power = np.mean(np.sum(residual**2, axis=2), axis=1)
    return float(np.sqrt(np.average(power, weights=weight)))


def _fit_in_space(
    spatial: FloatArray, in_time: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients (2, a, b) and the residuals (patch, b, 2) of each patch when it is left out."""
    root = np.sqrt(weight)[:, None]
    solve = np.linalg.pinv(spatial * root)
    coefficients = np.einsum("ap,pbc->cab", solve * root.T, in_time)
    leverage = np.einsum("pa,ap->p", spatial * root, solve)
    residual = in_time - np.einsum("pa,cab->pbc", spatial, coefficients)
    return coefficients, residual / np.maximum(1.0 - leverage, 1e-6)[:, None, None]
