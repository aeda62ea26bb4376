"""Gain references: their orientation, and which orientation the data themselves support."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatImage = npt.NDArray[np.float32]

FLIPS = {0: "none", 1: "up-down", 2: "left-right"}

# The eight distinct orientations of a picture: four quarter turns, with and without a left-right flip.
ORIENTATIONS: tuple[tuple[int, int], ...] = tuple((turns, flip) for flip in (0, 2) for turns in range(4))


@dataclass(frozen=True)
class GainOrientationScore:
    """How well one orientation of a gain reference explains the mean raw frame.

    rotation: quarter turns clockwise, applied first; flip: 0 none, 1 up-down, 2 left-right, applied second.
    correlation: Pearson correlation of mean raw frame with 1/gain (what a flat exposure looks like), in
    [-1, 1]. flatness: standard deviation over mean of the corrected mean frame; the right gain makes it
    smallest. z_score: correlation in units of its standard deviation under "this gain has nothing to do
    with the data".
    """

    rotation: int
    flip: int
    correlation: float
    flatness: float
    z_score: float


def orient_gain(gain: FloatImage, rotation: int = 0, flip: int = 0) -> FloatImage:
    """Turn and mirror a gain reference (y, x).

    rotation: number of quarter turns clockwise as displayed with row 0 on top (0 to 3), applied first;
    flip: 0 none, 1 up-down, 2 left-right, applied second. The numbers mean what RELION's and MotionCor2's
    mean. Raises ValueError for other values.
    """
    if rotation not in range(4):
        raise ValueError(f"gain rotation is {rotation}; it counts quarter turns and is 0, 1, 2 or 3")
    if flip not in FLIPS:
        raise ValueError(f"gain flip is {flip}; it is 0 (none), 1 (up-down) or 2 (left-right)")
    turned = np.rot90(gain, -rotation)
    if flip:
        turned = np.flip(turned, axis=flip - 1)
    return np.ascontiguousarray(turned, dtype=np.float32)


def multiplicative_gain(gain: npt.NDArray[np.generic], *, is_divisor: bool = False) -> FloatImage:
    """Return the gain (y, x) as a factor per pixel with mean 1 over good pixels; 0 marks a dead pixel.

    is_divisor: the file holds what raw counts are to be divided by (EPU writes these for EER), not
    multiplied.
    """
    values = np.asarray(gain, dtype=np.float32)
    good = np.isfinite(values) & (values > 0)
    if not good.any():
        raise ValueError("the gain reference has no positive finite pixel")
    factor = np.zeros_like(values)
    factor[good] = 1.0 / values[good] if is_divisor else values[good]
    return np.asarray(factor / factor[good].mean(dtype=np.float64).astype(np.float32))


def score_gain_orientations(
    mean_raw_frame: npt.NDArray[np.floating], gain: npt.NDArray[np.floating]
) -> list[GainOrientationScore]:
    """Score the eight orientations of a multiplicative gain against the data, best first.

    mean_raw_frame: (y, x) mean of unaligned, uncorrected frames, the more the better; gain: (y, x),
    multiplied. Specimen and illumination are removed from both with a high-pass (a 9-pixel median-like
    mean), for the fixed pattern of the detector is what differs between orientations. Orientations whose
    shape does not fit the frame are left out. The z-score uses that independent patterns of N pixels
    correlate with s.d. 1/sqrt(N).
    """
    flat_exposure, usable = _inverse_gain(multiplicative_gain(gain))
    detail = _clipped_detail(np.asarray(mean_raw_frame, dtype=np.float32))
    scores = []
    for rotation, flip in ORIENTATIONS:
        expected = orient_gain(flat_exposure, rotation, flip)
        if expected.shape != detail.shape:
            continue
        good = orient_gain(usable, rotation, flip) > 0
        pattern = _clipped_detail(expected)[good]
        correlation = _pearson(detail[good], pattern)
        corrected = _clipped_detail(np.asarray(mean_raw_frame, np.float32) / expected)[good]
        flatness = float(corrected.std() / max(abs(float(np.mean(mean_raw_frame))), 1e-12))
        z_score = correlation * float(np.sqrt(good.sum()))
        scores.append(GainOrientationScore(rotation, flip, correlation, flatness, z_score))
    if not scores:
        raise ValueError(f"no orientation of a gain of shape {np.shape(gain)} fits frames of {detail.shape}")
    return sorted(scores, key=lambda score: -score.correlation)


def _inverse_gain(factor: FloatImage) -> tuple[FloatImage, FloatImage]:
    usable = factor > 0
    flat_exposure = np.ones_like(factor)
    flat_exposure[usable] = 1.0 / factor[usable]
    return flat_exposure, usable.astype(np.float32)


def _clipped_detail(image: FloatImage) -> FloatImage:
    """High-pass and clip at 5 robust sigma, so that hot pixels do not decide."""
    detail = image - ndimage.uniform_filter(image, 9, mode="reflect")
    spread = 1.4826 * float(np.median(np.abs(detail - np.median(detail))))
    return np.asarray(np.clip(detail, -5 * spread, 5 * spread)) if spread > 0 else detail


def _pearson(a: FloatImage, b: FloatImage) -> float:
    a = a - a.mean(dtype=np.float64)
    b = b - b.mean(dtype=np.float64)
    norm = float(np.sqrt(np.sum(a * a, dtype=np.float64) * np.sum(b * b, dtype=np.float64)))
    return float(np.sum(a * b, dtype=np.float64)) / norm if norm > 0 else 0.0
