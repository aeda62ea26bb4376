"""Plots over the tilts of a series: shifts and residuals, and defocus."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    WARNING,
    Axes,
    new_plot,
    save_plot,
    ticks_between,
)
from tomofly.stages.previews.lettering import Colour, text_width, write_text

FloatArray = npt.NDArray[np.floating]

_SIZE = 11 * OVERSAMPLING
_COLOURS = (MEASURED, FITTED, GOOD)


@dataclass(frozen=True)
class TiltCurve:
    """Values (tilt,) with their standard errors (tilt,), both in the plot's unit; NaN where there is none."""

    name: str
    values: FloatArray
    errors: FloatArray | None = None


def draw_over_tilts(
    tilt_angle_deg: FloatArray,
    curves: Sequence[TiltCurve],
    *,
    unit: str,
    path: Path,
    left_out_deg: FloatArray | None = None,
) -> None:
    """Write curves over the tilt angle, with error bars; angles that were left out are marked below."""
    picture, draw = new_plot(640, 300)
    box = tuple(v * OVERSAMPLING for v in (58.0, 34.0, 622.0, 254.0))
    axes = Axes(draw, (box[0], box[1], box[2], box[3]), _x_range(tilt_angle_deg), _y_range(curves), _SIZE)
    axes.frame()
    for value in ticks_between(*axes.x_range, 9):
        axes.x_tick(value, f"{value:g}")
    for value in ticks_between(*axes.y_range):
        axes.y_tick(value, f"{value:g}")
    order = np.argsort(tilt_angle_deg, kind="stable")
    for curve, colour in zip(curves, _COLOURS, strict=False):
        _draw_curve(axes, tilt_angle_deg[order], curve, order, colour)
    for angle in () if left_out_deg is None else left_out_deg:
        (x, y) = axes.place(float(np.clip(angle, *axes.x_range)), axes.y_range[0])[0]
        write_text(draw, (x, y - _SIZE), "×", _SIZE, WARNING, anchor="m")
    _draw_key(draw, [(c.name, colour) for c, colour in zip(curves, _COLOURS, strict=False)])
    write_text(draw, (8 * OVERSAMPLING, 16 * OVERSAMPLING), unit, _SIZE, MUTED)
    middle = (axes.box[0] + axes.box[2]) / 2
    write_text(draw, (middle, 285 * OVERSAMPLING), "tilt angle / °", _SIZE, MUTED, anchor="m")
    save_plot(picture, path)


def _x_range(angles: FloatArray) -> tuple[float, float]:
    low, high = float(np.min(angles)), float(np.max(angles))
    margin = max(1.0, 0.03 * (high - low))
    return low - margin, high + margin


def _y_range(curves: Sequence[TiltCurve]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(c.values, float) for c in curves])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.1 * (high - low) or max(0.1, 0.1 * abs(high))
    return low - margin, high + margin


def _draw_curve(
    axes: Axes, angles: FloatArray, curve: TiltCurve, order: npt.NDArray[np.intp], colour: Colour
) -> None:
    values = np.asarray(curve.values, float)[order]
    known = np.isfinite(values)
    axes.curve(angles[known], values[known], colour, 1.2)
    errors = np.full(len(values), np.nan) if curve.errors is None else np.asarray(curve.errors, float)[order]
    for angle, value, error in zip(angles[known], values[known], errors[known], strict=True):
        if np.isfinite(error):
            axes.curve([angle, angle], [value - error, value + error], colour, 0.8)
        x, y = axes.place(angle, value)[0]
        r = 1.8 * OVERSAMPLING
        axes.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _draw_key(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, Colour]]) -> None:
    x = 622.0 * OVERSAMPLING
    for name, colour in reversed(entries):
        x -= text_width(name, _SIZE)
        write_text(draw, (x, 16 * OVERSAMPLING), name, _SIZE, colour)
        x -= 1.5 * _SIZE
