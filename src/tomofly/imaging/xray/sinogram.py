"""What the angles of a scan mean for its reconstruction."""

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]

LARGEST_GAP = 4.0
"""A projection stands for at most so many times the usual step: beyond, angles are missing."""


def angular_weights(angles: npt.ArrayLike) -> FloatVector:
    """Give the share of each projection in half a turn, in radians, for angles (angle) in radians.

    Half the way to its neighbours on either side, where opposite projections are the same: right for uniform,
    golden-angle and interlaced scans over any range. Where angles are missing, less than pi in all.
    """
    theta = np.mod(np.asarray(angles, np.float64), np.pi)
    count = len(theta)
    if count < 2:
        return np.full(count, np.pi)
    order = np.argsort(theta, kind="stable")
    gaps = np.diff(theta[order], append=theta[order[0]] + np.pi)
    distinct = gaps[gaps > 1e-6]
    gaps = np.minimum(gaps, LARGEST_GAP * np.median(distinct))
    weights = np.empty(count)
    weights[order] = (gaps + np.roll(gaps, 1)) / 2
    return weights


def covered_degrees(angles_deg: npt.ArrayLike) -> float:
    """Give how much of half a turn the projections cover, in degrees: 180 where no wedge is missing."""
    return float(np.rad2deg(angular_weights(np.deg2rad(np.asarray(angles_deg, np.float64))).sum()))
