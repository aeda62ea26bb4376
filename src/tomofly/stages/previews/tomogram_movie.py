"""Films for people: a walk through the slices of a tomogram, and the tilt of its aligned images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from tomofly.stages.previews.canvas import draw_scale_bar
from tomofly.stages.previews.tomogram import SLAB_PX, display_scale, grey_picture, write_badge

MOVIE_SIDE_PX = 360
SMALLEST_SIDE_PX = 240
MOST_FRAMES = 45
FRAME_MS = 100
END_MS = 600
"""How long a film rests at its end, so that the jump back to the beginning is seen as such."""

_QUALITY = 45
_CALM_PX = 0.7

FloatImage = npt.NDArray[np.float32]


def write_slices_movie(
    volume: FloatImage, voxel_angstrom: float, path: Path, slab_z: tuple[float, float] | None = None
) -> None:
    """Write a walk through the slices of a volume (z, y, x), bottom to top, as an animated WebP.

    With ``slab_z``, heights as indices, only from the one to the other. Heights are told from the middle.
    """
    low, high = (0, len(volume)) if slab_z is None else _within(slab_z, len(volume))
    step = max(1, -(-(high - low) // MOST_FRAMES))
    starts = range(low, high, step)
    middle = len(volume) // 2
    slabs = [volume[z : z + max(step, SLAB_PX)].mean(axis=0) for z in starts]
    words = [f"z {(z + step / 2 - middle) * voxel_angstrom / 10:+.0f} nm" for z in starts]
    _write_movie(slabs, voxel_angstrom, words, path)


def _within(slab_z: tuple[float, float], count: int) -> tuple[int, int]:
    low = int(np.clip(np.floor(slab_z[0]), 0, count - 1))
    return low, int(np.clip(np.ceil(slab_z[1]) + 1, low + 1, count))


def write_tilts_movie(
    images: FloatImage, pixel_angstrom: float, tilt_angle_deg: npt.NDArray[np.floating], path: Path
) -> None:
    """Write aligned images (tilt, y, x), in the order of their angles, as an animated WebP."""
    ordered = np.argsort(tilt_angle_deg, kind="stable")
    words = [f"tilt {tilt_angle_deg[i]:+.1f}°" for i in ordered]
    _write_movie([images[i] for i in ordered], pixel_angstrom, words, path)


def _write_movie(
    images: Sequence[FloatImage], pixel_angstrom: float, captions: Sequence[str], path: Path
) -> None:
    frames = []
    for image, caption in zip(images, captions, strict=True):
        scale = display_scale(max(image.shape), SMALLEST_SIDE_PX, MOVIE_SIDE_PX)
        # What the encoder must not spend its bytes on.
        picture = grey_picture(image, scale).filter(ImageFilter.GaussianBlur(_CALM_PX))
        draw_scale_bar(picture, pixel_angstrom / scale)
        write_badge(picture, caption, "right")
        frames.append(picture)
    durations = [FRAME_MS] * (len(frames) - 1) + [END_MS]
    _save(frames, durations, path)


def _save(frames: Sequence[Image.Image], durations: Sequence[int], path: Path) -> None:
    frames[0].save(
        path, "WEBP", save_all=True, append_images=list(frames[1:]), duration=list(durations), loop=0,
        quality=_QUALITY, method=3,
    )  # fmt: skip
