"""Rings: what a pixel of the detector shows all the time, taken out of sinograms before reconstruction."""

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]


def sorted_away(projections: FloatArray, window_px: int, *, threads: int = 1) -> None:
    """Take stripes out of sinograms (angle, slice, s), in place, by sorting. Vo et al. (2018), algorithm 3.

    Each column is sorted by value; what is next to each other then should differ little, so a median over
    ``window_px`` columns takes out a pixel that is brighter or darker than its neighbours all the time. The
    median goes back to where the value came from. Good against partial and full stripes alike. Raises
    ValueError for an even window.
    """
    if window_px < 3 or window_px % 2 == 0:
        raise ValueError(f"the window must be odd and at least 3, not {window_px}")

    def one(index: int) -> None:
        # Columns as rows: sorting is far quicker on values that lie side by side.
        columns = np.ascontiguousarray(projections[:, index].T)
        order = np.argsort(columns, axis=1)
        ranked = np.ascontiguousarray(np.take_along_axis(columns, order, axis=1).T)
        np.put_along_axis(columns, order, _median_along_rows(ranked, window_px).T, axis=1)
        projections[:, index] = columns.T

    for_each(one, projections.shape[1], threads)


@njit(cache=True, nogil=True)
def _median_along_rows(rows: FloatArray, window: int) -> FloatArray:  # pragma: no cover - compiled
    """Median over ``window`` columns; edges see their own value repeated."""
    count, width = rows.shape
    half = window // 2
    out = np.empty_like(rows)
    held = np.empty(window, np.float32)
    for row in range(count):
        line = rows[row]
        for i in range(window):
            held[i] = line[min(max(i - half, 0), width - 1)]
        held.sort()
        out[row, 0] = held[half]
        for x in range(1, width):
            _exchange(held, line[max(x - 1 - half, 0)], line[min(x + half, width - 1)])
            out[row, x] = held[half]
    return out


@njit(cache=True, nogil=True, inline="always")
def _exchange(held: FloatArray, gone: np.float32, come: np.float32) -> None:  # pragma: no cover - compiled
    """Replace one value of a sorted window, and keep it sorted."""
    at = np.searchsorted(held, gone)
    if at == len(held):
        at -= 1
    while at + 1 < len(held) and held[at + 1] < come:
        held[at] = held[at + 1]
        at += 1
    while at > 0 and held[at - 1] > come:
        held[at] = held[at - 1]
        at -= 1
    held[at] = come


def wavelets_damped(
    projections: FloatArray, levels: int, sigma: float, *, vanishing: int = 5, threads: int = 1
) -> None:
    """Take stripes out of sinograms (angle, slice, s), in place. Münch et al. (2009).

    In each of ``levels`` of a wavelet decomposition (Daubechies, ``vanishing`` moments), the details across
    columns lose what does not change along the angles: a Gaussian notch of ``sigma`` about frequency zero.
    """
    low = _daubechies(vanishing)
    high = low[::-1] * (-1.0) ** np.arange(len(low))

    def one(index: int) -> None:
        sinogram = projections[:, index].astype(np.float64)
        mean = sinogram.mean()
        projections[:, index] = _damped(sinogram - mean, levels, sigma, low, high) + mean

    for_each(one, projections.shape[1], threads)


def _damped(
    image: FloatVector, levels: int, sigma: float, low: FloatVector, high: FloatVector
) -> FloatVector:
    """Damp the stripes (constant down the columns) of an image (angle, s), level after level."""
    if levels == 0 or min(image.shape) < 2 * len(low):
        return image
    shape = image.shape
    even = np.pad(image, [(0, shape[0] % 2), (0, shape[1] % 2)], mode="edge")
    smooth_x, detail_x = _split(even, low, 1), _split(even, high, 1)
    stripes, corners = _split(detail_x, low, 0), _split(detail_x, high, 0)
    down = np.abs(scipy.fft.rfftfreq(len(stripes)) * len(stripes))
    notch = 1 - np.exp(-(down**2) / (2 * sigma**2))
    stripes = scipy.fft.irfft(scipy.fft.rfft(stripes, axis=0) * notch[:, None], len(stripes), axis=0)
    smooth = _damped(_split(smooth_x, low, 0), levels - 1, sigma, low, high)
    smooth_x = _joined(smooth, _split(smooth_x, high, 0), low, high, 0)
    detail_x = _joined(stripes, corners, low, high, 0)
    return _joined(smooth_x, detail_x, low, high, 1)[: shape[0], : shape[1]]


def _response(taps: FloatVector, length: int) -> npt.NDArray[np.complex128]:
    """Transform of a filter on a circle; longer filters are wound around it."""
    phases = np.outer(scipy.fft.rfftfreq(length), np.arange(len(taps)))
    return np.asarray(np.exp(-2j * np.pi * phases) @ taps, np.complex128)


def _split(image: FloatVector, taps: FloatVector, axis: int) -> FloatVector:
    """Filter along an axis, as on a circle, and keep every second sample."""
    length = image.shape[axis]
    response = np.expand_dims(_response(taps, length).conj(), 1 - axis)
    filtered = scipy.fft.irfft(scipy.fft.rfft(image, axis=axis) * response, length, axis=axis)
    kept: FloatVector = filtered[::2] if axis == 0 else filtered[:, ::2]
    return kept


def _joined(
    smooth: FloatVector, detail: FloatVector, low: FloatVector, high: FloatVector, axis: int
) -> FloatVector:
    """Undo ``_split`` by both filters: the pair is orthogonal."""
    shape = list(smooth.shape)
    shape[axis] *= 2
    total = 0.0
    for part, taps in ((smooth, low), (detail, high)):
        spread = np.zeros(shape)
        if axis == 0:
            spread[::2] = part
        else:
            spread[:, ::2] = part
        response = np.expand_dims(_response(taps, shape[axis]), 1 - axis)
        spectrum = scipy.fft.rfft(spread, axis=axis) * response
        total = total + scipy.fft.irfft(spectrum, shape[axis], axis=axis)
    return np.asarray(total)


def _daubechies(moments: int) -> FloatVector:
    """Give the scaling filter of so many vanishing moments, by spectral factorisation. Daubechies (1988)."""
    # The half-band polynomial in y = (2 - z - 1/z)/4; of each pair of roots in z, that inside the circle.
    terms = [1.0]
    for k in range(1, moments):
        terms.append(terms[-1] * (moments - 1 + k) / k)
    taps = np.array([1.0])
    for root in np.roots(terms[::-1]):
        pair = np.roots([1, 4 * root - 2, 1])
        taps = np.convolve(taps, [1, -pair[np.argmin(np.abs(pair))]])
    for _ in range(moments):
        taps = np.convolve(taps, [1, 1])
    scaled: FloatVector = np.real(taps) * np.sqrt(2) / np.real(taps).sum()
    return scaled
