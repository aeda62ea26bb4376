"""Grey values for the eye: small pictures of large, noisy images."""

import numpy as np
from numpy.typing import NDArray

from tomofly.imaging.binning import bin_mean


def preview(
    image: NDArray[np.float32], *, longest_side_px: int = 512, percentiles: tuple[float, float] = (0.5, 99.5)
) -> NDArray[np.uint8]:
    """A picture (y, x) of 8 bit, whole bins smaller so that no side is longer than ``longest_side_px``.

    The averaging is the low-pass that makes particles visible; the stretch is ``stretched``'s.
    """
    if longest_side_px < 1:
        raise ValueError(f"the longest side must be at least 1 pixel, not {longest_side_px}")
    factor = max(1, -(-max(image.shape) // longest_side_px))
    return stretched(bin_mean(image, min(factor, *image.shape)), percentiles=percentiles)


def stretched(
    image: NDArray[np.floating], *, percentiles: tuple[float, float] = (0.5, 99.5)
) -> NDArray[np.uint8]:
    """Grey values (any shape) brought to 0–255 between two percentiles of the finite pixels.

    What is not finite becomes black; a constant image becomes mid-grey.
    """
    low_percent, high_percent = percentiles
    if not 0 <= low_percent < high_percent <= 100:
        raise ValueError(f"percentiles must rise between 0 and 100, not {percentiles}")
    finite = np.isfinite(image)
    if not finite.any():
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(image[finite], percentiles)
    if not high > low:
        return np.where(finite, 127, 0).astype(np.uint8)
    unit = (np.where(finite, image, low) - low) / (high - low)
    return np.where(finite, np.clip(unit * 255.0 + 0.5, 0, 255), 0).astype(np.uint8)
