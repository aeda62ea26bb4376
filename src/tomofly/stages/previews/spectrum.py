"""The 2-D spectrum with the fitted CTF in one quadrant."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from tomofly.stages.previews.canvas import BACKGROUND, FITTED, GOOD, OVERSAMPLING, TEXT, Axes, save_webp
from tomofly.stages.previews.lettering import write_text

_SIDE_PX = 512
_FOOT_PX = 26
_SMOOTHING_PX = 1.2


def draw_spectrum(
    spectrum: npt.NDArray[np.float32],
    *,
    highest_frequency: float,
    fit_resolution_angstrom: float | None,
    caption: str,
    path: Path,
) -> None:
    """Write the spectrum (y, x), zero frequency in the middle, its middle part enlarged to what shows rings.

    highest_frequency: along an axis, 1/Å. A circle marks the resolution to which the fit holds.
    """
    shown = _shown_frequency(highest_frequency, fit_resolution_angstrom)
    half = max(16, round(spectrum.shape[0] / 2 * shown / highest_frequency))
    middle = spectrum.shape[0] // 2
    part = _smoothed(spectrum[middle - half : middle + half, middle - half : middle + half])
    grey = Image.fromarray((part * 235 + 10).astype(np.uint8))
    square = grey.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC).convert("RGB")
    picture = Image.new("RGB", (_SIDE_PX, _SIDE_PX + _FOOT_PX), BACKGROUND)
    picture.paste(square, (0, 0))
    if fit_resolution_angstrom is not None:
        _mark_resolution(picture, fit_resolution_angstrom, shown)
    draw = ImageDraw.Draw(picture)
    write_text(draw, (_SIDE_PX / 2, _SIDE_PX + _FOOT_PX / 2), caption, 13, TEXT, anchor="m")
    save_webp(picture, path)


def _smoothed(spectrum: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Calm the noise of the measured quadrants so that the eye sees rings; the fitted one stays as it is."""
    middle = spectrum.shape[0] // 2
    smooth = ndimage.gaussian_filter(np.clip(spectrum, -0.5, 1.5), _SMOOTHING_PX)
    low, high = np.percentile(smooth[:middle], (2.0, 99.0))
    smooth = (smooth - low) / max(float(high - low), 1e-12)
    smooth[middle:, middle:] = spectrum[middle:, middle:]
    return np.asarray(np.clip(smooth, 0.0, 1.0), dtype=np.float32)


def _shown_frequency(highest: float, fit_resolution_angstrom: float | None) -> float:
    """Up to a third beyond where the rings end, so that they fill the picture."""
    if fit_resolution_angstrom is None:
        return min(highest, 1 / 6)
    return float(np.clip(1.2 / fit_resolution_angstrom, min(highest, 1 / 12), highest))


def _mark_resolution(picture: Image.Image, resolution_angstrom: float, shown: float) -> None:
    radius = _SIDE_PX / 2 / resolution_angstrom / shown * OVERSAMPLING
    mask = Image.new("L", (_SIDE_PX * OVERSAMPLING, _SIDE_PX * OVERSAMPLING))
    centre = _SIDE_PX / 2 * OVERSAMPLING
    axes = Axes(ImageDraw.Draw(mask), (0, 0, *mask.size), (0, 1), (0, 1))
    for start in range(0, 360, 6):
        box = (centre - radius, centre - radius, centre + radius, centre + radius)
        axes.draw.arc(box, start, start + 3.4, 220, round(1.3 * OVERSAMPLING))
    picture.paste(GOOD, (0, 0), mask.reduce(OVERSAMPLING))
    # the label sits on the circle, in the measured upper left quadrant
    offset = min(radius / OVERSAMPLING * 0.7071, _SIDE_PX / 2 - 34)
    place = (_SIDE_PX / 2 - offset, _SIDE_PX / 2 - offset)
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.rounded_rectangle(
        (place[0] - 28, place[1] - 11, place[0] + 28, place[1] + 11), 4, (*BACKGROUND, 215)
    )
    write_text(draw, place, f"{resolution_angstrom:.1f} Å", 14, FITTED, anchor="m")
