"""Tilted images resampled onto the level plane of the specimen, where all of them show the same things.

A point (x, y, 0) of the specimen appears at the same place of every resampled image, whatever the tilt: this
is the cosine stretch, with the rotation to the tilt axis and the levelling in the same interpolation. A point
at height z appears displaced across the axis by z·tan(tilt).
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]


def plane_to_image(geometry: TiltGeometry) -> FloatArray:
    """Give the matrices (tilt, 2, 2) from a step (y, x) in the specimen's plane to one in the image."""
    rotation = geometry.rotations()
    return np.asarray(rotation[:, 1::-1, 1::-1])


def stretched(
    images: FloatImages,
    geometry: TiltGeometry,
    size_yx: tuple[int, int],
    *,
    step: float = 1.0,
    centre_zyx: npt.ArrayLike = (0.0, 0.0, 0.0),
    threads: int = 1,
) -> FloatImages:
    """Resample images (tilt, y, x) onto a grid in the specimen's plane: (tilt, *size_yx), cubic.

    The grid's origin, at index size // 2, lies at ``centre_zyx`` of the specimen; its points are ``step``
    pixels apart. Beyond an image's edge its values are 0, reached by a smooth taper.
    """
    matrices = plane_to_image(geometry)
    origin = geometry.project(np.asarray(centre_zyx, dtype=np.float64)[None])[:, 0]
    plane = np.empty((len(images), *size_yx), dtype=np.float32)

    def resample(index: int) -> None:
        _resample(images[index], plane[index], matrices[index] * step, origin[index, 0], origin[index, 1])

    for_each(resample, len(images), threads)
    return plane


@njit(cache=True, nogil=True)
def _resample(
    image: npt.NDArray[np.float32],
    plane: npt.NDArray[np.float32],
    matrix: npt.NDArray[np.float64],
    origin_y: float,
    origin_x: float,
) -> None:
    """Fill the plane by cubic convolution (Keys, 1981)."""
    height, width = image.shape
    rows, columns = plane.shape
    for row in range(rows):
        for column in range(columns):
            dy, dx = row - rows // 2, column - columns // 2
            y = matrix[0, 0] * dy + matrix[0, 1] * dx + origin_y + height // 2
            x = matrix[1, 0] * dy + matrix[1, 1] * dx + origin_x + width // 2
            plane[row, column] = _cubic(image, y, x)


@njit(cache=True, nogil=True)
def _cubic(image: npt.NDArray[np.float32], y: float, x: float) -> np.float32:
    height, width = image.shape
    taper = np.float32(0.04 * min(height, width))
    edge = min(y - 1, height - 3 - y, x - 1, width - 3 - x)
    if edge <= 0:
        return np.float32(0)
    first_y, first_x = int(y), int(x)
    total = np.float32(0)
    for j in range(4):
        line = np.float32(0)
        for i in range(4):
            line += _keys(np.float32(x - first_x + 1 - i)) * image[first_y - 1 + j, first_x - 1 + i]
        total += _keys(np.float32(y - first_y + 1 - j)) * line
    if edge < taper:
        total *= np.float32(0.5) - np.float32(0.5) * np.cos(np.float32(np.pi) * np.float32(edge) / taper)
    return total


@njit(cache=True, nogil=True, inline="always")
def _keys(distance: np.float32) -> np.float32:
    t = abs(distance)
    if t <= 1:
        return (np.float32(1.5) * t - np.float32(2.5)) * t * t + np.float32(1)
    return ((np.float32(-0.5) * t + np.float32(2.5)) * t - np.float32(4)) * t + np.float32(2)


def edge_window(size_yx: tuple[int, int], taper_part: float = 0.25) -> FloatImages:
    """Give a window (y, x) that falls to 0 over ``taper_part`` of each side as a raised cosine."""
    sides = []
    for size in size_yx:
        distance = (np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) / max(1.0, taper_part * size)
        sides.append(0.5 - 0.5 * np.cos(np.pi * np.minimum(distance, 1.0)))
    window: FloatImages = np.outer(sides[0], sides[1]).astype(np.float32)
    return window
