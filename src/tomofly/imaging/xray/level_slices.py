"""Horizontal slices from a sinogram through Fourier space, and tilted ones directly out of projections.

Both interpolate linearly along s: the transform of the rows is multiplied by sinc², the mean response of
linear interpolation, so that a point has the same value in all three slices.
"""

from dataclasses import dataclass

import finufft
import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.blocks import LANES, FloatArray
from tomofly.imaging.xray.filters import FilterName, window
from tomofly.imaging.xray.line_reading import MARGIN, add_along
from tomofly.imaging.xray.slices import IntArray, Sums, Views
from tomofly.imaging.xray.window_taps import WindowTaps

Float64Array = npt.NDArray[np.float64]

# Relative error asked of the non-uniform transform, far below that of linear interpolation.
TOLERANCE = 1e-3
_UPSAMPLING = 1.25


def level_slice(
    sinogram: FloatArray, views: Views, filter_name: FilterName, *, threads: int = 1
) -> FloatArray:
    """Reconstruct a horizontal slice (y, x), float32, from ramp-filtered rows (view, s), one per view.

    By a non-uniform fast Fourier transform of type 1 (Barnett et al., 2019) to a relative ``TOLERANCE``.
    ``views.slots`` is not used.
    """
    if not len(views.slots):
        return np.zeros((views.size, views.size), np.float32)
    columns = sinogram.shape[1]
    centre = (views.centre + 0.5) / views.binning - 0.5
    # The axis of a binned slice lies at the middle of its bins.
    offset = (views.size * views.binning // 2 + 0.5) / views.binning - 0.5 - views.size // 2
    length = _period(columns, centre, views.size)
    spectrum = scipy.fft.rfft(sinogram, length, axis=1, workers=threads)
    frequency = np.arange(spectrum.shape[1]) / length
    twice = np.full(len(frequency), 2.0)
    twice[0] = 1.0
    if length % 2 == 0:
        twice[-1] = 1.0
    response = twice / length * window(filter_name, frequency / views.binning) * np.sinc(frequency) ** 2
    angle = np.deg2rad(views.angle_deg)
    turned = np.cos(angle)[:, None], np.sin(angle)[:, None]
    # Unbinned, the axis is on a pixel, and the phase the same for all views.
    first = centre - offset * (turned[0] - turned[1]) if offset else np.float64(centre)
    spectrum *= (response * np.exp(2j * np.pi * frequency * first)).astype(np.complex64)
    spectrum *= views.weight[:, None].astype(np.float32)
    at_y, at_x = (
        np.ravel(2 * np.pi * frequency * part).astype(np.float32) for part in (-turned[1], turned[0])
    )
    image = finufft.nufft2d1(
        at_y, at_x, spectrum.ravel(), (views.size, views.size), eps=TOLERANCE, isign=1,
        nthreads=threads, upsampfac=_UPSAMPLING, showwarn=0,
    )  # fmt: skip
    return np.ascontiguousarray(image.real)


def _period(columns: int, centre: float, size: int) -> int:
    """Give a length quick to transform, over which the corners of the slice meet no wrapped row."""
    reach = np.sqrt(0.5) * size + 2
    needed = max(columns, centre + reach) - min(0.0, centre - reach)
    return int(scipy.fft.next_fast_len(int(np.ceil(needed)), real=True))


def read_sinogram(projections: FloatArray, slots: IntArray, row: int) -> FloatArray:
    """Copy detector row ``row`` of blocked projections: (view, s), float32."""
    return np.ascontiguousarray(projections[slots, row // LANES, :, row % LANES])


@dataclass(frozen=True)
class TiltedPlane:
    """A horizontal plane at detector row ``row``, tilted about the direction of y.

    At x it lies at z = row + (x - c)·sin(tilt), seen at c + (x - c)·cos(tilt). What lies beyond the ``rows``
    of the detector counts as 0.
    """

    row: float
    tilt_deg: float
    rows: int


def add_tilted(
    projections: FloatArray, views: Views, taps: WindowTaps, plane: TiltedPlane, sums: Sums,
    *, threads: int = 1,
) -> None:  # fmt: skip
    """Add projections to the sums (x, y), float32 or float64, of a tilted slice.

    What is added is summed in float32 first.
    """
    if not len(views.slots):
        return
    angle, middle = np.deg2rad(views.angle_deg), views.size // 2
    along = np.arange(views.size) - middle
    height = plane.row + along * np.sin(np.deg2rad(plane.tilt_deg))
    across = along * np.cos(np.deg2rad(plane.tilt_deg))
    # First column (view, x) and step per y.
    first = across * np.cos(angle)[:, None] + middle * np.sin(angle)[:, None] + views.centre
    step = -np.sin(angle)
    pieces = np.array_split(np.arange(views.size), max(1, min(8 * threads, views.size)))
    weights = views.weight.astype(np.float32)

    def add(index: int) -> None:
        piece = pieces[index]
        _add_tilted(
            projections, views.slots, first, step, weights, height, plane.rows, piece[0], piece[-1] + 1,
            taps.weights, taps.decays, taps.gains, sums,
        )  # fmt: skip

    for_each(add, len(pieces), threads)


@njit(cache=True, nogil=True, fastmath=True)
def _add_tilted(
    projections: FloatArray,
    slots: IntArray,
    first: Float64Array,
    step: Float64Array,
    weights: FloatArray,
    height: Float64Array,
    rows: int,
    start: int,
    stop: int,
    taps: FloatArray,
    decays: FloatArray,
    gains: FloatArray,
    sums: Sums,
) -> None:
    columns = projections.shape[2]
    passing = np.zeros((stop - start, sums.shape[1]), np.float32)
    mixed, line = np.empty(columns, np.float32), np.zeros(columns + MARGIN, np.float32)
    for view in range(slots.shape[0]):
        projection = projections[slots[view]]
        ready = -1.0
        for x in range(start, stop):
            if height[x] < 0 or height[x] > rows - 1:
                continue
            if height[x] == ready:
                # The rows of a level slice are the same for all x.
                _add_row(line, first[view, x], step[view], passing[x - start])
                continue
            ready = height[x]
            low = int(height[x])
            high = min(low + 1, rows - 1)
            share = np.float32(height[x] - low)
            below, above = projection[low // LANES], projection[high // LANES]
            _mix(below, low % LANES, above, high % LANES, share, weights[view], mixed)
            _window_line(mixed, taps, decays, gains, line[:columns])
            _add_row(line, first[view, x], step[view], passing[x - start])
    for x in range(start, stop):
        for y in range(sums.shape[1]):
            sums[x, y] += passing[x - start, y]


@njit(cache=True, nogil=True, fastmath=True)
def _mix(
    below: FloatArray, low: int, above: FloatArray, high: int, share: np.float32, weight: np.float32,
    line: FloatArray,
) -> None:  # fmt: skip
    lower, upper = weight * (np.float32(1.0) - share), weight * share
    for s in range(line.shape[0]):
        line[s] = lower * below[s, low] + upper * above[s, high]


@njit(cache=True, nogil=True, fastmath=True)
def _window_line(
    line: FloatArray, taps: FloatArray, decays: FloatArray, gains: FloatArray, out: FloatArray
) -> None:
    columns, reach = line.shape[0], taps.shape[0] // 2
    out[:] = 0
    for k in range(taps.shape[0]):
        shift = k - reach
        weight = taps[k]
        for s in range(max(0, -shift), min(columns, columns - shift)):
            out[s] += weight * line[s + shift]
    for j in range(decays.shape[0]):
        forwards, backwards = np.float32(0.0), np.float32(0.0)
        for s in range(columns):
            forwards = line[s] + decays[j] * forwards
            backwards = line[columns - 1 - s] + decays[j] * backwards
            out[s] += gains[j] * forwards
            out[columns - 1 - s] += gains[j] * backwards


@njit(cache=True, nogil=True)
def _add_row(line: FloatArray, first: float, step: float, total: FloatArray) -> None:
    start, stop = _reached(first, step, float(line.shape[0] - MARGIN - 1), total.shape[0])
    # Single precision places a pixel to 1e-4 of a column, and is half as much work.
    add_along(total[start:stop], line, np.float32(first + step * start), np.float32(step))


@njit(cache=True, nogil=True)
def _reached(first: float, step: float, last: float, count: int) -> tuple[int, int]:
    """Give the range of y, from 0 to count, over which 0 <= first + step·y <= last."""
    if abs(step) < 1e-12:
        return (0, count) if 0 <= first <= last else (0, 0)
    ends = (-first / step, (last - first) / step)
    start = min(count, max(0, int(np.ceil(min(ends)))))
    stop = max(start, min(count, int(np.floor(max(ends))) + 1))
    # Rounding may be off by one at either end.
    while start < stop and not 0 <= first + step * start <= last:
        start += 1
    while start < stop and not 0 <= first + step * (stop - 1) <= last:
        stop -= 1
    return start, stop
