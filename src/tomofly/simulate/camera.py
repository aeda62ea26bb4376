"""The camera: electrons on moving specimen waves become counts of one frame."""

from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from tomofly.simulate.fields import smooth_map
from tomofly.simulate.microscope import SpaMicroscope

Image = NDArray[np.float32]

LARGEST = {"int8": 127.0, "uint8": 255.0, "uint16": 65535.0, "float32": 3.4e38}
# Columns read out together, which share a part of their gain.
READOUT_COLUMNS = 128
# Beyond this many electrons per pixel a normal law with the right skewness replaces the exact draw.
MANY_ELECTRONS = 60.0
# Rates for which the distribution is tabulated.
RATE_LEVELS = 1024


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
    columns = np.repeat(random.standard_normal(width // READOUT_COLUMNS + 1, np.float32), READOUT_COLUMNS)
    pattern = np.float32(np.sqrt(0.6)) * random.standard_normal((height, width), dtype=np.float32)
    pattern += np.float32(np.sqrt(0.2)) * (columns[:width] + smooth_map(random, (height, width)))
    gain = np.clip(1 + np.float32(microscope.gain_variation) * pattern, 0.4, 2.5)
    reference: Image = (gain / gain.mean(dtype=float)).astype(np.float32)
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
def _random_word(state: np.uint64) -> np.uint64:
    """64 random bits from a counter: splitmix64's output function (Steele, Lea and Flood 2014)."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@nb.njit(cache=True, nogil=True)
def _many(rate: float, word: np.uint64) -> float:
    """A count for a large rate: normal with the Cornish-Fisher term for a Poisson law's skewness."""
    first = (np.float64(word >> np.uint64(32)) + 0.5) * 2.0**-32
    second = np.float64(word & np.uint64(0xFFFFFFFF)) * 2.0**-32
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return float(max(0.0, np.floor(rate + np.sqrt(rate) * normal + (normal * normal - 1.0) / 6.0 + 0.5)))


@nb.njit(cache=True, nogil=True)
def _few(rate: float, word: np.uint64) -> float:
    """A Poisson count by inversion of its distribution function."""
    left = (np.float64(word >> np.uint64(11)) + 0.5) * 2.0**-53
    probability = np.exp(-rate)
    count = 0
    while left > probability and count < 4 * MANY_ELECTRONS:
        left -= probability
        count += 1
        probability *= rate / count
    return float(count)


@nb.njit(cache=True, nogil=True)
def alias_row(probability: NDArray[np.float64], row: NDArray[np.uint32]) -> None:
    """Fill one row of an alias table (Vose 1991): 24 bits of threshold, then 8 bits of the other count.

    `probability` (n,) of each count is used up; n is a power of two, 256 at most.
    """
    n = row.size
    probability *= n / probability.sum()
    small, large = np.empty(n, np.int64), np.empty(n, np.int64)
    smalls = larges = 0
    for count in range(n):
        row[count] = np.uint32((0xFFFFFF << 8) | count)
        if probability[count] < 1.0:
            small[smalls] = count
            smalls += 1
        else:
            large[larges] = count
            larges += 1
    while smalls > 0 and larges > 0:
        poor, rich = small[smalls - 1], large[larges - 1]
        row[poor] = np.uint32((int(probability[poor] * 0xFFFFFF) << 8) | rich)
        smalls -= 1
        probability[rich] -= 1.0 - probability[poor]
        if probability[rich] < 1.0:
            larges -= 1
            small[smalls] = rich
            smalls += 1


@lru_cache(maxsize=2)
def poisson_table(highest_rate: float) -> NDArray[np.uint32]:
    """Alias tables (level, count) of Poisson laws with rates from 0 to `highest_rate`, equally spaced."""
    counts = 16
    while counts < highest_rate + 8 * np.sqrt(highest_rate) + 8:
        counts *= 2
    table = np.empty((RATE_LEVELS, counts), dtype=np.uint32)
    number = np.arange(counts)
    for level, rate in enumerate(np.linspace(0, highest_rate, RATE_LEVELS)):
        law = np.exp(xlogy(number, rate) - rate - gammaln(number + 1.0))
        alias_row(law, table[level])
    return table


@nb.njit(cache=True, nogil=True, fastmath=True)
def _shifts_along_row(shifts: NDArray[np.float64], place: float, axis: int, out: Image) -> None:
    """Fill `out` (x,) with one component of the shifts at a place between rows of nodes, linearly."""
    last = shifts.shape[1] - 1
    above = min(int(place), shifts.shape[0] - 2)
    part = place - above
    for x in range(out.size):
        across = x * (last / (out.size - 1.0))
        j = min(int(across), last - 1)
        left = shifts[above, j, axis] + part * (shifts[above + 1, j, axis] - shifts[above, j, axis])
        j += 1
        right = shifts[above, j, axis] + part * (shifts[above + 1, j, axis] - shifts[above, j, axis])
        out[x] = left + (across - j + 1) * (right - left)


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _spline_weights(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Weights of the four cubic B-splines around a place, `t` beyond the second one."""
    u = np.float32(1) - t
    sixth = np.float32(1 / 6)
    first, last = u * u * u * sixth, t * t * t * sixth
    second = np.float32(2 / 3) - np.float32(0.5) * t * t * (np.float32(2) - t)
    return first, second, np.float32(1) - first - second - last, last


@nb.njit(cache=True, nogil=True, fastmath=True)
def _sample_run(rows: Image, dy: Image, dx: Image, whole_y: float, whole_x: float, out: Image) -> None:
    """Fill `out` (n,) from `rows` (4, n + 3): pixels whose shifts share their whole parts."""
    base_y, base_x = np.float32(whole_y), np.float32(whole_x)
    for x in range(out.size):
        a0, a1, a2, a3 = _spline_weights(dy[x] - base_y)
        b0, b1, b2, b3 = _spline_weights(dx[x] - base_x)
        out[x] = (
            a0 * (b0 * rows[0, x] + b1 * rows[0, x + 1] + b2 * rows[0, x + 2] + b3 * rows[0, x + 3])
            + a1 * (b0 * rows[1, x] + b1 * rows[1, x + 1] + b2 * rows[1, x + 2] + b3 * rows[1, x + 3])
            + a2 * (b0 * rows[2, x] + b1 * rows[2, x + 1] + b2 * rows[2, x + 2] + b3 * rows[2, x + 3])
            + a3 * (b0 * rows[3, x] + b1 * rows[3, x + 1] + b2 * rows[3, x + 2] + b3 * rows[3, x + 3])
        )


@nb.njit(cache=True, nogil=True)
def _warp(coefficients: Image, shifts: NDArray[np.float64], margin: int, out: Image) -> None:
    """Fill `out` (y, x), run by run of equal whole shifts, which lets the compiler use vectors."""
    dy, dx = np.empty(out.shape[1], np.float32), np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        place = y * (shifts.shape[0] - 1.0) / (out.shape[0] - 1.0)
        _shifts_along_row(shifts, place, 0, dy)
        _shifts_along_row(shifts, place, 1, dx)
        start = 0
        while start < out.shape[1]:
            whole_y, whole_x = np.floor(dy[start]), np.floor(dx[start])
            end = start + 1
            while end < out.shape[1] and np.floor(dy[end]) == whole_y and np.floor(dx[end]) == whole_x:
                end += 1
            top, left = y + margin + int(whole_y) - 1, start + margin + int(whole_x) - 1
            rows = coefficients[top : top + 4, left : left + end - start + 3]
            _sample_run(rows, dy[start:end], dx[start:end], whole_y, whole_x, out[y, start:end])
            start = end


def warp(coefficients: Image, shifts: NDArray[np.float64], margin: int, out: Image) -> None:
    """Fill `out` (y, x) with the specimen as one frame shows it.

    `coefficients` (y, x) are those of the cubic B-spline of the simulated area with its margin;
    `shifts` (node y, node x, 2) are to be applied to bring the frame onto frame 0, and span it.
    Raises ValueError where the margin is too narrow for the shifts.
    """
    if np.abs(shifts).max() + 3 > margin:
        raise ValueError(f"a margin of {margin} px cannot hold a shift of {np.abs(shifts).max():.1f} px")
    _warp(coefficients, shifts, margin, out)


@nb.njit(cache=True, nogil=True)
def _count(
    intensity: Image,
    sensitivity: Image,
    electrons: float,
    table: NDArray[np.uint32],
    highest_rate: float,
    largest: float,
    key: int,
    out: NDArray[np.generic],
) -> None:
    """Fill `out` (y, x) with Poisson counts of `electrons` x `intensity` x `sensitivity`."""
    column_mask = np.uint64(table.shape[1] - 1)
    level_per_rate = np.float32((table.shape[0] - 1.0) / highest_rate)
    last_level = table.shape[0] - 1
    for y in range(out.shape[0]):
        state = np.uint64(key) + np.uint64(y) * np.uint64(0xD1342543DE82EF95)
        for x in range(out.shape[1]):
            rate = np.float32(electrons) * sensitivity[y, x] * max(intensity[y, x], np.float32(0.02))
            state += np.uint64(0x9E3779B97F4A7C15)
            word = _random_word(state)
            # Rounding the level up or down at random keeps the mean exact between two levels.
            dither = np.float32(word >> np.uint64(40)) * np.float32(2.0**-24)
            level = int(rate * level_per_rate + dither)
            if level <= last_level:
                column = word & column_mask
                entry = table[level, column]
                stay = np.uint32((word >> np.uint64(8)) & np.uint64(0xFFFFFF)) < (entry >> np.uint32(8))
                count = float(column) if stay else float(entry & np.uint32(0xFF))
            elif rate < MANY_ELECTRONS:
                count = _few(rate, word)
            else:
                count = _many(rate, word)
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
    highest_rate = min(3.0 * electrons_per_px, MANY_ELECTRONS)
    table = poisson_table(highest_rate)
    key = int(random.integers(1 << 62))
    _count(intensity, camera.sensitivity, electrons_per_px, table, highest_rate, largest, key, out)
    hot = random.poisson(camera.hot_rate)
    out[camera.hot_yx_px[:, 0], camera.hot_yx_px[:, 1]] = np.minimum(hot, largest).astype(out.dtype)
