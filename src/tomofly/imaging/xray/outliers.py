"""Zingers: pixels hit by scattered X-rays, and others far from what surrounds them."""

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float32]

RADII = (0, 2, 3, 4)
# As tomoStream has it: a pixel is replaced where it is off by more than half of the median about it.
THRESHOLD = 0.5


def remove_zingers(image: FloatArray, radius: int, threshold: float = THRESHOLD) -> FloatArray:
    """Replace pixels that differ from the median about them by more than ``threshold`` of it, as a new image.

    ``image`` (y, x), float32, not negative; the median is over the (2·radius + 1)² pixels about each, of
    which those beyond the edges do not count. Radius 0 does nothing. Raises ValueError for another radius.
    """
    if radius not in RADII:
        raise ValueError(f"the radius of outlier removal is one of {RADII}, not {radius}")
    source = np.ascontiguousarray(image, np.float32)
    out = source.copy()
    if radius:
        _replace(source, radius, np.float32(threshold), out)
    return out


@njit(cache=True, nogil=True)
def _replace(image: FloatArray, radius: int, threshold: np.float32, out: FloatArray) -> None:
    """Count, row by row, neighbours so far below or above a pixel that their median would be too.

    More than half of them below v/(1 + threshold) is the same as their median being there, and counting needs
    no sorting. Few pixels are left whose median is then really taken.
    """
    rows, columns = image.shape
    below, above = np.empty(columns, np.int32), np.empty(columns, np.int32)
    total = np.empty(columns, np.int32)
    low, high = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for y in range(rows):
        for x in range(columns):
            low[x] = image[y, x] / (np.float32(1.0) + threshold)
            high[x] = image[y, x] / (np.float32(1.0) - threshold)
        below[:] = 0
        above[:] = 0
        total[:] = 0
        for row in range(max(0, y - radius), min(rows, y + radius + 1)):
            for shift in range(-radius, radius + 1):
                first, last = max(0, -shift), min(columns, columns - shift)
                _count(image[row, first + shift : last + shift], low[first:last], high[first:last],
                       below[first:last], above[first:last], total[first:last])  # fmt: skip
        for x in range(columns):
            if 2 * below[x] >= total[x] or 2 * above[x] >= total[x]:
                out[y, x] = _cleaned(image, y, x, radius, threshold)


@njit(cache=True, nogil=True)
def _count(
    line: FloatArray,
    low: FloatArray,
    high: FloatArray,
    below: npt.NDArray[np.int32],
    above: npt.NDArray[np.int32],
    total: npt.NDArray[np.int32],
) -> None:
    for i in range(line.shape[0]):
        below[i] += np.int32(line[i] < low[i])
        above[i] += np.int32(line[i] > high[i])
        total[i] += np.int32(1)


@njit(cache=True, nogil=True)
def _cleaned(image: FloatArray, y: int, x: int, radius: int, threshold: np.float32) -> np.float32:
    rows, columns = image.shape
    about = image[
        max(0, y - radius) : min(rows, y + radius + 1), max(0, x - radius) : min(columns, x + radius + 1)
    ]
    median = np.float32(np.median(about.copy()))
    return median if abs(image[y, x] - median) > threshold * median else image[y, x]
