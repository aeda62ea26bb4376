"""Simultaneous iterative reconstruction (SIRT) of a tilt series."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.back_projection import Views, add_rows, level_slice, project_rows, row_positions
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]


def sirt_views(
    views: Views,
    geometry: TiltGeometry,
    shape_zyx: tuple[int, int, int],
    *,
    iterations: int = 15,
    relaxation: float = 1.0,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Reconstruct a volume (z, y, x) from the views (tilt, u, y') of ``align_views`` (Gilbert, 1972).

    Each iteration projects the volume, divides what is missing by the length of each ray, and spreads it over
    the voxels. Rays that cross little of the volume see much that is not in it, and count less. Densities may
    be negative. ``relaxation`` is above 0 and below 2. Raises ValueError for less than one iteration.
    """
    if iterations < 1 or not 0 < relaxation < 2:
        raise ValueError(f"SIRT takes one iteration or more at a relaxation of 0 to 2, not {iterations}")
    across, along = views.shape[1:]
    positions = row_positions(geometry, across, shape_zyx, 1)
    per_ray, per_voxel = _weights(positions, geometry, shape_zyx, across)
    volume = np.zeros((shape_zyx[0], shape_zyx[2], along), np.float32)
    missing = views * per_ray[:, :, None]
    for iteration in range(iterations):
        if iteration:
            missing = project_rows(volume, positions, across, threads=threads)
            np.subtract(views, missing, out=missing)
            missing *= per_ray[:, :, None]
        add_rows(missing, positions, volume, np.float32(relaxation) * per_voxel, threads=threads)
    return _levelled(volume, geometry.x_tilt_deg, shape_zyx, threads)


def _weights(
    positions: FloatArray, geometry: TiltGeometry, shape_zyx: tuple[int, int, int], across: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Give what each ray (tilt, u) and each voxel (z, x) is multiplied by."""
    ones = np.ones((shape_zyx[0], shape_zyx[2], 1), np.float32)
    length = project_rows(ones, positions, across)[:, :, 0].astype(np.float64)
    whole = shape_zyx[0] / np.maximum(np.abs(np.cos(np.deg2rad(geometry.tilt_angle_deg))), 0.05)
    per_ray = np.minimum(1.0 / np.maximum(length, 1e-3), length / whole[:, None] ** 2)
    count = np.zeros_like(ones)
    rays = np.ascontiguousarray(np.broadcast_to(length[:, :, None] > 0, (*length.shape, 1)), dtype=np.float32)
    add_rows(rays, positions, count, np.ones(ones.shape[:2], np.float32))
    per_voxel = 1.0 / np.maximum(count[:, :, 0], 1.0)
    return per_ray.astype(np.float32), per_voxel.astype(np.float32)


def _levelled(
    volume_zxy: Views, x_tilt_deg: float, shape_zyx: tuple[int, int, int], threads: int
) -> npt.NDArray[np.float32]:
    levelled = np.empty(shape_zyx, np.float32)

    def level(z: int) -> None:
        levelled[z] = level_slice(volume_zxy[z], z - shape_zyx[0] // 2, x_tilt_deg, shape_zyx[1])

    for_each(level, shape_zyx[0], threads)
    return levelled
