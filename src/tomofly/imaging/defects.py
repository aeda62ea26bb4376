"""Defective detector pixels: finding them in the unaligned sum, and what to put in their place."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage

BoolImage = npt.NDArray[np.bool_]

# A defect is replaced by one of this many good pixels, another one in each frame, so that its noise stays
# noise.
SOURCES = 16
SEARCH_RADII = (2, 4, 8, 16)
LEAST_GOOD_NEIGHBOURS = 6


@dataclass(frozen=True)
class DefectRepair:
    """Defects in row order with the good pixels that stand in for them.

    row_start: (ny + 1,) int32, defects of row y are row_start[y]:row_start[y + 1]; column: (k,) int32;
    source_y, source_x: (k, 16) int32, candidates for replacement; frame f uses candidate (f * 7 + k) % 16.
    """

    row_start: npt.NDArray[np.int32]
    column: npt.NDArray[np.int32]
    source_y: npt.NDArray[np.int32]
    source_x: npt.NDArray[np.int32]


def find_defects(
    unaligned_sum: npt.NDArray[np.floating],
    *,
    n_sigma: float = 6.0,
    gain: npt.NDArray[np.floating] | None = None,
) -> BoolImage:
    """Mark hot and dead pixels (y, x) of a detector from the sum of unaligned, gain-corrected frames.

    Hot: above the local mean by n_sigma standard deviations of the picture (the rule of RELION 3.1, made
    local so that bright vacuum beside carbon is not hot); dead: constant zero where neighbours count, or
    below the local mean by as much; and pixels whose gain is not positive and finite.
    """
    total = np.nan_to_num(np.asarray(unaligned_sum, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    local = ndimage.median_filter(total, footprint=_RING_FOOTPRINT, mode="reflect")
    excess = total - local
    # The bulk's spread, not that of the outliers that are sought.
    spread = 1.4826 * float(np.median(np.abs(excess)))
    bad = np.abs(excess) > n_sigma * spread if spread > 0 else np.abs(excess) > 0
    bad |= (total == 0) & (local > 0)
    if gain is not None:
        bad |= ~np.isfinite(gain) | (np.asarray(gain) <= 0)
    return np.asarray(bad, dtype=np.bool_)


_RING_FOOTPRINT = np.array(
    [[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]]
)


def plan_repair(defects: BoolImage, *, seed: int = 0) -> DefectRepair:
    """Choose stand-ins for every marked pixel of defects (y, x).

    Good pixels within 2 pixels if there are at least 6 of them, else within 4, 8, 16, else from anywhere, so
    that a large dead area shows mean-level noise. Raises ValueError when no pixel is good.
    """
    mask = np.ascontiguousarray(defects, dtype=np.bool_)
    rows, columns = np.nonzero(mask)
    if rows.size == mask.size:
        raise ValueError("every pixel of the detector is marked as defective")
    row_start = np.zeros(mask.shape[0] + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=mask.shape[0]), out=row_start[1:])
    random = np.random.default_rng(seed)
    source_y = np.empty((rows.size, SOURCES), dtype=np.int32)
    source_x = np.empty_like(source_y)
    draws = random.integers(0, 1 << 30, (rows.size, SOURCES))
    _draw_neighbours(mask, rows, columns, draws, np.array(SEARCH_RADII), source_y, source_x)
    _draw_anywhere(mask, source_y, source_x, random)
    return DefectRepair(row_start, columns.astype(np.int32), source_y, source_x)


def no_repair(height: int) -> DefectRepair:
    """Return the plan for a detector without defects."""
    nothing = np.zeros((0, SOURCES), dtype=np.int32)
    return DefectRepair(np.zeros(height + 1, np.int32), np.zeros(0, np.int32), nothing, nothing)


def repair_defects(frame: npt.NDArray[np.float32], repair: DefectRepair, frame_index: int = 0) -> None:
    """Replace the defects of one gain-corrected frame (y, x) in place."""
    _repair(frame, repair.row_start, repair.column, repair.source_y, repair.source_x, frame_index)


def _draw_anywhere(
    mask: BoolImage,
    source_y: npt.NDArray[np.int32],
    source_x: npt.NDArray[np.int32],
    random: np.random.Generator,
) -> None:
    """Fill what found no neighbours (marked -1) with good pixels from the whole detector."""
    lonely = source_y[:, 0] < 0
    wanted = int(lonely.sum()) * SOURCES
    if not wanted:
        return
    good = np.flatnonzero(~mask)
    chosen = good[random.integers(0, good.size, wanted)].reshape(-1, SOURCES)
    source_y[lonely], source_x[lonely] = np.divmod(chosen, mask.shape[1])


@njit(cache=True, nogil=True)
def _draw_neighbours(mask, rows, columns, draws, radii, source_y, source_x):  # type: ignore[no-untyped-def]
    height, width = mask.shape
    near_y = np.empty(33 * 33, np.int32)
    near_x = np.empty(33 * 33, np.int32)
    for k in range(rows.size):
        count = 0
        for radius in radii:
            count = 0
            for y in range(max(0, rows[k] - radius), min(height, rows[k] + radius + 1)):
                for x in range(max(0, columns[k] - radius), min(width, columns[k] + radius + 1)):
                    if not mask[y, x]:
                        near_y[count] = y
                        near_x[count] = x
                        count += 1
            if count >= LEAST_GOOD_NEIGHBOURS:
                break
        for j in range(SOURCES):
            pick = draws[k, j] % max(count, 1)
            source_y[k, j] = near_y[pick] if count >= LEAST_GOOD_NEIGHBOURS else -1
            source_x[k, j] = near_x[pick] if count >= LEAST_GOOD_NEIGHBOURS else -1


@njit(cache=True, nogil=True)
def _repair(frame, row_start, column, source_y, source_x, frame_index):  # type: ignore[no-untyped-def]
    for y in range(frame.shape[0]):
        for k in range(row_start[y], row_start[y + 1]):
            j = (frame_index * 7 + k) % SOURCES
            frame[y, column[k]] = frame[source_y[k, j], source_x[k, j]]
