"""How far the specimen moved, and how the motion is written for RELION."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.dose_weighting import accumulated_dose
from tomofly.imaging.local_motion import RELION_TERMS, spatial_basis
from tomofly.imaging.motion import FrameAlignment

FloatArray = npt.NDArray[np.float64]

# The dose (e/Å²) that divides early, fast motion from late motion, as in RELION.
EARLY_DOSE = 4.0


@dataclass(frozen=True)
class MotionMetrics:
    """Lengths of the global path in Å: total, below 4 e/Å², after that; and of each step (frame - 1,).

    local_motion_angstrom: largest local shift over field and frames, 0 without a local model;
    uncertainty_angstrom: root mean square over frames and axes of the global shift's standard deviation.
    """

    total_motion_angstrom: float
    early_motion_angstrom: float
    late_motion_angstrom: float
    step_angstrom: FloatArray
    local_motion_angstrom: float
    uncertainty_angstrom: float


def motion_metrics(
    alignment: FrameAlignment,
    *,
    pixel_size_angstrom: float,
    dose_per_frame: npt.ArrayLike,
    pre_exposure: float = 0.0,
) -> MotionMetrics:
    """Measure the path of an alignment. dose_per_frame: e/Å²; a step is early if it ends below 4 e/Å²."""
    shift = alignment.global_shift_yx_px * pixel_size_angstrom
    step = np.linalg.norm(np.diff(shift, axis=0), axis=1)
    early = accumulated_dose(len(shift), dose_per_frame, pre_exposure)[1:] < EARLY_DOSE
    uncertainty = float(np.sqrt(np.mean(alignment.uncertainty_yx_px**2))) * pixel_size_angstrom
    return MotionMetrics(
        total_motion_angstrom=float(step.sum()),
        early_motion_angstrom=float(step[early].sum()),
        late_motion_angstrom=float(step[~early].sum()),
        step_angstrom=step,
        local_motion_angstrom=_largest_local_shift(alignment) * pixel_size_angstrom,
        uncertainty_angstrom=uncertainty,
    )


def _largest_local_shift(alignment: FrameAlignment) -> float:
    if alignment.local_model is None:
        return 0.0
    height, width = alignment.frame_shape
    y, x = np.linspace(0, height - 1, 9)[:, None], np.linspace(0, width - 1, 9)[None, :]
    return float(np.linalg.norm(alignment.local_model.trajectories_at(y, x), axis=-1).max())


@dataclass(frozen=True)
class RelionMotionModel:
    """Motion as RELION's STAR files hold it (motion model version 1).

    shift_x_px, shift_y_px: (frame,) global shift to apply, relative to frame 0; coefficients: (36,) or
    None, index 18 axis + 3 space + time with axis x, y; space 1, x, x², y, y², xy for x, y in [-0.5, 0.5];
    time t, t², t³ for t the frame's number from 0; the same sign and unit as the global shift; misfit_px:
    root mean square by which the cubic in time misses this program's own model.
    """

    shift_x_px: FloatArray
    shift_y_px: FloatArray
    coefficients: FloatArray | None
    misfit_px: float


def relion_motion_model(alignment: FrameAlignment) -> RelionMotionModel:
    """Express an alignment in RELION's terms: polynomials, quadratic in space and cubic in time."""
    shift = alignment.global_shift_yx_px
    model = alignment.local_model
    if model is None:
        return RelionMotionModel(shift[:, 1].copy(), shift[:, 0].copy(), None, 0.0)
    height, width = model.frame_shape
    y, x = np.linspace(0, height - 1, 9)[:, None], np.linspace(0, width - 1, 9)[None, :]
    field = model.trajectories_at(y, x).reshape(len(shift), -1, 2)
    spatial = spatial_basis(y, x, model.frame_shape).reshape(-1, RELION_TERMS)
    powers = np.arange(len(shift), dtype=np.float64)[:, None] ** np.arange(1, 4)
    scale = powers.max(axis=0) + 1e-30
    in_time = np.linalg.pinv(powers / scale) / scale[:, None]
    coefficients = np.einsum("ap,tf,fpc->cat", np.linalg.pinv(spatial), in_time, field)
    difference = np.einsum("pa,cat,ft->fpc", spatial, coefficients, powers) - field
    misfit = float(np.sqrt(np.mean(np.sum(difference**2, axis=-1))))
    return RelionMotionModel(shift[:, 1].copy(), shift[:, 0].copy(), coefficients[::-1].ravel(), misfit)
