"""How sharp and how noisy a slice is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

FloatArray = npt.NDArray[np.float32]

# Second differences both ways: blind to what is flat or sloping (Immerkær, 1996); its norm is 6.
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_NOISE_NORM = 6.0
_LARGEST = 512  # pixels along an axis that are looked at; the middle of a larger slice stands for it


@dataclass(frozen=True)
class SliceQuality:
    """``noise``: standard deviation in the slice's unit. ``sharpness``: 0 for noise or nothing, rising to 1.

    ``signal_to_noise``: standard deviation of the slice without noise, over the noise.
    """

    sharpness: float
    noise: float
    signal_to_noise: float


def slice_quality(image: FloatArray) -> SliceQuality:
    """Measure the middle of a slice (rows, columns), float32; what is not finite counts as 0.

    Noise is the robust spread of a mask that sees no smooth structure (Immerkær, 1996). Sharpness is the
    share of the variation, noise taken off, that changes from a pixel to the next but one: what a blur by a
    pixel would lose.
    """
    part = _middle(image)
    if min(part.shape) < 8:
        return SliceQuality(0.0, 0.0, 0.0)
    masked = scipy.ndimage.convolve(part, _NOISE_MASK)[1:-1, 1:-1]
    noise = 1.4826 * float(np.median(np.abs(masked))) / _NOISE_NORM
    variance = max(float(part.var(dtype=np.float64)) - noise**2, 0.0)
    steps = [(part[2:] - part[:-2]), (part[:, 2:] - part[:, :-2])]
    change = float(np.mean([(step.astype(np.float64) ** 2).mean() for step in steps])) - 2 * noise**2
    sharpness = float(np.clip(change / (2 * variance), 0, 1)) if variance > 0 else 0.0
    ratio = float(np.sqrt(variance)) / noise if noise > 0 else 0.0
    return SliceQuality(sharpness, noise, ratio)


def _middle(image: FloatArray) -> FloatArray:
    rows, columns = image.shape
    top, left = max(0, (rows - _LARGEST) // 2), max(0, (columns - _LARGEST) // 2)
    part = image[top : top + _LARGEST, left : left + _LARGEST]
    return np.nan_to_num(np.asarray(part, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
