"""Pictures of a tomogram: three sections through its middle, and a walk through its slices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.imaging.contrast import stretched
from tomofly.stages.previews.canvas import BACKGROUND, GOOD, TEXT, draw_scale_bar, save_webp
from tomofly.stages.previews.lettering import text_width, write_text

LARGEST_SIDE_PX = 560
MOVIE_SIDE_PX = 360
MOST_FRAMES = 60
FRAME_MS = 90
SLAB_PX = 3
"""Slices averaged for a picture: one alone is noise."""

_GAP = 6
_PERCENTILES = (0.5, 99.5)


def draw_sections(
    volume: npt.NDArray[np.float32], voxel_angstrom: float, path: Path, caption: str = ""
) -> None:
    """Write XY, XZ below and YZ beside it, each through the middle of a volume (z, y, x)."""
    z, y, x = (_middle(size) for size in volume.shape)
    xy = volume[z].mean(axis=0)
    xz = volume[:, y].mean(axis=1)
    yz = volume[:, :, x].mean(axis=2).T
    scale = min(1.0, LARGEST_SIDE_PX / max(xy.shape))
    pictures = [_grey(image, scale) for image in (xy, xz, yz)]
    width, height = (
        pictures[0].width + _GAP + pictures[2].width,
        pictures[0].height + _GAP + pictures[1].height,
    )
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw_scale_bar(pictures[0], voxel_angstrom / scale)
    sheet.paste(pictures[0], (0, 0))
    sheet.paste(pictures[1], (0, pictures[0].height + _GAP))
    sheet.paste(pictures[2], (pictures[0].width + _GAP, 0))
    if caption:
        _write(sheet, caption, pictures[0].width)
    save_webp(sheet, path)


def draw_picked(
    volume: npt.NDArray[np.float32],
    voxel_angstrom: float,
    position_zyx_px: npt.NDArray[np.floating],
    diameter_px: float,
    path: Path,
) -> None:
    """Write the mean of the slices about the middle, with a circle around each particle (n, 3) near it."""
    z = _middle(volume.shape[0], round(max(SLAB_PX, diameter_px / 2)))
    image = volume[z].mean(axis=0)
    scale = min(1.0, LARGEST_SIDE_PX / max(image.shape))
    picture = _grey(image, scale)
    draw = ImageDraw.Draw(picture)
    radius = diameter_px / 2 * scale
    near = (position_zyx_px[:, 0] >= z.start - diameter_px / 2) & (
        position_zyx_px[:, 0] < z.stop + diameter_px / 2
    )
    for _, y, x in position_zyx_px[near]:
        centre_x, centre_y = (x + 0.5) * scale, (y + 0.5) * scale
        draw.ellipse(
            (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius),
            outline=GOOD,
            width=1,
        )
    draw_scale_bar(picture, voxel_angstrom / scale)
    _write(picture, f"{int(near.sum())} of {len(position_zyx_px)} particles", picture.width)
    save_webp(picture, path)


def write_slices_movie(volume: npt.NDArray[np.float32], path: Path) -> None:
    """Write a walk through the slices of a volume (z, y, x) as an animated WebP."""
    step = max(1, -(-len(volume) // MOST_FRAMES))
    slabs = [volume[i : i + max(step, SLAB_PX)].mean(axis=0) for i in range(0, len(volume), step)]
    _write_movie(slabs, [""] * len(slabs), path)


def write_tilts_movie(
    images: npt.NDArray[np.float32], tilt_angle_deg: npt.NDArray[np.floating], path: Path
) -> None:
    """Write aligned images (tilt, y, x), in the order of their angles, as an animated WebP."""
    ordered = np.argsort(tilt_angle_deg, kind="stable")
    words = [f"{tilt_angle_deg[i]:+.1f}°" for i in ordered]
    _write_movie([images[i] for i in ordered], words, path)


def _write_movie(images: Sequence[npt.NDArray[np.float32]], captions: Sequence[str], path: Path) -> None:
    pictures = []
    for image, caption in zip(images, captions, strict=True):
        picture = _grey(image, min(1.0, MOVIE_SIDE_PX / max(image.shape)))
        if caption:
            _write(picture, caption, picture.width)
        pictures.append(picture)
    # There and back, so that the end does not jump.
    frames = [*pictures, *pictures[-2:0:-1]]
    frames[0].save(
        path, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=60, method=2
    )


def _middle(size: int, slab: int = SLAB_PX) -> slice:
    start = max(0, size // 2 - slab // 2)
    return slice(start, min(size, start + slab))


def _grey(image: npt.NDArray[np.float32], scale: float) -> Image.Image:
    grey = Image.fromarray(stretched(np.asarray(image, np.float32), percentiles=_PERCENTILES))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    return grey.convert("RGB")


def _write(picture: Image.Image, text: str, right: int) -> None:
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(11, round(right / 34))
    width = text_width(text, size) + size
    draw.rounded_rectangle(
        (right - 0.6 * size - width, 0.6 * size, right - 0.6 * size, 2.2 * size),
        0.3 * size,
        (*BACKGROUND, 190),
    )
    write_text(draw, (right - 0.6 * size - width / 2, 1.4 * size), text, size, TEXT, anchor="m")
