"""The centre of a particle that is not round: where turning its image by 180° leaves it most like itself.

Round templates find a long or a bent particle by its densest part. Its picture as a whole is still nearly
symmetric about its centre, since the projection of a particle with a twofold axis or a band of equal density
is; the correlation of the picture with itself, turned about a trial centre, peaks there.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]

EDGE_SOFTNESS = 0.06  # of the window, in radii


@dataclass(frozen=True)
class Centres:
    """Centres (n, 2) of symmetry in pixels, and the symmetry (n,) there and where the search began.

    The symmetry is the correlation coefficient of a window with itself turned by 180°, from -1 to 1.
    """

    centre_yx_px: NDArray[np.float64]
    symmetry: NDArray[np.float64]
    symmetry_before: NDArray[np.float64]


def turned_centres(
    image: Image, position_yx_px: NDArray[np.float64], diameter_px: NDArray[np.float64], reach_px: float
) -> Centres:
    """Find the centres of symmetry near positions (n, 2) in an image (y, x) of mean 0.

    Searched within ``reach_px`` along each axis, in a soft round window of ``diameter_px`` (n,). A centre at
    the rim of the search is none: the position stays as it was and both its symmetries are 0. The symmetry
    where the search began is the best within a pixel of it.
    """
    centre = np.array(position_yx_px, dtype=np.float64).reshape(-1, 2)
    symmetry, before = np.zeros(len(centre)), np.zeros(len(centre))
    reach = max(1, int(np.ceil(reach_px)))
    windows = {float(d): _window(float(d)) for d in np.unique(diameter_px)}
    turned = np.ascontiguousarray(image[::-1, ::-1])
    for index, diameter in enumerate(diameter_px):
        window = windows[float(diameter)]
        start = np.floor(centre[index] + 0.5).astype(np.int64)
        likeness = _likeness(image, turned, start[0], start[1], reach, window)
        best = np.array(np.unravel_index(int(np.argmax(likeness)), likeness.shape))
        if (best % (2 * reach) == 0).any():
            continue
        at = start + best - reach
        symmetry[index] = likeness[tuple(best)] / _energy(image, at[0], at[1], window)
        near = likeness[reach - 1 : reach + 2, reach - 1 : reach + 2]
        beside = start + np.array(np.unravel_index(int(np.argmax(near)), near.shape)) - 1
        before[index] = near.max() / _energy(image, beside[0], beside[1], window)
        centre[index] = at + _summit(likeness, best)
    return Centres(centre, symmetry, before)


def _window(diameter_px: float) -> Image:
    reach = int(np.ceil(diameter_px / 2)) + 2
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radius = np.hypot(yy, xx) / (diameter_px / 2)
    soft = 1.0 / (1.0 + np.exp(np.clip((radius - 1.0) / EDGE_SOFTNESS, -50, 50)))
    return np.asarray(soft, dtype=np.float32)


def _summit(values: Image, peak: NDArray[np.intp]) -> NDArray[np.float64]:
    """Offset (2,) of the summit from the highest pixel, by a parabola along each axis."""
    y, x = peak
    offset = np.zeros(2)
    for axis, (before, after) in enumerate(
        [(values[y - 1, x], values[y + 1, x]), (values[y, x - 1], values[y, x + 1])]
    ):
        bend = 2.0 * float(values[y, x]) - float(before) - float(after)
        offset[axis] = 0.5 * (float(after) - float(before)) / bend if bend > 0 else 0.0
    return np.asarray(np.clip(offset, -0.5, 0.5))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _likeness(image: Image, turned: Image, row: int, column: int, reach: int, window: Image) -> Image:
    """Products of mirrored pixels summed over the window about each trial centre; ``turned`` is by 180°."""
    half = window.shape[0] // 2
    height, width = image.shape
    likeness = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = row + dy, column + dx
            # pixels whose mirror image lies outside have no partner
            tall = min(half, y, height - 1 - y)
            wide = min(half, x, width - 1 - x)
            if wide < 0:
                continue
            total = np.float32(0.0)
            for i in range(1, tall + 1):
                one = image[y + i, x - wide : x + wide + 1]
                other = turned[height - 1 - y + i, width - 1 - x - wide : width - x + wide]
                weight = window[half + i, half - wide : half + wide + 1]
                for j in range(one.size):
                    total += weight[j] * one[j] * other[j]
            likeness[dy + reach, dx + reach] = total
    return likeness


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _energy(image: Image, y: int, x: int, window: Image) -> float:
    """What the likeness would be about one centre if mirrored pixels were equal; never 0."""
    half = window.shape[0] // 2
    tall = min(half, y, image.shape[0] - 1 - y)
    wide = min(half, x, image.shape[1] - 1 - x)
    total = np.float32(1e-12)
    for i in range(1, tall + 1):
        for j in range(-wide, wide + 1):
            one, other = image[y + i, x + j], image[y - i, x - j]
            total += np.float32(0.5) * window[half + i, half + j] * (one * one + other * other)
    return float(total)
