"""Sinograms of discs, from the formula: chords of circles, averaged over each detector pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Disc:
    """A disc of absorption ``mu`` (1/px) whose middle is (x, y) from the axis, in pixels."""

    x: float
    y: float
    radius: float
    mu: float


SCENE = (Disc(0, 0, 30, 0.01), Disc(10, -14, 8, 0.02), Disc(-15, 5, 6, -0.01), Disc(3, 22, 4, 0.015))
"""Nothing of it is symmetric: swapped axes and wrong signs show."""


def project(discs: Sequence[Disc], angles: npt.NDArray[np.float64], width: int, centre: float) -> FloatArray:
    """Give absorption (angle, s); a point lies at s = x cos - y sin + centre."""
    s = np.arange(width)
    total = np.zeros((len(angles), width))
    for disc in discs:
        middle = disc.x * np.cos(angles) - disc.y * np.sin(angles) + centre
        away = s - middle[:, None]
        total += disc.mu * (_area(away + 0.5, disc.radius) - _area(away - 0.5, disc.radius))
    return total.astype(np.float32)


def _area(edge: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """Area of a circle left of a line, up to a constant."""
    inside = np.clip(edge, -radius, radius)
    area: npt.NDArray[np.float64] = inside * np.sqrt(radius**2 - inside**2) + radius**2 * np.arcsin(
        inside / radius
    )
    return area


def slice_of(discs: Sequence[Disc], width: int, finer: int = 8) -> FloatArray:
    """Give the slice (y, x) itself, each pixel the mean of ``finer`` squared points."""
    points = (np.arange(width * finer) + 0.5) / finer - 0.5 - width // 2
    y, x = points[:, None], points[None, :]
    image = np.zeros((width * finer, width * finer), np.float32)
    for disc in discs:
        image += disc.mu * ((x - disc.x) ** 2 + (y - disc.y) ** 2 <= disc.radius**2)
    return image.reshape(width, finer, width, finer).mean(axis=(1, 3))


def ramp(padded: int) -> npt.NDArray[np.float64]:
    """Give the response of the band-limited ramp, in cycles per pixel. Kak & Slaney (1988), equation 61."""
    taps = np.zeros(padded)
    taps[0] = 0.25
    odd = np.arange(1, (padded + 1) // 2, 2)
    taps[odd] = taps[-odd] = -1 / (np.pi * odd) ** 2
    return np.abs(np.fft.rfft(taps).real)
