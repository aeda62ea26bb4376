"""What the benchmarks of tilt-series alignment compare with the truth."""

import numpy as np
import numpy.typing as npt

from tomofly.simulate.tilt_series import SimulatedSeries

FloatArray = npt.NDArray[np.float64]


def unexplained(series: SimulatedSeries, shift_yx_px: FloatArray) -> FloatArray:
    """Errors (tilt, 2) of shifts that no movement of the specimen explains."""
    tilt, axis = np.deg2rad(series.tilt_angle_deg), np.deg2rad(series.axis_angle_deg)
    across = np.stack([np.cos(tilt), np.zeros_like(tilt), np.sin(tilt)], axis=-1)
    along = np.broadcast_to([0.0, 1.0, 0.0], across.shape)
    sine, cosine = np.sin(axis)[:, None], np.cos(axis)[:, None]
    design = np.stack([across * sine + along * cosine, across * cosine - along * sine], 1).reshape(-1, 3)
    error = (shift_yx_px - series.shift_yx_px).ravel()
    return np.asarray((error - design @ np.linalg.lstsq(design, error)[0]).reshape(-1, 2))
