"""Pictures of a tomogram: three sections through its middle, with what was picked there."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.imaging.contrast import stretched
from tomofly.stages.previews.canvas import BACKGROUND, GOOD, MUTED, TEXT, draw_scale_bar, save_webp
from tomofly.stages.previews.lettering import text_width, write_text

LARGEST_SIDE_PX = 560
SMALLEST_SIDE_PX = 280
SLAB_PX = 3
"""Slices averaged for a picture: one alone is noise."""
HEAD_PX = 24
"""What the title of a sheet takes."""

_GAP = 6
_TEXT_PX = 13
_PERCENTILES = (0.3, 99.7)

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VolumeMarks:
    """Particles to be marked: voxel indices (particle, 3) as (z, y, x), and their diameter in voxels."""

    zyx_px: npt.NDArray[np.floating]
    diameter_px: float


def draw_sections(
    volume: FloatImage, voxel_angstrom: float, path: Path, title: str = "", marks: VolumeMarks | None = None
) -> None:
    """Write XY, XZ below and YZ beside it, each through the middle of a volume (z, y, x), below a title.

    Marked particles are circles where they cross the section, as wide as they are there.
    """
    depth = SLAB_PX if marks is None else max(SLAB_PX, round(marks.diameter_px / 4))
    scale = display_scale(max(volume.shape[1:]), SMALLEST_SIDE_PX, LARGEST_SIDE_PX)
    xy, xz, yz = (_section(volume, axis, depth, scale, marks) for axis in range(3))
    draw_scale_bar(xy, voxel_angstrom / scale)
    save_sections(xy, xz, yz, title, path)


def save_sections(xy: Image.Image, xz: Image.Image, yz: Image.Image, title: str, path: Path) -> None:
    """Write three pictures of sections on one sheet: XY, XZ below and YZ beside it, below a title."""
    for picture, name in ((xy, "xy"), (xz, "xz"), (yz, "yz")):
        write_badge(picture, name, "left")
    sheet = titled_sheet(xy.width + _GAP + yz.width, xy.height + _GAP + xz.height, title)
    sheet.paste(xy, (0, HEAD_PX))
    sheet.paste(xz, (0, HEAD_PX + xy.height + _GAP))
    sheet.paste(yz, (xy.width + _GAP, HEAD_PX))
    save_webp(sheet, path)


def titled_sheet(width: int, height: int, title: str) -> Image.Image:
    """Give a sheet with a title, and below it, from ``HEAD_PX`` on, room for pictures."""
    sheet = Image.new("RGB", (width, HEAD_PX + height), BACKGROUND)
    write_text(ImageDraw.Draw(sheet), (6, HEAD_PX / 2), title, _TEXT_PX, MUTED)
    return sheet


def _section(
    volume: FloatImage, axis: int, depth: int, scale: float, marks: VolumeMarks | None
) -> Image.Image:
    """Draw the mean of the middle slices across an axis; that across x lies on its side, z to the right."""
    start = max(0, volume.shape[axis] // 2 - depth // 2)
    chosen = [slice(None)] * 3
    chosen[axis] = slice(start, start + depth)
    image = volume[tuple(chosen)].mean(axis=axis)
    picture = grey_picture(image.T if axis == 2 else image, scale)
    if marks is not None:
        at = marks.zyx_px[:, axis] - (start + (depth - 1) / 2)
        down, right = ((1, 2), (0, 2), (1, 0))[axis]
        _draw_circles(picture, marks.zyx_px[:, [down, right]], at, marks.diameter_px / 2, scale)
    return picture


def _draw_circles(
    picture: Image.Image,
    places: npt.NDArray[np.floating],
    off: npt.NDArray[np.floating],
    radius_px: float,
    scale: float,
) -> None:
    draw = ImageDraw.Draw(picture)
    for (down, right), away in zip(places, off, strict=True):
        if abs(away) >= radius_px:
            continue
        radius = max(2.0, float(np.sqrt(radius_px**2 - away**2)) * scale)
        y, x = (down + 0.5) * scale, (right + 0.5) * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=GOOD, width=1 + (radius > 8))


def display_scale(longest_px: int, smallest_px: int, largest_px: int) -> float:
    """Give by how much to change a picture's size so that its longest side lies between two lengths."""
    return min(max(1.0, smallest_px / longest_px), largest_px / longest_px)


def grey_picture(image: npt.NDArray[np.floating], scale: float) -> Image.Image:
    """Draw an image (y, x), resized, with the contrast that it has then: averaging takes noise away."""
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = Image.fromarray(np.asarray(image, np.float32))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    grey = stretched(np.asarray(picture, np.float32), percentiles=_PERCENTILES)
    return Image.fromarray(grey).convert("RGB")


def write_badge(picture: Image.Image, text: str, side: str) -> None:
    """Write words into an upper corner, ``side`` left or right."""
    draw = ImageDraw.Draw(picture, "RGBA")
    size = _TEXT_PX
    width = text_width(text, size) + size
    left = 0.5 * size if side == "left" else picture.width - 0.5 * size - width
    draw.rounded_rectangle((left, 0.5 * size, left + width, 2.1 * size), 0.3 * size, (*BACKGROUND, 190))
    write_text(draw, (left + width / 2, 1.3 * size), text, size, TEXT, anchor="m")
