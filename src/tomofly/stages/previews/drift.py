"""How the specimen moved: the path of the whole field, and the paths of its patches."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ImageDraw

from tomofly.stages.previews.canvas import (
    MUTED,
    OVERSAMPLING,
    PANEL,
    TEXT,
    Axes,
    new_plot,
    nice_length,
    save_plot,
    ticks_between,
)
from tomofly.stages.previews.lettering import Colour, write_text

_EARLY, _LATE = np.array([255, 170, 72]), np.array([84, 166, 250])
_SIZE = 11 * OVERSAMPLING


def draw_drift(
    shift_yx_angstrom: npt.NDArray[np.floating],
    patch_centre_yx: npt.NDArray[np.floating],
    patch_shift_yx_angstrom: npt.NDArray[np.floating],
    path: Path,
    *,
    applied: bool,
) -> None:
    """Write the plot of a movie's motion.

    shift_yx_angstrom: (frame, 2) to be applied; patch_centre_yx: (patch, 2) as fractions 0 to 1 of the
    field; patch_shift_yx_angstrom: (frame, patch, 2) on top of the global shift; applied: whether these are
    the smooth model's, which was applied, or as measured, which was not. What is drawn is the movement of
    the specimen, the opposite of the shift, in the directions of the picture (y downwards).
    """
    picture, draw = new_plot(640, 330)
    moved = -np.asarray(shift_yx_angstrom, dtype=float)
    colours = _frame_colours(len(moved))
    _draw_path(draw, moved - moved[0], colours)
    _draw_field(draw, patch_centre_yx, -np.asarray(patch_shift_yx_angstrom, dtype=float), colours, applied)
    _draw_key(draw, colours, len(moved))
    save_plot(picture, path)


def _frame_colours(frames: int) -> list[Colour]:
    """From the first frame's colour to the last's."""
    parts = np.linspace(0, 1, frames)[:, None]
    mixed = np.rint((1 - parts) * _EARLY + parts * _LATE).astype(int)
    return [(int(r), int(g), int(b)) for r, g, b in mixed]


def _scaled(box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (side * OVERSAMPLING for side in box)
    return left, top, right, bottom


def _draw_path(draw: ImageDraw.ImageDraw, moved: npt.NDArray[np.floating], colours: list[Colour]) -> None:
    """The path of the field as a whole, in Å with equal axes."""
    middle = (moved.max(axis=0) + moved.min(axis=0)) / 2
    half = max(0.58 * float(np.ptp(moved, axis=0).max()), 0.5)
    axes = Axes(
        draw,
        _scaled((46, 30, 306, 290)),
        (float(middle[1]) - half, float(middle[1]) + half),
        # y grows downwards, as in the picture
        (float(middle[0]) + half, float(middle[0]) - half),
        _SIZE,
    )
    axes.frame()
    for value in ticks_between(*axes.x_range):
        axes.x_tick(value, f"{value:g}")
    for value in ticks_between(axes.y_range[1], axes.y_range[0]):
        axes.y_tick(value, f"{value:g}")
    points = axes.place(moved[:, 1], moved[:, 0])
    _coloured_line(draw, points, colours, 2 * OVERSAMPLING)
    for (x, y), colour in zip(points, colours, strict=True):
        _dot(draw, x, y, 2.2 * OVERSAMPLING, colour)
    axes.title("Movement of the field / Å")


def _draw_field(
    draw: ImageDraw.ImageDraw,
    centre_yx: npt.NDArray[np.floating],
    moved: npt.NDArray[np.floating],
    colours: list[Colour],
    applied: bool,
) -> None:
    """The paths of the patches, magnified, each at its place."""
    axes = Axes(draw, _scaled((346, 30, 606, 290)), (0.0, 1.0), (1.0, 0.0), _SIZE)
    axes.frame()
    left, top, right, _ = axes.box
    if len(centre_yx) == 0:
        axes.title("No local movement measured")
        return
    spacing = (right - left) / (np.sqrt(len(centre_yx)) + 0.5)
    reach = float(np.quantile(np.linalg.norm(moved - moved[0], axis=-1).max(axis=0), 0.9))
    zoom = 0.8 * spacing / max(reach, 0.5)
    bar = nice_length(0.8 * spacing / zoom)
    axes.title("Local movement, magnified" if applied else "Local, as measured, not applied")
    for index, (x, y) in enumerate(axes.place(centre_yx[:, 1], centre_yx[:, 0])):
        points = _track(moved[:, index], (x, y), zoom)
        _coloured_line(draw, points, colours, round(1.5 * OVERSAMPLING))
        _dot(draw, *points[0], 1.8 * OVERSAMPLING, colours[0])
    draw.line(
        (right - bar * zoom, top - 6 * OVERSAMPLING, right, top - 6 * OVERSAMPLING), TEXT, 2 * OVERSAMPLING
    )
    label = (right - bar * zoom - 5 * OVERSAMPLING, top - 0.9 * _SIZE)
    write_text(draw, label, f"{bar:g} Å", _SIZE, TEXT, anchor="r")


def _track(
    path_yx: npt.NDArray[np.floating], origin_xy: tuple[float, float], zoom: float
) -> list[tuple[float, float]]:
    """The pixels of a path that begins at a place."""
    steps = (path_yx - path_yx[0]) * zoom
    return [(origin_xy[0] + float(step[1]), origin_xy[1] + float(step[0])) for step in steps]


def _coloured_line(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colours: list[Colour], width: int
) -> None:
    for start, end, colour in zip(points[:-1], points[1:], colours[1:], strict=True):
        draw.line((*start, *end), colour, width)


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _draw_key(draw: ImageDraw.ImageDraw, colours: list[Colour], frames: int) -> None:
    """Which colour is which frame."""
    left, right, y = 440 * OVERSAMPLING, 520 * OVERSAMPLING, 314 * OVERSAMPLING
    steps = 40
    width = (right - left) / steps
    draw.rectangle((left, y - 4 * OVERSAMPLING, right, y + 4 * OVERSAMPLING), PANEL)
    for step in range(steps):
        colour = colours[min(int(step / steps * len(colours)), len(colours) - 1)]
        x = left + step * width
        draw.rectangle((x, y - 4 * OVERSAMPLING, x + width, y + 4 * OVERSAMPLING), colour)
    write_text(draw, (left - 6 * OVERSAMPLING, y), "frame 1", _SIZE, MUTED, anchor="r")
    write_text(draw, (right + 6 * OVERSAMPLING, y), f"{frames}", _SIZE, MUTED)
