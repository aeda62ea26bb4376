"""Tilt series of Gaussian blobs, whose projections are known in closed form.

The formula is written out here point by point, from the definition of the geometry, and shares nothing with
the code under test.
"""

from math import cos, radians, sin

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tomofly.imaging.tilt_geometry import TiltGeometry


def appearance(point_zyx: npt.ArrayLike, tilt: float, axis: float, x_tilt: float) -> tuple[float, float]:
    """Where a centred point appears, (y, x) from the image's centre, before the image's shift."""
    z, y, x = (float(value) for value in np.asarray(point_zyx))
    y, z = (
        y * cos(radians(x_tilt)) - z * sin(radians(x_tilt)),
        y * sin(radians(x_tilt)) + z * cos(radians(x_tilt)),
    )
    x = x * cos(radians(tilt)) + z * sin(radians(tilt))
    across, along = cos(radians(axis)), sin(radians(axis))
    return along * x + across * y, across * x - along * y


def blob_images(
    points_zyx: npt.NDArray[np.float64], sigma_px: float, geometry: TiltGeometry, shape_yx: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Images (tilt, y, x) of blobs with the integral 1."""
    rows = np.arange(shape_yx[0])[:, None] - shape_yx[0] // 2
    columns = np.arange(shape_yx[1])[None, :] - shape_yx[1] // 2
    images = np.zeros((len(geometry), *shape_yx))
    for index in range(len(geometry)):
        tilt, axis = geometry.tilt_angle_deg[index], geometry.axis_angle_deg[index]
        shift_y, shift_x = geometry.shift_yx_px[index]
        for point in points_zyx:
            y, x = appearance(point, tilt, axis, geometry.x_tilt_deg)
            squared = (rows - y + shift_y) ** 2 + (columns - x + shift_x) ** 2
            images[index] += np.exp(-squared / (2 * sigma_px**2)) / (2 * np.pi * sigma_px**2)
    return images.astype(np.float32)


def blob_volume(
    points_zyx: npt.NDArray[np.float64], sigma_px: float, shape_zyx: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """The same blobs as a volume (z, y, x)."""
    axes = [np.arange(size) - size // 2 for size in shape_zyx]
    volume = np.zeros(shape_zyx)
    for point in points_zyx:
        lines = [
            np.exp(-((axis - at) ** 2) / (2 * sigma_px**2)) for axis, at in zip(axes, point, strict=True)
        ]
        volume += np.einsum("z,y,x->zyx", *lines) / (2 * np.pi * sigma_px**2) ** 1.5
    return volume.astype(np.float32)


def centroid(
    volume: npt.NDArray[np.float32], near_zyx: npt.ArrayLike, radius: int
) -> npt.NDArray[np.float64]:
    """Where the density near a centred point has its centre of mass, centred (z, y, x)."""
    middle = np.array([size // 2 for size in volume.shape])
    start = np.round(np.asarray(near_zyx) + middle).astype(int) - radius
    box = volume[tuple(slice(first, first + 2 * radius + 1) for first in start)].astype(np.float64)
    box = np.clip(box - 0.3 * box.max(), 0, None)
    grids = np.indices(box.shape).reshape(3, -1)
    return (grids @ box.ravel()) / box.sum() + start - middle


def dotted_slab(
    thickness_px: float,
    geometry: TiltGeometry,
    shape_yx: tuple[int, int],
    *,
    dots: int = 6000,
    noise: float = 0.5,
    seed: int = 1,
) -> npt.NDArray[np.float32]:
    """Images (tilt, y, x) of dots strewn in a level slab that reaches beyond the images, with noise."""
    random = np.random.default_rng(seed)
    reach = 1.6 * max(shape_yx)
    points = random.uniform([-thickness_px / 2, -reach, -reach], [thickness_px / 2, reach, reach], (dots, 3))
    images = np.empty((len(geometry), *shape_yx), np.float32)
    for index in range(len(geometry)):
        y, x = _appearances(points, geometry, index)
        edges = [np.arange(size + 1) - 0.5 - size // 2 for size in shape_yx]
        counts, _, _ = np.histogram2d(y, x, bins=(edges[0], edges[1]))
        images[index] = gaussian_filter(counts, 1.2) * 20 + random.normal(0, noise, shape_yx)
    return images


def _appearances(
    points_zyx: npt.NDArray[np.float64], geometry: TiltGeometry, index: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    tilt, axis = (radians(float(a[index])) for a in (geometry.tilt_angle_deg, geometry.axis_angle_deg))
    level = radians(geometry.x_tilt_deg)
    z, y, x = points_zyx.T
    y, z = y * cos(level) - z * sin(level), y * sin(level) + z * cos(level)
    x = x * cos(tilt) + z * sin(tilt)
    shift_y, shift_x = geometry.shift_yx_px[index]
    return sin(axis) * x + cos(axis) * y - shift_y, cos(axis) * x - sin(axis) * y - shift_x
