"""Pictures of scans: a projection, and three sections of the volume."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.stages.previews.canvas import draw_scale_bar, save_webp
from tomofly.stages.previews.tomogram import (
    HEAD_PX,
    display_scale,
    grey_picture,
    save_sections,
    titled_sheet,
)

FloatArray = npt.NDArray[np.float32]

SMALLEST_PX = 280
LARGEST_PX = 720
_ANGSTROM_PER_UM = 1e4


def draw_projection(image: FloatArray, pixel_um: float | None, path: Path, title: str) -> None:
    """Write one projection (y, x) as transmission, with a scale bar where the size of a pixel is known."""
    scale = display_scale(max(image.shape), SMALLEST_PX, LARGEST_PX)
    picture = grey_picture(image, scale)
    if pixel_um:
        draw_scale_bar(picture, pixel_um * _ANGSTROM_PER_UM / scale)
    sheet = titled_sheet(max(picture.width, 2 * SMALLEST_PX), picture.height, title)
    sheet.paste(picture, (0, HEAD_PX))
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
        save_sections(xy, xz, yz, title, path)
