"""Warp's grids: values on a regular grid over the field, joined by natural cubic splines. Tegunov (2021)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

FloatArray = npt.NDArray[np.float64]


def grid_of(node: Any) -> FloatArray:
    """Give a grid element's values as (z, y, x). Raises ValueError when nodes are missing."""
    shape = tuple(int(node.get(name, "1")) for name in ("Depth", "Height", "Width"))
    values = np.full(shape, np.nan)
    for point in node.findall("Node"):
        values[tuple(int(point.get(axis, "0")) for axis in "ZYX")] = float(point.get("Value"))
    if np.isnan(values).any():
        raise ValueError(f"{node.tag} has not all of its {values.size} nodes")
    return values


def interpolated(grid: FloatArray, points_zyx: FloatArray) -> FloatArray:
    """Give a grid's values at points (point, 3), fractions of the field from its first node to its last.

    Outside the field the border's values go on.
    """
    at = np.clip(points_zyx, 0.0, 1.0)
    return np.array([_value(grid, z, y, x) for z, y, x in at])


def _value(grid: FloatArray, *point: float) -> float:
    values = grid
    for position in point:
        values = _along_first_axis(values, position)
    return float(values)


def _along_first_axis(values: FloatArray, position: float) -> FloatArray:
    if len(values) == 1:
        return np.asarray(values[0])
    nodes = np.linspace(0.0, 1.0, len(values))
    return np.asarray(CubicSpline(nodes, values, axis=0, bc_type="natural")(position))
