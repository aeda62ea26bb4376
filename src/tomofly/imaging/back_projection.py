"""Back-projection of a tilt series, and its adjoint.

The images are first brought, by one interpolation, onto a grid whose rows run along the tilt axis: a *view*
(u, y), u across the axis. Every row of voxels along y then is a sum of rows of the views, two of each with
the same weights for all y, so that the inner loop is a plain sum over contiguous memory.

With the specimen turned by the x-tilt a, the point (x, y, z) is seen at

    u = x·cos θ + (y·sin a + z·cos a)·sin θ,   v = y·cos a − z·sin a,

which, in y' = y − z·tan a, is u = x·cos θ + z·sin θ/cos a + y'·sin a·sin θ and v = y'·cos a. The terms in y'
go into the images' interpolation; what is left is back-projection about an axis along y', and a shift of each
slice by z·tan a.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.interpolation import STEPS, TAPS, tap_table
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

Views = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

# Slices and columns that are summed together: the part of a view and of the sums in use stay in cache.
_SLICES = 8
_COLUMNS = 32
# An image goes on beyond its edges mirrored, fading out over this fraction of its size, so that the filters
# meet no step there.
_FADE = 0.1


@dataclass(frozen=True)
class ViewGrid:
    """The sampling of the views: widths in pixels, origins at index ``n // 2``."""

    across: int
    along: int


def view_grid(
    image_shape_yx: tuple[int, int], geometry: TiltGeometry, shape_zyx: tuple[int, ...]
) -> ViewGrid:
    """Give the grid that holds all that the volume (z, y, x) needs, and the images' own width for filters."""
    depth, height, width = shape_zyx
    tilt, x_tilt = np.deg2rad(geometry.tilt_angle_deg), np.deg2rad(geometry.x_tilt_deg)
    reach = width * np.abs(np.cos(tilt)) + depth * np.abs(np.sin(tilt)) / np.cos(x_tilt)
    axis = np.deg2rad(geometry.axis_angle_deg)
    extent = image_shape_yx[1] * np.abs(np.cos(axis)) + image_shape_yx[0] * np.abs(np.sin(axis))
    across = int(np.ceil(max(reach.max(), min(extent.max(), 2.0 * reach.max()))))
    slant = depth * abs(np.tan(x_tilt))
    along = height if geometry.x_tilt_deg == 0 else height + int(np.ceil(slant)) + 2 * TAPS
    return ViewGrid(across + 4, along)


def align_views(
    images: npt.NDArray[Any], geometry: TiltGeometry, grid: ViewGrid, *, threads: int = 1
) -> Views:
    """Shift, turn and shear images (tilt, y, x) onto views (tilt, u, y), float32, by a windowed sinc.

    Each image's mean is taken off, so that what lies outside is 0. Raises ValueError where images and
    geometry differ in number.
    """
    if len(images) != len(geometry):
        raise ValueError(f"{len(images)} images do not fit the geometry of {len(geometry)} tilts")
    views = np.empty((len(images), grid.across, grid.along), np.float32)
    table = tap_table()
    maps = _view_to_image(geometry, grid, images.shape[1:])

    def align(index: int) -> None:
        image = np.asarray(images[index], dtype=np.float32)
        centred = np.ascontiguousarray(image - np.float32(image.mean(dtype=np.float64)))
        _resample(centred, maps[index], table, _FADE * min(image.shape), views[index])

    for_each(align, len(images), threads)
    return views


def _view_to_image(geometry: TiltGeometry, grid: ViewGrid, image_shape_yx: tuple[int, ...]) -> FloatArray:
    """Give (tilt, 2, 3): an image's index (y, x) is this matrix times the view's index (u, y, 1)."""
    tilt, axis = np.deg2rad(geometry.tilt_angle_deg), np.deg2rad(geometry.axis_angle_deg)
    x_tilt = np.deg2rad(geometry.x_tilt_deg)
    cosine, sine = np.cos(axis), np.sin(axis)
    shear, squeeze = np.sin(x_tilt) * np.sin(tilt), np.cos(x_tilt)
    maps = np.empty((len(geometry), 2, 3))
    maps[:, 0, 0], maps[:, 0, 1] = sine, sine * shear + cosine * squeeze
    maps[:, 1, 0], maps[:, 1, 1] = cosine, cosine * shear - sine * squeeze
    centre = np.array([grid.across // 2, grid.along // 2], dtype=np.float64)
    middle = np.array([image_shape_yx[0] // 2, image_shape_yx[1] // 2], dtype=np.float64)
    maps[:, :, 2] = middle - geometry.shift_yx_px - maps[:, :, :2] @ centre
    return maps


@njit(cache=True, nogil=True)
def _mirrored(index: int, size: int) -> int:
    period = 2 * size - 2
    index = index % period
    return index if index < size else period - index


@njit(cache=True, nogil=True)
def _faded(position: float, size: int, fade: float) -> float:
    """Give the weight of an image outside of which it fades out."""
    outside = max(-position, position - (size - 1))
    if outside <= 0:
        return 1.0
    return 0.5 + 0.5 * np.cos(np.pi * outside / fade) if outside < fade else 0.0


@njit(cache=True, nogil=True, fastmath=True)
def _weighted_taps(
    image: npt.NDArray[np.float32],
    row: int,
    column: int,
    wy: npt.NDArray[np.float32],
    wx: npt.NDArray[np.float32],
) -> np.float32:
    total = np.float32(0.0)
    for i in range(TAPS):
        line = np.float32(0.0)
        source = image[row + i]
        for j in range(TAPS):
            line += wx[j] * source[column + j]
        total += wy[i] * line
    return total


@njit(cache=True, nogil=True, fastmath=True)
def _mirrored_taps(
    image: npt.NDArray[np.float32],
    row: int,
    column: int,
    wy: npt.NDArray[np.float32],
    wx: npt.NDArray[np.float32],
) -> np.float32:
    total = np.float32(0.0)
    for i in range(TAPS):
        source = image[_mirrored(row + i, image.shape[0])]
        for j in range(TAPS):
            total += wy[i] * wx[j] * source[_mirrored(column + j, image.shape[1])]
    return total


@njit(cache=True, nogil=True)
def _resample(
    image: npt.NDArray[np.float32],
    matrix: FloatArray,
    table: npt.NDArray[np.float32],
    fade: float,
    view: npt.NDArray[np.float32],
) -> None:
    rows, columns = image.shape
    for u in range(view.shape[0]):
        for along in range(view.shape[1]):
            y = matrix[0, 0] * u + matrix[0, 1] * along + matrix[0, 2]
            x = matrix[1, 0] * u + matrix[1, 1] * along + matrix[1, 2]
            weight = _faded(y, rows, fade) * _faded(x, columns, fade)
            if weight == 0.0:
                view[u, along] = 0.0
                continue
            step_y, step_x = int(np.floor(y * STEPS + 0.5)), int(np.floor(x * STEPS + 0.5))
            row, column = step_y // STEPS - TAPS // 2 + 1, step_x // STEPS - TAPS // 2 + 1
            wy, wx = table[step_y % STEPS], table[step_x % STEPS]
            if row >= 0 and column >= 0 and row + TAPS <= rows and column + TAPS <= columns:
                view[u, along] = _weighted_taps(image, row, column, wy, wx)
            else:
                view[u, along] = weight * _mirrored_taps(image, row, column, wy, wx)


def row_positions(
    geometry: TiltGeometry, across: int, shape_zyx: tuple[int, ...], oversampling: int
) -> FloatArray:
    """Give (tilt, 3): the row of a view that voxel (x, z) lies on is [0] + [1]·x + [2]·z, in indices."""
    tilt = np.deg2rad(geometry.tilt_angle_deg)
    per_x, per_z = np.cos(tilt), np.sin(tilt) / np.cos(np.deg2rad(geometry.x_tilt_deg))
    first = across // 2 - per_x * (shape_zyx[2] // 2) - per_z * (shape_zyx[0] // 2)
    return np.stack([first, per_x, per_z], axis=1) * oversampling


def back_project(
    views: Views, geometry: TiltGeometry, shape_zyx: tuple[int, int, int], *, across: int, threads: int = 1
) -> Views:
    """Sum views (tilt, u, y') over the rays through each voxel: a volume (z, y, x), float32.

    ``across``: the views' width in pixels; they may be sampled a whole number of times finer. Interpolation
    is linear across the axis. The views are those of ``align_views``, filtered or not.
    """
    oversampling = views.shape[1] // across
    positions = row_positions(geometry, across, shape_zyx, oversampling)
    volume = np.empty(shape_zyx, np.float32)

    def place(first: int, totals: Views) -> None:
        for index, total in enumerate(totals, first):
            volume[index] = level_slice(total, index - shape_zyx[0] // 2, geometry.x_tilt_deg, shape_zyx[1])

    _by_blocks(views, positions, shape_zyx, place, threads)
    return volume


def add_rows(
    views: Views,
    positions: FloatArray,
    volume_zxy: Views,
    gain_zx: npt.NDArray[np.float32],
    *,
    threads: int = 1,
) -> None:
    """Add the views' sums, times a gain (z, x), to a volume (z, x, y') in the order of the computation."""
    shape_zyx = (volume_zxy.shape[0], volume_zxy.shape[2], volume_zxy.shape[1])

    def place(first: int, totals: Views) -> None:
        chosen = slice(first, first + len(totals))
        volume_zxy[chosen] += gain_zx[chosen, :, None] * totals

    _by_blocks(views, positions, shape_zyx, place, threads)


def _by_blocks(
    views: Views,
    positions: FloatArray,
    shape_zyx: tuple[int, ...],
    place: Callable[[int, Views], None],
    threads: int,
) -> None:
    def fill(block: int) -> None:
        first = block * _SLICES
        count = min(_SLICES, shape_zyx[0] - first)
        totals = np.zeros((count, shape_zyx[2], views.shape[2]), np.float32)
        _add_views(views, positions, first, totals)
        place(first, totals)

    for_each(fill, -(-shape_zyx[0] // _SLICES), threads)


@njit(cache=True, nogil=True, fastmath=True)
def _add_views(views: Views, positions: FloatArray, first_z: int, totals: Views) -> None:
    columns = totals.shape[1]
    for start in range(0, columns, _COLUMNS):
        stop = min(start + _COLUMNS, columns)
        for index in range(views.shape[0]):
            for z in range(totals.shape[0]):
                row = positions[index, 0] + positions[index, 2] * (first_z + z)
                _add_rows(views[index], row, positions[index, 1], totals[z], start, stop)


@njit(cache=True, nogil=True, fastmath=True)
def _add_rows(
    view: npt.NDArray[np.float32],
    first: float,
    step: float,
    total: npt.NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    for x in range(start, stop):
        position = first + step * x
        row = int(np.floor(position))
        if row < 0 or row + 1 >= view.shape[0]:
            continue
        upper = np.float32(position - row)
        lower = np.float32(1.0) - upper
        below, above, line = view[row], view[row + 1], total[x]
        for y in range(line.shape[0]):
            line[y] += lower * below[y] + upper * above[y]


def project_rows(volume_zxy: Views, positions: FloatArray, across: int, *, threads: int = 1) -> Views:
    """Give the views (tilt, u, y') of a volume (z, x, y'): the adjoint of ``add_rows``."""
    views = np.zeros((len(positions), across, volume_zxy.shape[2]), np.float32)

    def project(index: int) -> None:
        _spread_rows(volume_zxy, positions[index], views[index])

    for_each(project, len(positions), threads)
    return views


@njit(cache=True, nogil=True, fastmath=True)
def _spread_rows(volume: Views, position: FloatArray, view: npt.NDArray[np.float32]) -> None:
    for z in range(volume.shape[0]):
        for x in range(volume.shape[1]):
            at = position[0] + position[1] * x + position[2] * z
            row = int(np.floor(at))
            if row < 0 or row + 1 >= view.shape[0]:
                continue
            upper = np.float32(at - row)
            lower = np.float32(1.0) - upper
            below, above, line = view[row], view[row + 1], volume[z, x]
            for y in range(line.shape[0]):
                below[y] += lower * line[y]
                above[y] += upper * line[y]


def level_slice(
    total: npt.NDArray[np.float32], z: int, x_tilt_deg: float, height: int
) -> npt.NDArray[np.float32]:
    """Bring a slice (x, y') at height ``z`` from the centre to (y, x), undoing y' = y − z·tan(x-tilt)."""
    if x_tilt_deg == 0:
        return total.T
    first = total.shape[1] // 2 - height // 2 - z * np.tan(np.deg2rad(x_tilt_deg))
    step = int(np.floor(first * STEPS + 0.5))
    start, weights = step // STEPS - TAPS // 2 + 1, tap_table()[step % STEPS]
    moved = np.zeros((total.shape[0], height), np.float32)
    for tap, weight in enumerate(weights, start):
        moved += weight * total[:, tap : tap + height]
    return moved.T
