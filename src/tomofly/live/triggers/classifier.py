"""A pixel classifier that learns from a few labelled strokes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from tomofly.live.triggers.measures import counted
from tomofly.live.triggers.observation import FloatImage, Measured
from tomofly.live.triggers.settings import Example, PixelsMeasure
from tomofly.model import TomoflyError

SCALES_PX = (0.7, 1.6, 3.5)
"""Widths of the Gaussians on which features are measured."""

MOST_PIXELS_PER_LABEL = 4000


class PixelClassifier:
    """Pixels told apart by grey value, edges and ridges at several scales (as Arganda-Carreras et al., 2017).

    It learns anew at each start from the pictures and labels of the settings: what it is made of can be
    looked at, and nothing that could run is read from disk.
    """

    def __init__(self, settings: PixelsMeasure) -> None:
        self._settings = settings
        features, labels = zip(*(_training(example) for example in settings.examples), strict=True)
        known = np.concatenate(labels)
        if settings.wanted not in known or len(np.unique(known)) < 2:
            raise TomoflyError(
                f"The strokes have the labels {sorted(map(int, np.unique(known)))}: the wanted one, "
                f"{settings.wanted}, and at least one other are needed",
                "Draw strokes of both, and set measure.wanted",
            )
        self._forest = RandomForestClassifier(
            settings.trees, min_samples_leaf=2, class_weight="balanced", random_state=0, n_jobs=1
        )
        self._forest.fit(np.concatenate(features), known)

    def __call__(self, image: FloatImage) -> Measured:
        """Measure the wanted class in a picture (rows, columns)."""
        if not np.isfinite(image).all():
            return Measured(np.nan)
        found = self._forest.predict(pixel_features(image)).reshape(image.shape) == self._settings.wanted
        return counted(found, self._settings.quantity, self._settings.least_area_px)


def pixel_features(image: FloatImage) -> npt.NDArray[np.float32]:
    """Give the features (pixel, feature): grey value, gradient and the two curvatures at each scale.

    Grey values are relative to the picture's median, in units of its quartiles, so that a change of flux or
    exposure is none of the sample.
    """
    low, middle, high = np.percentile(image, [25, 50, 75])
    scaled = (image - np.float32(middle)) / np.float32(max(high - low, np.finfo(np.float32).tiny))
    planes = [scaled]
    for scale in SCALES_PX:
        smooth = ndimage.gaussian_filter(scaled, scale)
        gy, gx = np.gradient(smooth)
        gyy, gyx = np.gradient(gy)
        gxx = np.gradient(gx, axis=1)
        half, root = 0.5 * (gyy + gxx), np.sqrt(0.25 * (gyy - gxx) ** 2 + gyx**2)
        planes += [smooth, np.hypot(gy, gx), half + root, half - root]
    return np.stack([plane.ravel() for plane in planes], axis=1).astype(np.float32)


def _training(example: Example) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    image = _picture(example.image).astype(np.float32)
    labels = _picture(example.labels).astype(np.int64)
    if labels.shape != image.shape:
        raise TomoflyError(
            f"{example.labels} has {labels.shape[0]} × {labels.shape[1]} pixels, {example.image} has "
            f"{image.shape[0]} × {image.shape[1]}",
            "Draw the labels on a copy of the picture",
        )
    flat = labels.ravel()
    chosen = np.concatenate(
        [_some(np.flatnonzero(flat == label)) for label in np.unique(flat[flat > 0])] or [np.zeros(0, int)]
    )
    return pixel_features(image)[chosen], flat[chosen]


def _some(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Take at most so many, evenly: strokes of thousands of pixels teach no more."""
    step = max(1, -(-len(places) // MOST_PIXELS_PER_LABEL))
    return places[::step]


def _picture(path: Path) -> npt.NDArray[np.generic]:
    try:
        with Image.open(path) as opened:
            picture = np.asarray(opened)
    except OSError as error:
        raise TomoflyError(f"{path} cannot be read as a picture: {error}", "Give a PNG or TIFF") from error
    if picture.ndim != 2:
        raise TomoflyError(
            f"{path} is not a grey picture: it has the shape {picture.shape}", "Save it as grey"
        )
    return picture
