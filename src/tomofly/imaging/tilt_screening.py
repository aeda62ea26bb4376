"""Is a tilt worth aligning? Its brightness, what blocks it, and how far it is off, before any alignment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BLOCKS_PER_SIDE = 32
"""A tilt is looked at in so many blocks along its shorter side."""

BLOCKED_BELOW = 0.25
"""A block darker than this part of the bright ones is blocked: metal lets nothing through, thick ice some."""

SHIFT_SIDE = 128
"""Images are brought to this size for a gross shift."""

EDGE_FREQUENCY = 0.02
"""Gross shifts are found above this frequency (cycles per pixel at that size): gradients tell none."""


@dataclass(frozen=True)
class TiltScreening:
    """Measures of one image. Fractions are of its area; ``spread`` is the standard deviation of its blocks.

    ``sharpness``: mean square difference between neighbouring blocks over the squared mean.
    """

    mean: float
    spread: float
    blocked_fraction: float
    saturated_fraction: float
    unusable_fraction: float
    sharpness: float


def screen_tilt(image: npt.NDArray[Any], *, saturated_at: float | None = None) -> TiltScreening:
    """Measure an image (y, x) of any numbers.

    ``saturated_at``: pixels at this value or above are saturated; without it the largest number of an
    integer type is, and none of a float type. Pixels that are no numbers count as unusable, and as nothing
    else. Raises ValueError for an image that is not two-dimensional or empty.
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"an image (y, x) is needed, not one of shape {image.shape}")
    finite = np.isfinite(image)
    unusable = 1.0 - float(np.count_nonzero(finite)) / image.size
    if not finite.any():
        return TiltScreening(0.0, 0.0, 1.0, 0.0, unusable, 0.0)
    blocks = block_means(image)
    mean = float(np.mean(image, dtype=np.float64, where=finite))
    return TiltScreening(
        mean=mean,
        spread=float(blocks.std()),
        blocked_fraction=_blocked_fraction(blocks),
        saturated_fraction=_saturated_fraction(image, saturated_at),
        unusable_fraction=unusable,
        sharpness=_sharpness(blocks, mean),
    )


def block_means(image: npt.NDArray[Any], per_side: int = BLOCKS_PER_SIDE) -> FloatArray:
    """Give the means of square blocks (y, x), ``per_side`` along the shorter side; a rest is left out.

    A block without a number counts as zero.
    """
    size = max(1, min(image.shape) // per_side)
    rows, columns = image.shape[0] // size, image.shape[1] // size
    cut = image[: rows * size, : columns * size]
    values = np.nan_to_num(cut, nan=0.0, posinf=0.0, neginf=0.0) if cut.dtype.kind == "f" else cut
    return np.asarray(
        values.reshape(rows, size, columns, size).mean(axis=(1, 3), dtype=np.float64), dtype=np.float64
    )


def dark_tilts(
    means: npt.ArrayLike,
    tilt_angle_deg: npt.ArrayLike,
    threshold: float = 0.3,
    *,
    usual: float | None = None,
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Find tilts (tilt,) darker than ``threshold`` of what their angle lets expect; give (dark, expected).

    Expected is I0·cos(tilt), as of a slab of which a tilted beam lights less (Tegunov & Cramer 2019). I0 is
    the upper quartile of the means of the less tilted half, so that dark ones among them do not lower it.
    ``usual``: I0 of other series, which shows that all tilts of this one are dark.
    """
    brightness = np.nan_to_num(np.asarray(means, dtype=np.float64))
    angles = np.asarray(tilt_angle_deg, dtype=np.float64)
    if brightness.shape != angles.shape or brightness.ndim != 1:
        raise ValueError(f"{brightness.shape} means and {angles.shape} angles")
    if brightness.size == 0:
        return np.zeros(0, dtype=np.bool_), np.zeros(0)
    at_zero = reference_brightness(brightness, angles)
    if usual is not None and at_zero < threshold * usual:
        at_zero = usual
    expected = at_zero * np.cos(np.deg2rad(angles))
    return (brightness <= 0) | (brightness < threshold * expected), expected


def reference_brightness(means: FloatArray, tilt_angle_deg: FloatArray) -> float:
    """Give the brightness of an untilted view: the upper quartile of the means of the less tilted half."""
    less_tilted = np.argsort(np.abs(tilt_angle_deg), kind="stable")[: max(3, (means.size + 1) // 2)]
    return float(np.quantile(means[less_tilted], 0.75))


def gross_shift(image: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Find how far an image (y, x) is off a reference of the same size, roughly.

    Gives (y, x) as parts of the field, what must be applied to the image to bring it onto the reference,
    and the height of the peak over the noise (standard deviations; below about 6 it means nothing). Phase
    correlation (Kuglin & Hines 1975) of small images. Raises ValueError where the sizes differ.
    """
    if image.shape != reference.shape:
        raise ValueError(f"images of {image.shape} and {reference.shape} pixels cannot be compared")
    moving, fixed = (_spectrum(block_means(a, SHIFT_SIDE)) for a in (image, reference))
    product = fixed * np.conj(moving)
    strength = np.abs(product)
    phases = np.divide(product, strength, out=np.zeros_like(product), where=strength > 0)
    rows, columns = block_means(image, SHIFT_SIDE).shape
    surface = np.fft.irfft2(phases * _band((rows, columns)), s=(rows, columns))
    peak = np.unravel_index(int(np.argmax(surface)), surface.shape)
    height = float((surface[peak] - surface.mean()) / (surface.std() or 1.0))
    y, x = (float((p + n // 2) % n - n // 2) / n for p, n in zip(peak, surface.shape, strict=True))
    return y, x, height


def _spectrum(blocks: FloatArray) -> npt.NDArray[np.complex128]:
    """Transform blocks whose borders fade to their mean, so that the frame of the field is no feature."""
    rows, columns = (np.hanning(n + 2)[1:-1] for n in blocks.shape)
    return np.asarray(np.fft.rfft2((blocks - blocks.mean()) * np.outer(rows, columns)))


def _band(shape: tuple[int, int]) -> FloatArray:
    """Weigh frequencies: none below the edge, falling towards the finest, which noise rules."""
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    radius = np.hypot(y, x)
    return np.asarray(np.where(radius > EDGE_FREQUENCY, np.exp(-((radius / 0.15) ** 2)), 0.0))


def _blocked_fraction(blocks: FloatArray) -> float:
    bright = float(np.quantile(blocks, 0.9))
    if bright <= 0:
        return 1.0
    return float(np.count_nonzero(blocks < BLOCKED_BELOW * bright)) / blocks.size


def _saturated_fraction(image: npt.NDArray[Any], saturated_at: float | None) -> float:
    if saturated_at is None:
        if image.dtype.kind not in "iu":
            return 0.0
        saturated_at = float(np.iinfo(image.dtype).max)
    return float(np.count_nonzero(image >= saturated_at)) / image.size


def _sharpness(blocks: FloatArray, mean: float) -> float:
    if mean <= 0 or min(blocks.shape) < 2:
        return 0.0
    differences = np.diff(blocks, axis=0)[:, :-1] ** 2 + np.diff(blocks, axis=1)[:-1] ** 2
    return float(differences.mean() / mean**2)
