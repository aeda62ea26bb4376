"""Line integrals of the sample's bodies, in closed form: what one projection would be without noise."""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.phantom import Crack, Phantom

Image = NDArray[np.float32]
Row = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """How the camera looks at the sample.

    A point (x, y, z) µm from the axis and the field's middle appears at the column
    (x cos - y sin) / pixel + centre_px and the row z / pixel + middle_px, with 0 the middle of a pixel.
    """

    shape: tuple[int, int]
    angle_rad: float
    pixel_um: float
    centre_px: float
    middle_px: float


def absorption(phantom: Phantom, view: View, time_s: float) -> Image:
    """Line integrals (y, x) of the attenuation along the beam at one time, float32.

    They are taken at the middles of pixels; the crack's, which may be thinner than a pixel, are means over
    the pixels.
    """
    columns: Row = (np.arange(view.shape[1], dtype=np.float64) - view.centre_px) * view.pixel_um
    image = np.empty(view.shape, dtype=np.float32)
    image[:] = _cylinder_row(phantom, view, columns)
    bodies = phantom.ellipsoids(time_s)
    if bodies:
        table = np.array(
            [[*b.xyz_um, *b.semi_axes_um, b.azimuth_rad, b.attenuation_per_um] for b in bodies], dtype=float
        )
        footprints = _footprints(table, view)
        _add_ellipsoids(image, footprints)
    _add_crack(image, phantom.crack, view, columns, time_s)
    return image


def _across(x: float, y: float, angle: float) -> float:
    """Coordinate across the beam of a point, or of a direction."""
    return float(x * np.cos(angle) - y * np.sin(angle))


def _cylinder_row(phantom: Phantom, view: View, columns: Row) -> Row:
    """Chords of the upright cylinder: the same in every row."""
    x, y = phantom.cylinder_xy_um
    away = (columns - _across(x, y, view.angle_rad)) / phantom.cylinder_radius_um
    chord = 2 * phantom.cylinder_radius_um * np.sqrt(np.maximum(0.0, 1 - away**2))
    row: Row = phantom.attenuation_per_um * chord
    return row


def _footprints(table: Row, view: View) -> Row:
    """Of each body (x, y, z, a, b, c, azimuth, µ): column, row, half width, half height, largest integral."""
    x, y, z, a, b, c, azimuth, mu = table.T
    cos, sin = np.cos(view.angle_rad), np.sin(view.angle_rad)
    # The direction across the beam, (cos, -sin), in the body's own axes.
    first = cos * np.cos(azimuth) - sin * np.sin(azimuth)
    second = -cos * np.sin(azimuth) - sin * np.cos(azimuth)
    half_width = np.hypot(a * first, b * second)
    peak = 2 * mu * a * b / half_width
    column = (x * cos - y * sin) / view.pixel_um + view.centre_px
    row = z / view.pixel_um + view.middle_px
    columns = (column, row, half_width / view.pixel_um, c / view.pixel_um, peak)
    return np.ascontiguousarray(np.stack(columns, axis=1))


@nb.njit(cache=True, nogil=True, fastmath=True)
def _add_ellipsoids(image: Image, footprints: Row) -> None:
    """Add the chords of ellipsoids with footprints (column, row, half width, half height, peak)."""
    height, width = image.shape
    for body in range(footprints.shape[0]):
        column, row, half_width, half_height, peak = footprints[body]
        for y in range(max(0, int(np.ceil(row - half_height))), min(height, int(row + half_height) + 1)):
            left = 1.0 - ((y - row) / half_height) ** 2
            if left <= 0.0:
                continue
            reach = half_width * np.sqrt(left)
            start, stop = max(0, int(np.ceil(column - reach))), min(width, int(column + reach) + 1)
            rest, scale = np.float32(left), np.float32(1.0 / half_width)
            middle, top = np.float32(column), np.float32(peak)
            for x in range(start, stop):
                away = (np.float32(x) - middle) * scale
                image[y, x] += top * np.sqrt(max(rest - away * away, np.float32(0)))


def _add_crack(image: Image, crack: Crack, view: View, columns: Row, time_s: float) -> None:
    width = crack.width_um(time_s)
    if width <= 0:
        return
    direction = np.cos(crack.azimuth_rad), np.sin(crack.azimuth_rad)
    along = crack.half_length_um * abs(_across(*direction, view.angle_rad))
    across = width / 2 * abs(_across(-direction[1], direction[0], view.angle_rad))
    area = 2 * crack.half_length_um * width
    away = columns - _across(crack.xyz_um[0], crack.xyz_um[1], view.angle_rad)
    half = view.pixel_um / 2
    upper = _area_before(away + half, max(along, across), min(along, across))
    lower = _area_before(away - half, max(along, across), min(along, across))
    row = crack.attenuation_per_um * area * (upper - lower) / view.pixel_um
    image += np.outer(_covered_rows(crack, view), row).astype(np.float32)


def _area_before(place: Row, wide: float, narrow: float) -> Row:
    """Share of a turned box's area on one side of lines at `place` from its middle.

    Seen across the beam the box is a trapezium: two blocks of half widths `wide` >= `narrow`, convolved.
    """
    size = np.abs(place)
    flat = 0.5 + size / (2 * wide)
    beyond = np.maximum(wide + narrow - size, 0.0)
    slope = 1 - beyond**2 / (8 * wide * narrow) if narrow > 0 else np.ones_like(size)
    share = np.where(size <= wide - narrow, np.minimum(flat, 1.0), slope)
    return np.where(place >= 0, share, 1 - share)


def _covered_rows(crack: Crack, view: View) -> Row:
    """How much of each row's height the crack covers, 0 to 1."""
    middle = crack.xyz_um[2] / view.pixel_um + view.middle_px
    reach = crack.half_height_um / view.pixel_um
    rows = np.arange(view.shape[0])
    upper = np.minimum(rows + 0.5, middle + reach)
    lower = np.maximum(rows - 0.5, middle - reach)
    covered: Row = np.clip(upper - lower, 0.0, 1.0)
    return covered
