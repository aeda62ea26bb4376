"""What each projection counts for in back-projection: the gap between its angle and its neighbours'."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# A gap wider than this many usual ones is a part of the half turn that nobody has seen.
_UNSEEN = 2.5
_SINGLE_DEG = 1.0


def angular_weights(angle_deg: npt.ArrayLike) -> FloatArray:
    """Give weights in radians for projections at any angles, in any order, over any number of turns.

    Each counts for half the gap to either neighbour, angles taken modulo 180°; a gap that is 2.5 times wider
    than nine in ten others is not bridged. Equal steps over a half turn count π/n each.
    """
    folded = np.mod(np.asarray(angle_deg, np.float64), 180.0)
    count = len(folded)
    if count < 2:
        return np.full(count, np.deg2rad(_SINGLE_DEG))
    order = np.argsort(folded, kind="stable")
    gaps = np.diff(folded[order], append=folded[order[0]] + 180.0)
    usual = float(np.quantile(np.sort(gaps)[:-1], 0.9))
    bridged = np.where(gaps > _UNSEEN * usual, usual, gaps)
    weights = np.empty(count)
    weights[order] = (bridged + np.roll(bridged, 1)) / 2
    return np.deg2rad(weights)


def coverage_deg(weights: FloatArray) -> float:
    """Give how much of the half turn has been seen, in degrees, of ``angular_weights``."""
    return float(min(180.0, np.rad2deg(weights.sum())))
