"""In which order a stage goes through the angles of a tilt series."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SchemeName = Literal["dose-symmetric", "bidirectional", "continuous"]


def acquisition_angles(
    scheme: SchemeName,
    tilt_range_deg: tuple[float, float],
    step_deg: float,
    start_deg: float = 0.0,
    group: int = 1,
) -> Array:
    """Give the stage's angles (tilt,) in degrees in the order in which they are taken.

    "dose-symmetric" goes outward from `start_deg`, `group` tilts on the positive side, then as many on
    the negative one (Hagen et al. 2017 for groups of two, first one alone); "bidirectional" goes from
    `start_deg` up to the end and then down from there; "continuous" from the lowest to the highest.
    """
    lowest, highest = tilt_range_deg
    if scheme == "continuous":
        return lowest + step_deg * np.arange(0.0, _steps(highest - lowest, step_deg) + 1)
    up = start_deg + step_deg * np.arange(1.0, _steps(highest - start_deg, step_deg) + 1)
    down = start_deg - step_deg * np.arange(1.0, _steps(start_deg - lowest, step_deg) + 1)
    if scheme == "bidirectional":
        return np.concatenate([[start_deg], up, down])
    return np.concatenate([[start_deg], _alternate(up, down, group)])


def _steps(width_deg: float, step_deg: float) -> int:
    """How many whole steps fit; an exact multiple keeps its last one in spite of rounding."""
    return int(np.floor(width_deg / step_deg + 1e-6))


def _alternate(up: Array, down: Array, group: int) -> Array:
    """Take `group` angles from each side in turn until both are used up."""
    parts = []
    for first in range(0, max(len(up), len(down)), group):
        parts += [up[first : first + group], down[first : first + group]]
    return np.concatenate([np.empty(0), *parts])
