"""Pictures of scans: a projection, and three sections of the volume."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.stages.previews.canvas import BACKGROUND, MUTED, draw_scale_bar, save_webp
from tomofly.stages.previews.lettering import write_text
from tomofly.stages.previews.tomogram import display_scale, grey_picture, write_badge

FloatArray = npt.NDArray[np.float32]

SMALLEST_PX = 280
LARGEST_PX = 720
_GAP = 6
_HEAD_PX = 24
_TEXT_PX = 13
_ANGSTROM_PER_UM = 1e4


def draw_projection(image: FloatArray, pixel_um: float | None, path: Path, title: str) -> None:
    """Write one projection (y, x) as transmission, with a scale bar where the size of a pixel is known."""
    scale = display_scale(max(image.shape), SMALLEST_PX, LARGEST_PX)
    picture = grey_picture(image, scale)
    if pixel_um:
        draw_scale_bar(picture, pixel_um * _ANGSTROM_PER_UM / scale)
    sheet = Image.new("RGB", (max(picture.width, 2 * SMALLEST_PX), _HEAD_PX + picture.height), BACKGROUND)
    sheet.paste(picture, (0, _HEAD_PX))
    write_text(ImageDraw.Draw(sheet), (6, _HEAD_PX / 2), title, _TEXT_PX, MUTED)
    save_webp(sheet, path)


@dataclass
class Sections:
    """Three sections through the middle of a volume (z, y, x) that comes in slabs, never there whole."""

    shape_zyx: tuple[int, int, int]
    xy: FloatArray = field(init=False)
    xz: FloatArray = field(init=False)
    yz: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        depth, height, width = self.shape_zyx
        self.xy = np.zeros((height, width), np.float32)
        self.xz = np.zeros((depth, width), np.float32)
        self.yz = np.zeros((depth, height), np.float32)

    def take(self, first: int, slab: FloatArray) -> None:
        """Take what belongs to the sections out of a slab that begins at slice ``first``."""
        depth, height, width = self.shape_zyx
        here = slice(first, first + len(slab))
        self.xz[here] = slab[:, height // 2]
        self.yz[here] = slab[:, :, width // 2]
        if first <= depth // 2 < first + len(slab):
            self.xy[:] = slab[depth // 2 - first]

    def draw(self, voxel_um: float | None, path: Path, title: str) -> None:
        """Write XY, XZ below it and YZ beside it, below a title."""
        scale = display_scale(max(self.xy.shape), SMALLEST_PX, LARGEST_PX)
        xy, xz, yz = (grey_picture(image, scale) for image in (self.xy, self.xz, self.yz.T))
        if voxel_um:
            draw_scale_bar(xy, voxel_um * _ANGSTROM_PER_UM / scale)
        for picture, name in ((xy, "xy"), (xz, "xz"), (yz, "yz")):
            write_badge(picture, name, "left")
        size = (xy.width + _GAP + yz.width, _HEAD_PX + xy.height + _GAP + xz.height)
        sheet = Image.new("RGB", size, BACKGROUND)
        sheet.paste(xy, (0, _HEAD_PX))
        sheet.paste(xz, (0, _HEAD_PX + xy.height + _GAP))
        sheet.paste(yz, (xy.width + _GAP, _HEAD_PX))
        write_text(ImageDraw.Draw(sheet), (6, _HEAD_PX / 2), title, _TEXT_PX, MUTED)
        save_webp(sheet, path)
