"""Measures on one picture: statistics, change and objects."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage
from skimage import filters, morphology

from tomofly.live.triggers.observation import FloatImage, Mask, Measured
from tomofly.live.triggers.settings import ChangeMeasure, ObjectsMeasure, Quantity, Region, RegionMeasure

Statistic = Callable[[FloatImage], float]


def part_of(image: FloatImage, region: Region | None) -> FloatImage:
    """Cut a region out of a picture (rows, columns). Raises ValueError where it lies outside."""
    if region is None:
        return image
    top, left, bottom, right = region
    if bottom > image.shape[0] or right > image.shape[1]:
        raise ValueError(
            f"the region {region} reaches beyond the picture of {image.shape[0]} × {image.shape[1]}"
        )
    return image[top:bottom, left:right]


def statistic_of(settings: RegionMeasure, image: FloatImage) -> Measured:
    """Measure a statistic of the finite values; NaN where there are none."""
    values = image[np.isfinite(image)]
    if not values.size:
        return Measured(math.nan)
    known: Mapping[str, Statistic] = {
        "mean": lambda v: float(v.mean(dtype=np.float64)),
        "median": lambda v: float(np.median(v)),
        "minimum": lambda v: float(v.min()),
        "maximum": lambda v: float(v.max()),
        "deviation": lambda v: float(v.std(dtype=np.float64)),
        "percentile": lambda v: float(np.percentile(v, settings.percentile)),
    }
    return Measured(known[settings.statistic](values))


class Change:
    """How far pictures go from a reference, which is the mean of the first ones or follows slowly."""

    def __init__(self, settings: ChangeMeasure) -> None:
        self._settings = settings
        self._reference: FloatImage | None = None
        self._seen = 0

    def __call__(self, image: FloatImage) -> Measured:
        """Compare a picture (rows, columns) with the reference; NaN while that is being made.

        A picture of another size begins a new reference.
        """
        if self._reference is None or self._reference.shape != image.shape:
            self._reference, self._seen = image.astype(np.float32, copy=True), 1
            return Measured(math.nan)
        ready = self._seen >= self._settings.memory
        value = self._compared(image, self._reference) if ready else math.nan
        if not ready or self._settings.reference == "running":
            self._seen = min(self._seen + 1, self._settings.memory)
            self._reference += (image - self._reference) / np.float32(self._seen)
        return Measured(value)

    def _compared(self, image: FloatImage, reference: FloatImage) -> float:
        spread = float(reference.std(dtype=np.float64))
        if spread == 0.0 or not np.isfinite(image).all():
            return math.nan
        if self._settings.compare == "unlike":
            return 1.0 - _correlation(image, reference)
        off = np.abs(image - reference)
        found = (
            off.max()
            if self._settings.compare == "largest"
            else np.sqrt(np.mean(off.astype(np.float64) ** 2))
        )
        return float(found) / spread


def _correlation(first: FloatImage, second: FloatImage) -> float:
    a, b = (each.astype(np.float64) - each.mean(dtype=np.float64) for each in (first, second))
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else math.nan


_THRESHOLDS: Mapping[str, Callable[[FloatImage], float]] = {
    "otsu": filters.threshold_otsu,
    "triangle": filters.threshold_triangle,
    "li": filters.threshold_li,
    "yen": filters.threshold_yen,
}


def objects_in(settings: ObjectsMeasure, image: FloatImage) -> Measured:
    """Measure the objects darker or brighter than a threshold, which is chosen from the picture or given.

    Otsu (1979), triangle (Zack et al., 1977), Li and Lee (1993), Yen et al. (1995), as scikit-image has them.
    """
    if not np.isfinite(image).all() or image.min() == image.max():
        return Measured(math.nan)
    smooth = ndimage.gaussian_filter(image, settings.smooth_px) if settings.smooth_px else image
    level = (
        settings.value if settings.threshold == "value" else float(_THRESHOLDS[settings.threshold](smooth))
    )
    mask = smooth < level if settings.side == "dark" else smooth > level
    return counted(mask, settings.quantity, settings.least_area_px)


def counted(mask: Mask, quantity: Quantity, least_area_px: int) -> Measured:
    """Measure the connected objects (8 neighbours) of a mask that have the least area."""
    kept = morphology.remove_small_objects(mask, max_size=least_area_px - 1, connectivity=2)
    if quantity == "area":
        return Measured(float(kept.sum()), kept)
    labels, count = ndimage.label(kept, structure=np.ones((3, 3)))
    if quantity == "count":
        return Measured(float(count), kept)
    return Measured(float(np.bincount(labels.ravel())[1:].max(initial=0)), kept)
