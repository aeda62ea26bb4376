"""Averaging of pixels into larger ones: the fast way to a reduced sampling."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Types the kernel is compiled for; all others become float32 first.
_DIRECT = (np.uint8, np.uint16, np.float32)


def bin_mean(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means over ``factor`` × ``factor`` pixels; rows and columns that do not fill a block are left out.

    Binned pixel i is centred on unbinned coordinate ``i * factor + (factor - 1) / 2``.
    Raises ValueError for a factor below 1 or larger than the image.
    """
    if factor < 1 or factor > min(image.shape):
        raise ValueError(f"the bin factor must lie between 1 and {min(image.shape)}, not {factor}")
    if factor == 1:
        return np.ascontiguousarray(image, dtype=np.float32)
    kind = image.dtype if image.dtype in _DIRECT else np.float32
    binned: NDArray[np.float32] = _block_means(np.ascontiguousarray(image, dtype=kind), factor)
    return binned


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _block_means(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    binned = np.empty((rows, columns), np.float32)
    line = np.empty(columns * factor, np.float32)
    scale = np.float32(1.0 / factor**2)
    for row in range(rows):
        line[:] = image[row * factor, : columns * factor]
        for offset in range(1, factor):
            source = image[row * factor + offset]
            for x in range(columns * factor):
                line[x] += np.float32(source[x])
        if factor == 2:  # said apart, it becomes one vector sum
            for column in range(columns):
                binned[row, column] = (line[2 * column] + line[2 * column + 1]) * scale
            continue
        for column in range(columns):
            total = np.float32(0.0)
            for x in range(column * factor, (column + 1) * factor):
                total += line[x]
            binned[row, column] = total * scale
    return binned
