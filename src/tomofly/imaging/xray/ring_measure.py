"""How much of a slice is rings."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

_INNERMOST_PX = 9
_FIELD = 0.95
_DETAIL_PX = 5


def ring_strength(image: npt.NDArray[np.float32]) -> float:
    """Say how much stronger rings about n//2 of a slice (y, x) are than chance: 1 without any.

    Of what is finer than some pixels, the mean over each circle is compared with what its spread along the
    circle would let it be: structure changes along a circle, rings do not.
    """
    n = image.shape[0]
    largest = int(_FIELD * (n // 2))
    y, x = np.ogrid[:n, :n]
    radius = np.rint(np.hypot(y - n // 2, x - n // 2)).astype(np.int64)
    inside = radius < largest
    detail = (image - ndimage.uniform_filter(image, _DETAIL_PX))[inside].astype(np.float64)
    where = radius[inside]
    chosen = slice(min(_INNERMOST_PX, largest // 2), largest)
    count = np.bincount(where, minlength=largest)[chosen]
    mean = np.bincount(where, detail, minlength=largest)[chosen] / count
    square = np.bincount(where, detail**2, minlength=largest)[chosen] / count
    expected = np.sqrt(np.maximum(square, 1e-30) / count)
    return float(np.sqrt(np.mean((mean / expected) ** 2))) if len(mean) else 1.0
