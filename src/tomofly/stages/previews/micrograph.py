"""The micrograph itself, and the micrograph with its particles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.contrast import stretched
from tomofly.imaging.exclusion import robust_sigma
from tomofly.stages.previews.canvas import (
    BACKGROUND,
    FITTED,
    GOOD,
    OVERSAMPLING,
    TEXT,
    WARNING,
    draw_scale_bar,
    save_webp,
)
from tomofly.stages.previews.lettering import text_width, write_text

LARGEST_SIDE_PX = 512
_SHOWN_SIGMA = 3.3


@dataclass(frozen=True)
class PickMarks:
    """What to draw over a micrograph.

    ``position_yx_px`` (n, 2) in the micrograph's pixels, ``diameter_px`` (n,), ``excluded`` (y, x) a mask of
    any sampling that covers the whole micrograph, True where nothing was picked.
    """

    position_yx_px: npt.NDArray[np.floating]
    diameter_px: npt.NDArray[np.floating]
    excluded: npt.NDArray[np.bool_] | None = None


def draw_micrograph(image: npt.NDArray[np.float32], pixel_size_angstrom: float, path: Path) -> None:
    """Write a thumbnail of an image (y, x), its longer side at most 512 pixels, with a scale bar."""
    picture, scale = _reduced(image)
    draw_scale_bar(picture, pixel_size_angstrom / scale)
    save_webp(picture, path)


def draw_picks(
    image: npt.NDArray[np.float32], pixel_size_angstrom: float, marks: PickMarks, path: Path
) -> None:
    """Write a thumbnail with a circle around each particle, and excluded areas in red."""
    picture, scale = _reduced(image)
    if marks.excluded is not None and marks.excluded.any():
        picture = _tinted(picture, marks.excluded)
    picture.paste(GOOD, (0, 0), _circles(picture, marks, scale))
    draw_scale_bar(picture, pixel_size_angstrom / scale)
    _count(picture, f"{len(marks.position_yx_px)} particles")
    save_webp(picture, path)


def _reduced(image: npt.NDArray[np.float32]) -> tuple[Image.Image, float]:
    """The picture and its size relative to the image: averaged by a whole factor, then resampled."""
    factor = max(1, max(image.shape) // LARGEST_SIDE_PX)
    binned = bin_mean(np.asarray(image, np.float32), factor)
    scale = min(1.0, LARGEST_SIDE_PX / max(image.shape))
    grey = Image.fromarray(stretched(_without_extremes(binned), percentiles=(0, 100)))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    return grey.convert("RGB"), scale


def _without_extremes(binned: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Clip far from the median, so that a dark lump of ice takes no grey values from the particles."""
    finite = binned[np.isfinite(binned)]
    if not finite.size:
        return binned
    middle, spread = robust_sigma(finite)
    if not spread > 0:
        return binned
    return np.clip(binned, middle - _SHOWN_SIGMA * spread, middle + _SHOWN_SIGMA * spread)


def _tinted(picture: Image.Image, excluded: npt.NDArray[np.bool_]) -> Image.Image:
    mask = Image.fromarray(excluded.astype(np.uint8) * 95).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", picture.size, WARNING), picture, mask)


def _circles(picture: Image.Image, marks: PickMarks, scale: float) -> Image.Image:
    """The circles as a mask with soft edges."""
    mask = Image.new("L", (picture.width * OVERSAMPLING, picture.height * OVERSAMPLING))
    draw = ImageDraw.Draw(mask)
    zoom = scale * OVERSAMPLING
    for (y, x), diameter in zip(marks.position_yx_px, marks.diameter_px, strict=True):
        # the centre of pixel 0 lies half a pixel inside the picture
        centre_y, centre_x, radius = (y + 0.5) * zoom, (x + 0.5) * zoom, diameter * zoom / 2
        draw.ellipse(
            (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius),
            outline=235,
            width=round(1.5 * OVERSAMPLING),
        )
    return mask.reduce(OVERSAMPLING)


def _count(picture: Image.Image, text: str) -> None:
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(11, round(picture.width / 34))
    width = text_width(text, size) + size
    right, top = picture.width - 0.6 * size, 0.6 * size
    draw.rounded_rectangle((right - width, top, right, top + 1.7 * size), 0.3 * size, (*BACKGROUND, 190))
    colour = TEXT if not text.startswith("0 ") else FITTED
    write_text(draw, (right - width / 2, top + 0.85 * size), text, size, colour, anchor="m")
