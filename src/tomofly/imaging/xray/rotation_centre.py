"""The column of the rotation axis, from two projections half a turn apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_BANDS = 4  # of detector rows that are measured apart, to know how sure the result is
_BAND = 0.15  # cycles per column at which the weight of what is narrow has fallen
_LEAST_OVERLAP = 0.2  # of the columns: less could match anything


@dataclass(frozen=True)
class CentreEstimate:
    """The axis in detector columns (0 is the middle of the first), how sure, and how alike the images are.

    ``sigma_px``: standard error as the spread over bands of rows has it, infinite with one band.
    ``likeness``: correlation of one projection with the other's mirror image, at most 1.
    """

    centre: float
    sigma_px: float
    likeness: float

    @property
    def certain(self) -> bool:
        """Good enough to be used without asking."""
        return self.likeness > 0.5 and self.sigma_px < 1.0


def centre_from_pair(at_0: FloatArray, at_180: FloatArray) -> CentreEstimate:
    """Find the axis from projections (z, s) half a turn apart, plain absorption or ramp-filtered.

    The second mirrored about the axis is the first: the sum over rows of at_0[s]·at_180[d - s] is largest at
    d = 2·centre, found to a fraction of a column. Raises ValueError where the shapes differ.
    """
    if at_0.shape != at_180.shape or at_0.ndim != 2:
        raise ValueError(f"projections of a pair differ in shape: {at_0.shape} and {at_180.shape}")
    rows = np.array_split(np.arange(len(at_0)), min(_BANDS, len(at_0)))
    sums = np.array([_sums(at_0[band], at_180[band]) for band in rows])
    place, value = _peak(sums.sum(axis=0))
    apart = [_peak(one, near=place)[0] / 2 for one in sums]
    sigma = float(np.std(apart, ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else np.inf
    return CentreEstimate(place / 2, sigma, value)


def agreed_centre(estimates: list[CentreEstimate]) -> CentreEstimate:
    """Take the median of several estimates, and their spread for its error."""
    centres = np.array([one.centre for one in estimates])
    middle = float(np.median(centres))
    spread = 1.4826 * float(np.median(np.abs(centres - middle)))
    own = float(np.median([one.sigma_px for one in estimates]))
    sigma = max(own, spread) / np.sqrt(len(estimates))
    return CentreEstimate(middle, float(sigma), float(np.median([one.likeness for one in estimates])))


def _sums(one: FloatArray, other: FloatArray) -> Float64Array:
    """Give, for each sum d of columns, Σ one[s]·other[d - s] over the overlap, Σ one[s]², Σ other[s]²."""
    columns = one.shape[1]
    length = scipy.fft.next_fast_len(2 * columns, real=True)
    a, b = _edges(one), _edges(other)

    def convolved(x: Float64Array, y: Float64Array) -> Float64Array:
        spectrum = (scipy.fft.rfft(x, length) * scipy.fft.rfft(y, length)).sum(axis=0)
        return np.asarray(scipy.fft.irfft(spectrum, length)[: 2 * columns - 1])

    ones = np.ones((1, columns))
    powers = [convolved((one * one).sum(axis=0, keepdims=True), ones) for one in (a, b)]
    return np.stack([convolved(a, b), *powers])


def _edges(image: FloatArray) -> Float64Array:
    """Filter rows to what is a few columns wide, so that edges decide and neither brightness nor noise."""
    rows = np.asarray(image, np.float64)
    ends = rows[:, :4].mean(axis=1, keepdims=True), rows[:, -4:].mean(axis=1, keepdims=True)
    rows = rows - ends[0] - (ends[1] - ends[0]) * np.linspace(0, 1, rows.shape[1])
    length = scipy.fft.next_fast_len(rows.shape[1] + 32, real=True)
    frequency = scipy.fft.rfftfreq(length)
    response = frequency * np.exp(-((frequency / _BAND) ** 2))
    return np.asarray(scipy.fft.irfft(scipy.fft.rfft(rows, length) * response, length)[:, : rows.shape[1]])


def _peak(sums: Float64Array, near: float | None = None) -> tuple[float, float]:
    """Find the maximum of the normalised product, to a fraction by a parabola."""
    product, power = sums[0], np.maximum(sums[1], 0) * np.maximum(sums[2], 0)
    columns = (len(product) + 1) // 2
    place = np.arange(len(product))
    overlap = np.minimum(place, 2 * columns - 2 - place) + 1
    allowed = (overlap >= _LEAST_OVERLAP * columns) & (power > 1e-12 * power.max())
    if near is not None:
        allowed &= np.abs(place - near) <= max(4, 0.02 * columns)
    score = np.where(allowed, product / np.sqrt(np.where(allowed, power, 1)), -np.inf)
    best = int(np.argmax(score))
    around = score[max(0, best - 1) : best + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return float(best), float(score[best])
    curvature = around[0] - 2 * around[1] + around[2]
    offset = 0.5 * (around[0] - around[2]) / curvature if curvature < 0 else 0.0
    return best + float(np.clip(offset, -0.5, 0.5)), float(around[1])
