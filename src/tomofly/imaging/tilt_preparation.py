"""Images of a tilt series made ready for correlation: level, free of spikes, small."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.fourier import fourier_crop, inverse_real_transform, real_transform
from tomofly.imaging.side_by_side import for_each

# Values further from the median than this many standard deviations are no structure at the sampling of an
# alignment, but hot pixels, X-rays or the edge of gold, which would lead the correlation alone.
_SPIKE_SIGMA = 5.0
# An image whose spread is below this part of the median of all has nothing to align.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class PreparedTilts:
    """Images (tilt, y, x) with mean 0 and spread 1, and which of them hold anything (tilt,).

    ``binning``: how many pixels of the given images one pixel of these spans. The centres coincide.
    """

    images: npt.NDArray[np.float32]
    has_content: npt.NDArray[np.bool_]
    binning: float


def prepare_tilts(
    images: npt.ArrayLike, *, largest_side: int | None = None, threads: int = 1
) -> PreparedTilts:
    """Take planes and spikes off images (tilt, y, x) and crop their spectra to at most ``largest_side``.

    Raises ValueError where the images are not a stack of pictures of at least 32 pixels a side.
    """
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) == 0 or min(stack.shape[1:]) < 32:
        raise ValueError(
            f"a tilt series is a stack (tilt, y, x) of at least 32 pixels a side, not {stack.shape}"
        )
    binning = _binning(max(stack.shape[1:]), largest_side)
    (rows, small_rows), (columns, small_columns) = (_sizes(side, binning) for side in stack.shape[1:])
    small = (small_rows, small_columns)
    prepared = np.zeros((len(stack), *small), dtype=np.float32)
    spread = np.zeros(len(stack))

    def level(index: int) -> None:
        prepared[index], spread[index] = _levelled(stack[index, rows, columns], small)

    for_each(level, len(stack), threads)
    typical = float(np.median(spread[spread > 0])) if np.any(spread > 0) else 0.0
    return PreparedTilts(prepared, spread > _LEAST_SPREAD * typical, binning)


def _binning(side: int, largest_side: int | None) -> float:
    """Give the least multiple of a quarter by which the side becomes small enough."""
    return 1.0 if largest_side is None else max(1.0, float(np.ceil(4 * side / largest_side)) / 4)


def _sizes(side: int, binning: float) -> tuple[slice, int]:
    """Give the middle part of a side that holds a whole number of cells of eight binned pixels, and its size.

    Only then are the binned pixels as high as they are wide, and the centres before and after the same.
    """
    if binning == 1:
        return slice(None), side
    cell = round(8 * binning)
    taken = side // cell * cell
    start = side // 2 - taken // 2
    return slice(start, start + taken), 8 * (side // cell)


def _levelled(
    image: npt.NDArray[np.generic], small: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], float]:
    """Give the image less its plane, cut at spikes, small, with spread 1; and the spread it had."""
    picture = np.array(image, dtype=np.float32)
    finite = np.isfinite(picture)
    if not finite.any():
        return np.zeros(small, dtype=np.float32), 0.0
    if not finite.all():
        picture[~finite] = np.median(picture[finite])
    level = abs(float(np.median(picture[::4, ::4]))) or 1.0
    picture = _without_spikes(_without_plane(picture))
    whole = (picture.shape[0], picture.shape[1])
    cropped = inverse_real_transform(fourier_crop(real_transform(picture), whole, small), small)
    spread = float(cropped.std())
    if not spread > 1e-6 * level:
        return np.zeros(small, dtype=np.float32), 0.0
    return (cropped - cropped.mean()) / np.float32(spread), spread


def _without_plane(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Subtract the plane of least squares; its axes are orthogonal on a centred grid."""
    rows, columns = picture.shape
    y = (np.arange(rows, dtype=np.float32) - np.float32((rows - 1) / 2))[:, None]
    x = (np.arange(columns, dtype=np.float32) - np.float32((columns - 1) / 2))[None, :]
    level = picture - picture.mean()
    slope_y = float((level.mean(axis=1) * y[:, 0]).sum() / (y**2).sum())
    slope_x = float((level.mean(axis=0) * x[0]).sum() / (x**2).sum())
    return np.asarray(level - np.float32(slope_y) * y - np.float32(slope_x) * x)


def _without_spikes(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centre = float(np.median(picture[::4, ::4]))
    sigma = 1.4826 * float(np.median(np.abs(picture[::4, ::4] - centre)))
    if sigma <= 0:
        return picture
    return np.clip(picture, centre - _SPIKE_SIGMA * sigma, centre + _SPIKE_SIGMA * sigma)
