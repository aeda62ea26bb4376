"""Sub-pixel shifts by a short windowed sinc."""

import numpy as np
import numpy.typing as npt

TAPS = 8
# The number of sub-pixel positions tabulated: rounding to 1/512 pixel is far below any measured shift's
# error.
STEPS = 512
# Kaiser window: best flatness of the pass band up to 0.8 Nyquist for eight taps.
_KAISER_BETA = 5.0


def windowed_sinc_taps(
    fraction: npt.ArrayLike, taps: int = TAPS, beta: float = _KAISER_BETA
) -> npt.NDArray[np.float64]:
    """Return weights (..., taps) that interpolate at a fraction in [0, 1) of a pixel after pixel taps/2 - 1.

    Each set adds up to 1, so a constant picture stays as it is; at fraction 0 exactly one weight is 1.
    """
    position = np.asarray(fraction, dtype=np.float64)[..., None] - np.arange(1 - taps // 2, taps // 2 + 1)
    inside = np.clip(1.0 - (2.0 * position / taps) ** 2, 0.0, None)
    weights = np.sinc(position) * np.i0(beta * np.sqrt(inside)) / np.i0(beta)
    weights[np.abs(weights) < 1e-12] = 0.0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def tap_table() -> npt.NDArray[np.float32]:
    """Return the weights at fractions 0, 1/512, ..., 511/512 as float32 (512, 8)."""
    return windowed_sinc_taps(np.arange(STEPS) / STEPS).astype(np.float32)
