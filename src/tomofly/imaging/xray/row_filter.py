"""The ramp filter of filtered back-projection, as a sum over the columns instead of through Fourier space.

The ramp's samples are 1/4 at 0, nothing at even distances and -1/(πk)² at odd ones (Ramachandran &
Lakshminarayanan, 1971). The kernel is split by a smooth taper (multilevel summation: Brandt & Lubrecht, 1990)
into a near part of short reach, summed directly, and a smooth far part, which is gathered onto every
``spacing``-th column by Lagrange interpolation over six nodes, summed there, and interpolated back, even and
odd columns apart. Nothing wraps around, as if the rows were padded without end. What the far part's
interpolation costs is about 1e-4 of the filtered rows' root mean square for objects, 1e-5 for noise.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.xray.blocks import LANES, FloatArray, count_blocks
from tomofly.imaging.xray.lane_squares import SIDE, turn_square
from tomofly.imaging.xray.lane_sums import add_four, add_rows

_NODES = 6
_POWER = 4  # of the taper (1 - (k/reach)²): smooth enough for six nodes
_SPARE = 3  # zeros on either side of the near weights: four columns are summed at once
_WIDE = 1400  # columns from which twice the spacing is the faster split


@dataclass(frozen=True)
class RampPlan:
    """Weights of both parts for rows of ``columns`` columns.

    ``near``: of odd distances, negative ones first, between ``_SPARE`` zeros. ``gather`` (2, 3·spacing): of
    the columns of one parity under a node. ``far``: of the distances of nodes, negative ones first.
    ``spread`` (spacing, 6): of the nodes about each column.
    """

    columns: int
    spacing: int
    nodes: int
    near: FloatArray
    gather: FloatArray
    far: FloatArray
    spread: FloatArray

    @property
    def margin(self) -> int:
        """Columns of zeros that the kernels read before the first and after the last."""
        return 4 * self.spacing


@lru_cache(maxsize=8)
def plan_ramp(columns: int) -> RampPlan:
    """Plan the ramp filter of rows of so many columns."""
    spacing = 16 if columns >= _WIDE else 8
    reach = 4 * spacing
    distance = np.arange(1, reach, 2)
    near = -_taper(distance / reach) / (np.pi * distance) ** 2
    nodes = (columns - 1) // spacing + _NODES
    spread = _lagrange(np.arange(spacing) / spacing)
    return RampPlan(
        columns, spacing, nodes,
        np.pad(np.concatenate([near[::-1], near]), _SPARE).astype(np.float32),
        _gathering(spread), _far(nodes, spacing, reach), spread.astype(np.float32),
    )  # fmt: skip


def _taper(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.clip(1 - u * u, 0, 1) ** _POWER


def _far(nodes: int, spacing: int, reach: int) -> FloatArray:
    """Sample the smooth rest of the kernel; at 0 it goes to -4/(π·reach)²."""
    distance = spacing * np.abs(np.arange(-nodes, nodes)).astype(np.float64)
    safe = np.maximum(distance, 1)
    rest = -(1 - _taper(safe / reach)) / (np.pi * safe) ** 2
    rest[distance == 0] = -_POWER / (np.pi * reach) ** 2
    return rest.astype(np.float32)


def _lagrange(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights (position, node) of nodes -2 ... 3 for positions between 0 and 1."""
    nodes = np.arange(_NODES) - (_NODES // 2 - 1)
    weights = np.ones((len(u), _NODES))
    for i, a in enumerate(nodes):
        for b in nodes[nodes != a]:
            weights[:, i] *= (u - b) / (a - b)
    return weights


def _gathering(spread: npt.NDArray[np.float64]) -> FloatArray:
    """Turn weights (phase, node) round: of columns -3·spacing ... 3·spacing about a node, by parity."""
    spacing = len(spread)
    by_column = np.concatenate([spread[:, _NODES - 1 - part] for part in range(_NODES)])
    kept = by_column.reshape(_NODES * spacing // 2, 2).T
    return np.ascontiguousarray(kept.astype(np.float32))


@njit(cache=True, nogil=True)
def _transpose(rows: FloatArray, first: int, margin: int, lanes: FloatArray) -> None:
    """Put rows ``first`` ... of (z, s) into lanes (margin + s + margin, lane)."""
    count = min(LANES, rows.shape[0] - first)
    columns = rows.shape[1]
    squares = columns // SIDE * SIDE if count == LANES else 0
    for start in range(0, squares, SIDE):
        for low in range(0, LANES, SIDE):
            turn_square(
                lanes, (margin + start) * LANES + low, LANES, rows, (first + low) * columns + start, columns
            )
    for lane in range(count):
        for s in range(squares, columns):
            lanes[margin + s, lane] = rows[first + lane, s]
    if count < LANES:
        lanes[:, count:] = 0


@njit(cache=True, nogil=True)
def _filter_block(
    lanes: FloatArray,
    margin: int,
    near: FloatArray,
    gather: FloatArray,
    far: FloatArray,
    spread: FloatArray,
    gathered: FloatArray,
    summed: FloatArray,
    out: FloatArray,
) -> None:
    """Filter lanes (margin + s + margin, lane) into out (s, lane); the nodes are (parity, node, lane)."""
    spacing, nodes = spread.shape[0], gathered.shape[1]
    gathered[:] = 0
    summed[:] = 0
    # Node j lies at column (j - 2)·spacing and gathers from 3·spacing columns on either side.
    for parity in range(2):
        for j in range(nodes):
            first = max(0, (5 - j) * spacing - margin)
            column = margin + (j - 5) * spacing + first + parity
            add_rows(
                gathered[parity], j, lanes, column, 2, gather[parity], first // 2, 3 * spacing - first // 2
            )
        fours = nodes // 4 * 4
        for i in range(0, fours, 4):
            add_four(summed[parity], i, 1, gathered[parity], 0, 1, far, nodes - i, -1, nodes)
        for i in range(fours, nodes):
            add_rows(summed[parity], i, gathered[parity], 0, 1, far, nodes - i, nodes)
    columns, reach = out.shape[0], near.shape[0] - 2 * _SPARE
    eights = columns // 8 * 8
    for s in range(columns):
        for i in range(LANES):
            out[s, i] = np.float32(0.25) * lanes[margin + s, i]
        if s >= eights:
            add_rows(out, s, lanes, margin + s - reach + 1, 2, near, _SPARE, reach)
            add_rows(out, s, summed[1 - s % 2], s // spacing, 1, spread, _NODES * (s % spacing), _NODES)
        elif s % 8 == 7:
            # Four columns of one parity, two apart, see the same ones; a node's columns are a multiple of 8.
            for even in range(2):
                at = s - 7 + even
                add_four(out, at, 2, lanes, margin + at - reach + 1, 2, near, _SPARE, -1, reach + _SPARE)
                weights = _NODES * (at % spacing)
                add_four(out, at, 2, summed[1 - even], at // spacing, 1, spread, weights, 2 * _NODES, _NODES)


def ramp_filter(rows: FloatArray, out: FloatArray) -> None:
    """Filter the rows of a projection (z, s), float32, into blocks ``out`` (block, s, lane).

    The result times the angles' weights in radians, back-projected, is per pixel.
    """
    wanted = (count_blocks(len(rows)), rows.shape[1], LANES)
    if out.shape != wanted:
        raise ValueError(f"rows {rows.shape} are filtered into blocks {wanted}, not {out.shape}")
    plan = plan_ramp(rows.shape[1])
    margin = plan.margin
    # The gathering reads on to the last node's support.
    lanes = np.zeros((margin + plan.nodes * plan.spacing + margin, LANES), np.float32)
    gathered = np.empty((2, plan.nodes, LANES), np.float32)
    summed = np.empty_like(gathered)
    for block in range(count_blocks(len(rows))):
        _transpose(rows, block * LANES, margin, lanes)
        _filter_block(
            lanes, margin, plan.near, plan.gather, plan.far, plan.spread, gathered, summed, out[block]
        )
