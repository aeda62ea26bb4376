"""Smooth random maps: thickness of ice, sensitivity of a camera."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

NODES = 24


def smooth_map(random: np.random.Generator, shape_yx: tuple[int, int]) -> NDArray[np.float32]:
    """A map (y, x) of mean 0 and standard deviation 1 that varies over about a quarter of its width."""
    coarse = gaussian_filter(random.normal(size=(NODES, NODES)), NODES / 6, mode="reflect")
    coarse = (coarse - coarse.mean()) / coarse.std()
    # Bilinear between the nodes, one axis after the other.
    rows = np.linspace(0, NODES - 1, shape_yx[0])
    along_y = np.stack([np.interp(rows, np.arange(NODES), column) for column in coarse.T], axis=1)
    columns = np.linspace(0, NODES - 1, shape_yx[1])
    left = np.minimum(columns.astype(int), NODES - 2)
    part = (columns - left).astype(np.float32)
    nodes = along_y.astype(np.float32)
    smooth: NDArray[np.float32] = nodes[:, left] * (1 - part) + nodes[:, left + 1] * part
    return smooth
