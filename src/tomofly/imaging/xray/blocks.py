"""How filtered projections lie in memory: blocks of detector rows, columns outside, rows innermost.

A projection (z, s) is kept as (block, s, lane): ``LANES`` neighbouring rows z share all weights of
back-projection, so that inner loops are plain sums over contiguous memory, and one block of one projection
is small enough for a processor's second cache.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.xray.lane_squares import SIDE, turn_square

FloatArray = npt.NDArray[np.float32]

# 64 rows by 1024 columns are 256 kB, and a row of lanes four of the widest registers.
LANES = 64


def count_blocks(rows: int) -> int:
    """Give the number of blocks that hold so many detector rows."""
    return -(-rows // LANES)


def to_blocks(projections: npt.NDArray[Any]) -> FloatArray:
    """Bring projections (..., z, s) to (..., block, s, lane), float32; missing rows are 0."""
    *lead, rows, columns = projections.shape
    blocks = count_blocks(rows)
    padded = np.zeros((*lead, blocks * LANES, columns), np.float32)
    padded[..., :rows, :] = projections
    split = padded.reshape(*lead, blocks, LANES, columns)
    return np.ascontiguousarray(np.swapaxes(split, -1, -2))


def from_blocks(blocked: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Bring (..., block, n, lane) back to (..., z, n) with the given number of rows, as a new array."""
    swapped = np.swapaxes(blocked, -1, -2)
    *lead, blocks, lanes, columns = swapped.shape
    return np.ascontiguousarray(swapped.reshape(*lead, blocks * lanes, columns)[..., :rows, :])


@njit(cache=True, nogil=True, fastmath=True)
def bin_blocks(projection: FloatArray, out: FloatArray) -> None:
    """Bin a blocked projection (block, s, lane) by two along s and z into ``out``, whose sizes are halved.

    An odd last column is left out; rows of zeros in the last block stay so.
    """
    half, quarter = LANES // 2, np.float32(0.25)
    for block in range(out.shape[0]):
        out[block] = 0
        for part in range(min(2, projection.shape[0] - 2 * block)):
            source = projection[2 * block + part]
            for s in range(out.shape[1]):
                left, right = source[2 * s], source[2 * s + 1]
                line = out[block, s]
                for i in range(half):
                    total = left[2 * i] + left[2 * i + 1] + right[2 * i] + right[2 * i + 1]
                    line[part * half + i] = quarter * total


@njit(cache=True, nogil=True)
def turned(values: npt.NDArray[np.float64], out: FloatArray) -> None:
    """Copy values (n, z) to ``out`` (z, n), C-contiguous, as far as that has rows."""
    columns, rows = values.shape[0], out.shape[0]
    squares, across = columns // SIDE * SIDE, rows // SIDE * SIDE
    piece = np.empty((SIDE, across), np.float32)
    for start in range(0, squares, SIDE):
        for n in range(SIDE):
            for z in range(across):
                piece[n, z] = np.float32(values[start + n, z])
        for z in range(0, across, SIDE):
            turn_square(out, z * columns + start, columns, piece, z, across)
    for z in range(rows):
        for n in range(squares if z < across else 0, columns):
            out[z, n] = np.float32(values[n, z])
