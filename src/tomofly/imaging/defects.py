"""Defective detector pixels: finding them in the unaligned sum, and what to put in their place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

BoolImage = npt.NDArray[np.bool_]
FloatImage = npt.NDArray[np.float32]

# A defect is replaced by one of this many good pixels, another one in each frame, so that its noise stays
# noise.
SOURCES = 16
SEARCH_RADII = (2, 4, 8, 16)
LEAST_GOOD_NEIGHBOURS = 6
# Where fewer electrons are expected, a pixel that counted none may be good: of these, one in 10^7 has none.
ELECTRONS_TO_CALL_DEAD = 16.0


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


def unaligned_sum(frames: npt.NDArray[Any], gain: npt.NDArray[np.floating] | None = None) -> FloatImage:
    """Add up frames (frame, y, x) as they are and multiply by the gain (y, x): the detector's picture."""
    total = np.zeros(frames.shape[1:], dtype=np.float32)
    _add_frames(np.asarray(frames), total)
    return total if gain is None else total * np.asarray(gain, dtype=np.float32)


def find_defects(
    unaligned_sum: npt.NDArray[np.floating],
    *,
    n_sigma: float = 6.0,
    gain: npt.NDArray[np.floating] | None = None,
) -> BoolImage:
    """Mark hot and dead pixels (y, x) of a detector from the sum of unaligned, gain-corrected frames.

    Hot: above the median of twelve neighbours by n_sigma robust standard deviations of the picture (RELION
    3.1 compares with the whole picture's mean, under which bright vacuum beside carbon is hot), and as far as
    few electrons may stray above their mean; dead: as far below it, or zero where the neighbours count
    enough for that to mean something; and pixels whose gain is not positive and finite.
    """
    total = np.nan_to_num(np.asarray(unaligned_sum, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    level, spread, electron = _level_and_spread(total)
    # What is normal in the square root of counts (Anscombe 1948), brought back to counts.
    limit = np.float32(n_sigma * spread + n_sigma**2 / 4 * electron)
    bad = np.zeros(total.shape, dtype=np.bool_)
    _mark(total, level, limit, np.float32(ELECTRONS_TO_CALL_DEAD * electron), bad)
    if gain is not None:
        bad |= ~np.isfinite(gain) | (np.asarray(gain) <= 0)
    return bad


# The level that a pixel is first compared with is the median of every second pixel of such blocks.
_BLOCK = 64


def _level_and_spread(total: FloatImage) -> tuple[FloatImage, float, float]:
    """Return the median of each block (y, x), the standard deviation about it, and what one electron counts.

    The deviation is a robust one. The last is the variance over the mean, as electrons come by chance; 0
    where nothing varies.
    """
    rows, columns = (max(1, size // _BLOCK) for size in total.shape)
    edges_y = np.linspace(0, total.shape[0], rows + 1).astype(int)
    edges_x = np.linspace(0, total.shape[1], columns + 1).astype(int)
    level, mean, deviation, scatter = np.empty((4, rows, columns), dtype=np.float32)
    for i, j in np.ndindex(rows, columns):
        block = total[edges_y[i] : edges_y[i + 1] : 2, edges_x[j] : edges_x[j + 1] : 2]
        level[i, j] = np.median(block)
        deviation[i, j] = np.median(np.abs(block - level[i, j]))
        mean[i, j], scatter[i, j] = block.mean(), block.std()
    # Where most pixels counted nothing, half of all deviations are none.
    spread = 1.4826 * float(np.median(deviation)) or float(np.median(scatter))
    typical = float(np.median(mean))
    return level, spread, spread**2 / typical if typical > 0 else 0.0


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


@njit(cache=True, nogil=True, fastmath=True)
def _add_frames(frames, total):  # type: ignore[no-untyped-def]
    for y in range(total.shape[0]):
        line = total[y]
        for i in range(frames.shape[0]):
            for x in range(total.shape[1]):
                line[x] += np.float32(frames[i, y, x])


@njit(cache=True, nogil=True)
def _mark(total, level, limit, dead_above, bad):  # type: ignore[no-untyped-def]
    """Mark pixels that stand out of their block and then of their neighbours, too."""
    height, width = total.shape
    ring = np.empty(12, np.float32)
    for y in range(height):
        row = min(y * level.shape[0] // height, level.shape[0] - 1)
        for x in range(width):
            value = total[y, x]
            around = level[row, min(x * level.shape[1] // width, level.shape[1] - 1)]
            # Half the limit, for the block's level is not the neighbours'.
            silent = value == 0.0 and around > 0.5 * dead_above
            if abs(value - around) <= 0.5 * limit and not silent:
                continue
            count = 0
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    # Every second pixel, so that neither a cluster nor a column of defects is the majority.
                    if (dy or dx) and (dy + dx) % 2 == 0:
                        ring[count] = total[_inside(y + dy, height), _inside(x + dx, width)]
                        count += 1
            median = np.median(ring)
            bad[y, x] = abs(value - median) > limit or (silent and median > dead_above)


@njit(cache=True, nogil=True)
def _inside(index, size):  # type: ignore[no-untyped-def]
    """Reflect an index at the edges, without repeating the edge."""
    index = abs(index)
    return max(0, 2 * size - 2 - index if index >= size else index)
