"""Slices out of filtered projections, on the processor.

A point (x, y) of the slice at detector row z is seen at s = (x - c)·cos θ - (y - c)·sin θ + centre, with c at
index n // 2. All points of a vertical line share s, so that a vertical plane is, per projection, a sum of
its columns, each of which is contiguous along z.

Projections are blocked (slot, block, s, lane), ramp-filtered. What lies beyond the detector counts as 0.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.blocks import LANES, FloatArray
from tomofly.imaging.xray.lane_sums import add_rows, add_two_rows, windowed_rows
from tomofly.imaging.xray.window_taps import WindowTaps

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Sums = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Views:
    """Which projections to sum, and how: slots, angles in degrees, and weights in radians.

    ``centre``: detector column of the axis; the slices are ``size`` × ``size`` pixels of ``binning`` columns.
    """

    slots: IntArray
    angle_deg: Float64Array
    weight: Float64Array
    centre: float
    size: int
    binning: int = 1


@dataclass(frozen=True)
class Line:
    """Where a vertical plane cuts a slice: pixel t lies at (x, y) + t·(step_x, step_y), all in pixels."""

    x: float
    y: float
    step_x: float
    step_y: float


def plane_line(normal: str, index: float, turn_deg: float, size: int) -> Line:
    """Give the line of the plane x = index ('x', pixels along y) or y = index ('y', pixels along x).

    The plane is spun by ``turn_deg`` about the rotation axis, from x towards y. Raises ValueError for another
    normal.
    """
    if normal not in ("x", "y"):
        raise ValueError(f"a vertical plane is normal to x or y, not {normal!r}")
    middle = size // 2
    cosine, sine = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    # First pixel and step in the frame of the axis, then turned.
    first = (index - middle, -middle) if normal == "x" else (-middle, index - middle)
    step = (0.0, 1.0) if normal == "x" else (1.0, 0.0)
    x, y = cosine * first[0] - sine * first[1], sine * first[0] + cosine * first[1]
    return Line(x + middle, y + middle, cosine * step[0] - sine * step[1], sine * step[0] + cosine * step[1])


def line_positions(lines: list[Line], views: Views) -> Float64Array:
    """Give (line, view, 2): first column and step per pixel at which a line's pixels are seen.

    With binning b, pixel t of a binned slice is the middle of the b × b pixels it is made of, and so is a
    column.
    """
    angle, middle, b = np.deg2rad(views.angle_deg), views.size * views.binning // 2, views.binning
    cosine, sine = np.cos(angle), np.sin(angle)
    positions = np.empty((len(lines), len(angle), 2))
    for index, line in enumerate(lines):
        step = line.step_x * cosine - line.step_y * sine
        first = (line.x - middle) * cosine - (line.y - middle) * sine + views.centre
        positions[index, :, 0] = (first + step * (b - 1) / 2 + 0.5) / b - 0.5
        positions[index, :, 1] = step
    return positions


def add_lines(
    projections: FloatArray, lines: list[Line], views: Views, taps: WindowTaps, sums: Sums,
    *, threads: int = 1,
) -> None:  # fmt: skip
    """Add the projections to vertical planes: sums (line, block, t, lane), float32 or float64.

    One pass over the projections serves all lines. What is added is summed in float32 first.
    """
    if not len(views.slots) or not lines:
        return
    if projections.shape[-1] != LANES or sums.shape[1:] != (projections.shape[1], views.size, LANES):
        raise ValueError(f"sums {sums.shape} do not fit projections {projections.shape}, {views.size} pixels")
    positions = line_positions(lines, views)
    weights = views.weight.astype(np.float32)

    def add(block: int) -> None:
        _add_block(
            projections, block, views.slots, positions, weights, taps.weights, taps.decays, taps.gains, sums
        )

    for_each(add, projections.shape[1], threads)


@njit(cache=True, nogil=True)
def _window(
    rows: FloatArray, taps: FloatArray, decays: FloatArray, gains: FloatArray, out: FloatArray
) -> None:
    """Apply a window along the columns of rows (s, lane); beyond the ends are zeros."""
    columns, reach = rows.shape[0], taps.shape[0] // 2
    if decays.shape[0]:
        windowed_rows(out, rows, taps, reach, decays, gains, columns)
        return
    out[:] = 0
    for s in range(columns):
        low, high = max(0, s - reach), min(columns, s + reach + 1)
        add_rows(out, s, rows, low, 1, taps, low - (s - reach), high - low)


@njit(cache=True, nogil=True)
def _add_block(
    projections: FloatArray,
    block: int,
    slots: IntArray,
    positions: Float64Array,
    weights: FloatArray,
    taps: FloatArray,
    decays: FloatArray,
    gains: FloatArray,
    sums: Sums,
) -> None:
    columns, size = projections.shape[2], sums.shape[2]
    windowed = np.empty((columns, LANES), np.float32)
    passing = np.zeros((sums.shape[0], size, LANES), np.float32)
    plain = taps.shape[0] == 1 and decays.shape[0] == 0
    for view in range(slots.shape[0]):
        rows = projections[slots[view], block]
        if not plain:
            _window(rows, taps, decays, gains, windowed)
            rows = windowed
        for line in range(sums.shape[0]):
            _add_line(rows, positions[line, view, 0], positions[line, view, 1], weights[view], passing[line])
    for line in range(sums.shape[0]):
        for t in range(size):
            for i in range(LANES):
                sums[line, block, t, i] += passing[line, t, i]


@njit(cache=True, nogil=True)
def _add_line(rows: FloatArray, first: float, step: float, weight: np.float32, sums: FloatArray) -> None:
    last = rows.shape[0] - 1
    for t in range(sums.shape[0]):
        position = first + step * t
        if position < 0 or position > last:
            continue
        column = min(int(position), last - 1)
        upper = np.float32(position - column)
        add_two_rows(sums, t, rows, column, weight * (np.float32(1.0) - upper), weight * upper)
