"""Rings, while projections are arriving: what every projection shows in the same pixel is the detector's."""

import numpy as np
import numpy.typing as npt
import scipy.ndimage

FloatArray = npt.NDArray[np.float32]

_SMOOTH = 9  # columns: rings are narrower than half of it, and what is wider belongs to the sample
_FEWEST = 30  # projections before which a mean says more of the sample than of the detector
_EVERY = 16  # projections after which the stripes are worked out anew


class RunningStripes:
    """A running mean of the absorption (z, s), and the narrow stripes along z's columns in it.

    The mean is over all projections so far, then over about the latest ``memory`` (an exponential one).
    """

    def __init__(self, memory: int = 360) -> None:
        self._memory = memory
        self._mean: FloatArray | None = None
        self._stripes: FloatArray | None = None
        self._count = 0

    def add(self, absorption: FloatArray) -> None:
        """Take one projection (z, s), float32, as it is without correction; a new size begins anew."""
        if self._mean is None or self._mean.shape != absorption.shape:
            self._mean, self._stripes, self._count = np.zeros(absorption.shape, np.float32), None, 0
        self._count += 1
        share = np.float32(1 / min(self._count, self._memory))
        self._mean += share * (absorption - self._mean)
        if self._count >= _FEWEST and (self._stripes is None or self._count % _EVERY == 0):
            self._stripes = find_stripes(self._mean)

    def corrected(self, absorption: FloatArray) -> FloatArray:
        """Give a projection without the stripes known so far."""
        if self._stripes is None or self._stripes.shape != absorption.shape:
            return absorption
        return absorption - self._stripes


def find_stripes(mean: FloatArray) -> FloatArray:
    """Give what is narrow along s in a mean over angles (z, s).

    Of the sample, turning makes the mean smooth. Its slope is taken off first, as a median across a slope
    would be off by the slope; then what differs from a running median is a stripe.
    """
    size = (1, _SMOOTH)
    slope = scipy.ndimage.median_filter(mean, size=size, mode="nearest")
    slope = scipy.ndimage.gaussian_filter1d(slope, _SMOOTH / 5, axis=1, mode="nearest")
    flat = mean - slope
    return np.asarray(flat - scipy.ndimage.median_filter(flat, size=size, mode="nearest"), np.float32)
