"""Frequency responses of the filters of filtered back-projection.

Each is the ramp |f| times a window W(f) with W(0) = 1, f in cycles per pixel. Back-projecting rows filtered
so, each times its angle's gap in radians, gives absorption per pixel.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.fft

FilterName = Literal["parzen", "shepp_logan", "ramp", "butterworth", "hann", "hamming", "cosine"]
FILTER_NAMES: tuple[FilterName, ...] = get_args(FilterName)
FloatArray = npt.NDArray[np.float64]

_ORDER = 8  # of the Butterworth window, which is 1/2 at the Nyquist frequency

_WINDOWS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "parzen": lambda f: (1 - 2 * f) ** 3,
    "shepp_logan": np.sinc,
    "ramp": np.ones_like,
    "butterworth": lambda f: 1 / (1 + (2 * f) ** (2 * _ORDER)),
    "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(2 * np.pi * f),
    "cosine": lambda f: np.cos(np.pi * f),
}


def window(name: FilterName, frequency: npt.ArrayLike) -> FloatArray:
    """Give the filter's response over the ramp at frequencies in cycles per pixel, 0 to 0.5.

    Parzen's is (1 - 2f)³, as tomoStream has it; Shepp-Logan's sin(πf)/(πf). Raises ValueError for an unknown
    name.
    """
    if name not in _WINDOWS:
        raise ValueError(f"the filter is one of {', '.join(FILTER_NAMES)}, not {name!r}")
    return _WINDOWS[name](np.abs(np.asarray(frequency, np.float64)))


def ramp_samples(length: int) -> FloatArray:
    """Give the ramp's kernel at distances 0 ... length - 1 (Ramachandran & Lakshminarayanan, 1971)."""
    distance = np.arange(length, dtype=np.float64)
    odd = distance % 2 == 1
    samples = np.zeros(length)
    samples[odd] = -1 / (np.pi * distance[odd]) ** 2
    samples[0] = 0.25
    return samples


def padded_length(columns: int) -> int:
    """Give the length, quick to transform, to which rows are padded with zeros so that nothing wraps."""
    return int(scipy.fft.next_fast_len(2 * columns, real=True))


def filter_response(name: FilterName, columns: int) -> npt.NDArray[np.float32]:
    """Give the response at the frequencies of a real transform of ``padded_length(columns)`` values.

    The ramp is the transform of its samples, not |f|, which would make the mean wrong (Kak & Slaney, 1988).
    """
    length = padded_length(columns)
    kernel = ramp_samples(length // 2 + 1)
    whole = np.concatenate([kernel, kernel[1 : (length + 1) // 2][::-1]])
    ramp = scipy.fft.rfft(whole).real
    response = ramp * window(name, np.arange(len(ramp)) / length)
    return np.asarray(response, np.float32)


def filter_rows(
    rows: npt.NDArray[np.float32], name: FilterName = "ramp", *, workers: int = 1
) -> npt.NDArray[np.float32]:
    """Filter rows (..., s) through Fourier space, padded with zeros to twice their length, float32."""
    columns = rows.shape[-1]
    spectrum = scipy.fft.rfft(rows, padded_length(columns), axis=-1, workers=workers)
    spectrum *= filter_response(name, columns)
    filtered = scipy.fft.irfft(spectrum, padded_length(columns), axis=-1, workers=workers)
    return np.ascontiguousarray(filtered[..., :columns], np.float32)
