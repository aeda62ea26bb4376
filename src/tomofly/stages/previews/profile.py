"""The spectrum averaged along lines of equal phase, with the fit and how far it holds."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ImageDraw

from tomofly.stages.previews.canvas import (
    FITTED,
    GOOD,
    MEASURED,
    MUTED,
    OVERSAMPLING,
    TEXT,
    Axes,
    new_plot,
    save_plot,
)
from tomofly.stages.previews.lettering import Colour, text_width, write_text

_RESOLUTIONS = (50.0, 20.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.7, 2.5, 2.2, 2.0)
_SIZE = 11 * OVERSAMPLING


def draw_profile(
    frequency: npt.NDArray[np.floating],
    measured: npt.NDArray[np.floating],
    fitted: npt.NDArray[np.floating],
    agreement: npt.NDArray[np.floating],
    *,
    fit_resolution_angstrom: float | None,
    path: Path,
) -> None:
    """Write the plot of measured and fitted CTF², 0 to 1, and of their agreement; frequency in 1/Å."""
    picture, draw = new_plot(640, 300)
    last = _last_shown(frequency, fit_resolution_angstrom)
    axes = Axes(
        draw,
        (44.0 * OVERSAMPLING, 34.0 * OVERSAMPLING, 622.0 * OVERSAMPLING, 254.0 * OVERSAMPLING),
        (0.0, float(frequency[last])),
        (-0.1, 1.2),
        _SIZE,
    )
    axes.frame()
    _draw_ticks(axes)
    shown = slice(0, last + 1)
    axes.curve(frequency[shown], agreement[shown], GOOD, 1.0)
    axes.curve(frequency[shown], measured[shown], MEASURED, 1.5)
    axes.curve(frequency[shown], fitted[shown], FITTED, 1.2)
    if fit_resolution_angstrom is not None:
        _mark_resolution(axes, fit_resolution_angstrom)
    _draw_key(draw, (("measured", MEASURED), ("fitted CTF²", FITTED), ("agreement", GOOD)))
    middle = (axes.box[0] + axes.box[2]) / 2
    write_text(draw, (middle, 285 * OVERSAMPLING), "resolution / Å", _SIZE, MUTED, anchor="m")
    save_plot(picture, path)


def _last_shown(frequency: npt.NDArray[np.floating], fit_resolution_angstrom: float | None) -> int:
    wanted = 1 / 5 if fit_resolution_angstrom is None else 1.35 / fit_resolution_angstrom
    return int(np.clip(np.searchsorted(frequency, max(wanted, 1 / 12)), 1, len(frequency) - 1))


def _draw_ticks(axes: Axes) -> None:
    for value in (0.0, 0.5, 1.0):
        axes.y_tick(value, f"{value:g}")
    taken = -np.inf
    for resolution in _RESOLUTIONS:
        x = axes.place(1 / resolution, 0)[0][0]
        if x > axes.box[2] or x - taken < 2.6 * _SIZE:
            continue
        axes.x_tick(1 / resolution, f"{resolution:g}")
        taken = x


def _mark_resolution(axes: Axes, resolution_angstrom: float) -> None:
    x = axes.place(1 / resolution_angstrom, 0)[0][0]
    top, bottom = axes.box[1], axes.box[3]
    for y in np.arange(top, bottom, 8 * OVERSAMPLING):
        axes.draw.line((x, y, x, min(y + 4 * OVERSAMPLING, bottom)), TEXT, OVERSAMPLING)
    label = f"fit to {resolution_angstrom:.1f} Å"
    fits = x + text_width(label, _SIZE) + _SIZE < axes.box[2]
    place = (x + (0.5 if fits else -0.5) * _SIZE, top + 0.8 * _SIZE)
    write_text(axes.draw, place, label, _SIZE, TEXT, anchor="l" if fits else "r")


def _draw_key(draw: ImageDraw.ImageDraw, entries: tuple[tuple[str, Colour], ...]) -> None:
    x, y = 44.0 * OVERSAMPLING, 16.0 * OVERSAMPLING
    for label, colour in entries:
        draw.line((x, y, x + 1.6 * _SIZE, y), colour, 2 * OVERSAMPLING)
        write_text(draw, (x + 2.1 * _SIZE, y), label, _SIZE, TEXT)
        x += 2.1 * _SIZE + text_width(label, _SIZE) + 1.6 * _SIZE
