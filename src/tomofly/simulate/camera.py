"""The camera: electrons on moving specimen waves become counts of one frame."""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tomofly.simulate.microscope import SpaMicroscope

Image = NDArray[np.float32]

LARGEST = {"int8": 127.0, "uint8": 255.0, "uint16": 65535.0, "float32": 3.4e38}
# Columns read out together, which share a part of their gain.
READOUT_COLUMNS = 128
# Beyond this many electrons per pixel a normal law with the right skewness replaces the exact draw.
MANY_ELECTRONS = 60.0


@dataclass(frozen=True)
class Camera:
    """Response of each frame pixel.

    `gain` (y, x): what multiplies a frame to correct it; `sensitivity` (y, x): counts per electron,
    1 / gain, and 0 where a pixel is dead; `hot_yx_px` (n, 2) with their own `hot_rate` (n,) per frame.
    """

    gain: Image
    sensitivity: Image
    hot_yx_px: NDArray[np.int64]
    hot_rate: NDArray[np.float64]
    dead_yx_px: NDArray[np.int64]


def gain_reference(microscope: SpaMicroscope) -> Image:
    """Gain reference (y, x) float32, mean 1: multiply raw frames by it to correct them."""
    random = microscope.random("gain")
    height, width = microscope.frame_yx_px
    pixels = random.normal(size=(height, width))
    columns = np.repeat(random.normal(size=width // READOUT_COLUMNS + 1), READOUT_COLUMNS)[:width]
    coarse = gaussian_filter(random.normal(size=(32, 32)), 5.0)
    rows = np.linspace(0, 31, height).astype(int)
    smooth = (coarse / coarse.std())[rows][:, np.linspace(0, 31, width).astype(int)]
    smooth = gaussian_filter(smooth, (height / 64, width / 64))
    pattern = np.sqrt(0.6) * pixels + np.sqrt(0.2) * columns + np.sqrt(0.2) * smooth
    gain = np.clip(1 + microscope.gain_variation * pattern, 0.4, 2.5)
    reference: Image = (gain / gain.mean()).astype(np.float32)
    return reference


def make_camera(microscope: SpaMicroscope) -> Camera:
    """The camera of this microscope, the same for all of its movies."""
    gain = gain_reference(microscope)
    random = microscope.random("defects")
    height, width = microscope.frame_yx_px
    hot = round(microscope.hot_pixel_fraction * height * width)
    dead = round(microscope.dead_pixel_fraction * height * width)
    pixels = random.choice(height * width, hot + dead, replace=False)
    places = np.stack(np.divmod(pixels, width), axis=1).astype(np.int64)
    sensitivity = (1 / gain).astype(np.float32)
    sensitivity[places[hot:, 0], places[hot:, 1]] = 0
    rate = microscope.electrons_per_frame_px * random.uniform(5, 60, hot) + 5
    return Camera(gain, sensitivity, places[:hot], rate, places[hot:])


@nb.njit(cache=True, nogil=True, inline="always")
def _next(state: np.uint64) -> np.uint64:
    """Advance a counter by the golden ratio (splitmix64; Steele, Lea and Flood 2014)."""
    return state + np.uint64(0x9E3779B97F4A7C15)


@nb.njit(cache=True, nogil=True, inline="always")
def _uniform(state: np.uint64) -> float:
    """A number in (0, 1) from a counter: splitmix64's output function."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) * 1.1102230246251565e-16


@nb.njit(cache=True, nogil=True)
def _many(rate: float, first: float, second: float) -> float:
    """A count for a large rate: normal with the Cornish-Fisher term for a Poisson law's skewness."""
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return float(max(0.0, np.floor(rate + np.sqrt(rate) * normal + (normal * normal - 1.0) / 6.0 + 0.5)))


@nb.njit(cache=True, nogil=True)
def _few(rate: float, uniform: float, inverse: NDArray[np.float64]) -> float:
    """A Poisson count by inversion of its distribution function."""
    probability = np.exp(-rate)
    count = 0
    while uniform > probability and count < inverse.size - 1:
        uniform -= probability
        count += 1
        probability *= rate * inverse[count]
    return float(count)


@nb.njit(cache=True, nogil=True)
def _shifts_along_row(shifts: NDArray[np.float64], place: float, out: NDArray[np.float64]) -> None:
    """Shifts (node x, 2) at a place between the rows of nodes, linear between them."""
    above = min(int(place), shifts.shape[0] - 2)
    part = place - above
    for j in range(shifts.shape[1]):
        out[j, 0] = (1 - part) * shifts[above, j, 0] + part * shifts[above + 1, j, 0]
        out[j, 1] = (1 - part) * shifts[above, j, 1] + part * shifts[above + 1, j, 1]


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _spline_weights(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Weights of the four cubic B-splines around a place, `t` beyond the second one."""
    u = np.float32(1) - t
    sixth = np.float32(1 / 6)
    first, last = u * u * u * sixth, t * t * t * sixth
    second = np.float32(2 / 3) - np.float32(0.5) * t * t * (np.float32(2) - t)
    return first, second, np.float32(1) - first - second - last, last


@nb.njit(cache=True, nogil=True, fastmath=True)
def _warp_row(coefficients: Image, row_shifts: NDArray[np.float64], y: int, margin: int, out: Image) -> None:
    """Fill `out` (x,) with the specimen under row `y` of a frame, from its cubic B-spline coefficients."""
    height, width = coefficients.shape
    nodes = row_shifts.shape[0]
    pitch = (nodes - 1.0) / (out.size - 1.0)
    for x in range(out.size):
        place = x * pitch
        j = min(int(place), nodes - 2)
        part = place - j
        at_y = y + margin + (1 - part) * row_shifts[j, 0] + part * row_shifts[j + 1, 0]
        at_x = x + margin + (1 - part) * row_shifts[j, 1] + part * row_shifts[j + 1, 1]
        # The margin holds every movement; the limits only keep a rounding error inside the array.
        i0 = min(max(int(np.floor(at_y)), 1), height - 3)
        j0 = min(max(int(np.floor(at_x)), 1), width - 3)
        a0, a1, a2, a3 = _spline_weights(np.float32(at_y - i0))
        b0, b1, b2, b3 = _spline_weights(np.float32(at_x - j0))
        value = np.float32(0)
        for i, a in ((i0 - 1, a0), (i0, a1), (i0 + 1, a2), (i0 + 2, a3)):
            line = coefficients[i, j0 - 1] * b0 + coefficients[i, j0] * b1
            line += coefficients[i, j0 + 1] * b2 + coefficients[i, j0 + 2] * b3
            value += a * line
        out[x] = value


@nb.njit(cache=True, nogil=True)
def warp(coefficients: Image, shifts: NDArray[np.float64], margin: int, out: Image) -> None:
    """Fill `out` (y, x) with the specimen as one frame shows it.

    `coefficients` (y, x) are those of the cubic B-spline of the simulated area with its margin;
    `shifts` (node y, node x, 2) are to be applied to bring the frame onto frame 0, and span it.
    """
    along = np.empty((shifts.shape[1], 2))
    for y in range(out.shape[0]):
        _shifts_along_row(shifts, y * (shifts.shape[0] - 1.0) / (out.shape[0] - 1.0), along)
        _warp_row(coefficients, along, y, margin, out[y])


@nb.njit(cache=True, nogil=True)
def _count(
    intensity: Image, sensitivity: Image, electrons: float, largest: float, key: int, out: np.ndarray
) -> None:
    """Fill `out` (y, x) with Poisson counts of `electrons` x `intensity` x `sensitivity`."""
    inverse = 1.0 / np.arange(1.0, 402.0)
    inverse[1:] = inverse[:-1].copy()
    for y in range(out.shape[0]):
        state = np.uint64(key) + np.uint64(y) * np.uint64(0xD1342543DE82EF95)
        for x in range(out.shape[1]):
            rate = electrons * sensitivity[y, x] * max(intensity[y, x], np.float32(0.02))
            state = _next(state)
            if rate < MANY_ELECTRONS:
                count = _few(rate, _uniform(state), inverse)
            else:
                first = _uniform(state)
                state = _next(state)
                count = _many(rate, first, _uniform(state))
            out[y, x] = min(count, largest)


def count_electrons(
    intensity: Image,
    camera: Camera,
    electrons_per_px: float,
    random: np.random.Generator,
    out: NDArray[np.generic],
) -> None:
    """Fill the frame `out` (y, x), of any camera type, with the counts of one exposure.

    `intensity` (y, x): 1 where nothing takes electrons away. Counts beyond the type's largest are cut.
    """
    largest = LARGEST[out.dtype.name]
    key = int(random.integers(1 << 62))
    _count(intensity, camera.sensitivity, electrons_per_px, largest, key, out)
    hot = random.poisson(camera.hot_rate)
    out[camera.hot_yx_px[:, 0], camera.hot_yx_px[:, 1]] = np.minimum(hot, largest).astype(out.dtype)
