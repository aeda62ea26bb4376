"""Gain references: MRC, TIFF, or the `.gain` TIFF that comes with EER movies."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomofly.formats.errors import BadFile
from tomofly.formats.movie import read_frames, read_header

# beyond this the reference belongs to another camera mode, or is a picture
_MOST_DEAD = 0.2


@dataclass(frozen=True)
class Gain:
    """A gain reference as stored: no flip, no rotation, no inversion."""

    path: Path
    pixels: NDArray[np.float32]  # (y, x)
    dead_pixels: int  # those of zero, which no multiplication can restore
    is_divisor: bool = False  # the `.gain` of EER movies divides the counts; every other kind multiplies them


def read_gain(path: str | Path, *, shape_yx: tuple[int, int] | None = None) -> Gain:
    """Read a gain reference (y, x) as float32 and check it.

    With `shape_yx`, of the movies it is for, the size must be that, or that turned by 90 degrees.
    Raises BadFile for several images, another size, values that are no numbers or negative, and when more
    than a fifth of the pixels are zero.
    """
    path = Path(path)
    header = read_header(path)
    if header.format == "eer" or header.frames != 1:
        raise BadFile(path, f"holds {header.frames} images", "Give a gain reference of one image")
    if shape_yx is not None and header.shape_yx not in {shape_yx, shape_yx[::-1]}:
        size, wanted = header.shape_yx[::-1], shape_yx[::-1]
        what = f"is {size[0]} x {size[1]} pixels, the movies are {wanted[0]} x {wanted[1]}"
        raise BadFile(path, what, "Give the gain reference of this camera mode")
    pixels = read_frames(path)[0].astype(np.float32)
    is_divisor = path.suffix.lower() == ".gain"
    if is_divisor:  # a TIFF by its inside, but stored the way round that EER movies are
        pixels = np.ascontiguousarray(pixels[::-1])
    return Gain(path, pixels, _checked_dead(path, pixels), is_divisor)


def _checked_dead(path: Path, pixels: NDArray[np.float32]) -> int:
    not_numbers = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
    if not_numbers:
        raise BadFile(
            path, f"has {not_numbers} pixels that are no numbers", "Measure the gain reference again"
        )
    negative = int(np.count_nonzero(pixels < 0))
    if negative:
        raise BadFile(path, f"has {negative} negative pixels", "Measure the gain reference again")
    dead = pixels.size - int(np.count_nonzero(pixels))
    if dead > _MOST_DEAD * pixels.size:
        what = f"is zero in {dead} of {pixels.size} pixels"
        raise BadFile(
            path, what, "Give a gain reference, not a dark image, and measure it again if it is one"
        )
    return dead
