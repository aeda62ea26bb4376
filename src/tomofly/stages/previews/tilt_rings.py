"""The Thon rings of a tilt series: a row for each tilt, as measured on the left, as fitted on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.stages.previews.canvas import (
    MUTED,
    OVERSAMPLING,
    WARNING,
    Axes,
    new_plot,
    save_plot,
    ticks_between,
)
from tomofly.stages.previews.lettering import write_text

FloatArray = npt.NDArray[np.floating]

_SIZE = 11 * OVERSAMPLING
_RESOLUTIONS = (40.0, 25.0, 20.0, 15.0, 12.0, 10.0, 8.0, 7.0, 6.0, 5.0, 4.0)
_PANELS = (("measured", 58.0, 336.0), ("fitted CTF²", 346.0, 624.0))
_TOP, _BOTTOM = 34.0, 300.0
_COLUMNS = 320
# Rings are shown so far beyond the finest that any tilt is fitted to.
_BEYOND = 1.25


@dataclass(frozen=True)
class TiltRings:
    """One tilt: frequency (bin,) in 1/Å, CTF² as measured and as fitted (bin,), and how far the fit holds.

    ``fit_resolution_angstrom`` is NaN where no rings are followed.
    """

    tilt_angle_deg: float
    frequency: FloatArray
    measured: FloatArray
    fitted: FloatArray
    fit_resolution_angstrom: float


def draw_tilt_rings(tilts: Sequence[TiltRings], path: Path) -> None:
    """Write the rings of all tilts over frequency and angle; marks show how far each fit holds."""
    rows = sorted(tilts, key=lambda tilt: tilt.tilt_angle_deg)
    first, last = _range(rows)
    frequency = np.linspace(first, last, _COLUMNS)
    picture, draw = new_plot(640, 346)
    angles = [tilt.tilt_angle_deg for tilt in rows]
    margin = max(0.5, 0.5 * (angles[-1] - angles[0]) / max(len(rows) - 1, 1))
    for number, (name, left, right) in enumerate(_PANELS):
        box = tuple(v * OVERSAMPLING for v in (left, _TOP, right, _BOTTOM))
        axes = Axes(
            draw, (box[0], box[1], box[2], box[3]), (first, last),
            (angles[0] - margin, angles[-1] + margin), _SIZE,
        )  # fmt: skip
        values = [tilt.fitted if number else tilt.measured for tilt in rows]
        levels = [np.interp(frequency, t.frequency, v) for t, v in zip(rows, values, strict=True)]
        _paste_rows(picture, axes, angles, np.array(levels))
        axes.title(name)
        _label(axes, ticks=number == 0)
        if not number:
            _mark(axes, rows)
    middle = 0.5 * (_PANELS[0][1] + _PANELS[1][2]) * OVERSAMPLING
    write_text(draw, (middle, 332 * OVERSAMPLING), "resolution / Å", _SIZE, MUTED, anchor="m")
    write_text(draw, (8 * OVERSAMPLING, 16 * OVERSAMPLING), "tilt / °", _SIZE, MUTED)
    save_plot(picture, path)


def _range(rows: Sequence[TiltRings]) -> tuple[float, float]:
    first = float(min(tilt.frequency[0] for tilt in rows))
    highest = float(max(tilt.frequency[-1] for tilt in rows))
    held = [1 / r for r in (tilt.fit_resolution_angstrom for tilt in rows) if np.isfinite(r)]
    return first, min(highest, max(_BEYOND * max(held, default=0.0), 1 / 12))


def _paste_rows(
    picture: Image.Image, axes: Axes, angles: Sequence[float], levels: npt.NDArray[np.float64]
) -> None:
    """Fill the panel with each angle's nearest tilt, from 0 (black) to 1 (white)."""
    left, top, right, bottom = (round(v) for v in axes.box)
    low, high = axes.y_range
    wanted = high - (np.arange(bottom - top) + 0.5) * (high - low) / (bottom - top)
    nearest = np.argmin(np.abs(wanted[:, None] - np.asarray(angles)[None, :]), axis=1)
    grey = np.rint(255 * np.clip(levels, 0, 1)).astype(np.uint8)[nearest]
    rings = Image.fromarray(grey).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    picture.paste(rings.convert("RGB"), (left, top))


def _label(axes: Axes, *, ticks: bool) -> None:
    """Write angles and resolutions beside the panel, without lines through it."""
    left, _, right, bottom = axes.box
    if ticks:
        for value in ticks_between(*axes.y_range, 9):
            _, y = axes.place(axes.x_range[0], value)[0]
            write_text(axes.draw, (left - 0.5 * _SIZE, y), f"{value:g}", _SIZE, MUTED, anchor="r")
    taken = -np.inf
    for resolution in _RESOLUTIONS:
        x = axes.place(1 / resolution, axes.y_range[0])[0][0]
        if left <= x <= right and x - taken >= 2.6 * _SIZE:
            write_text(axes.draw, (x, bottom + 0.9 * _SIZE), f"{resolution:g}", _SIZE, MUTED, anchor="m")
            taken = x


def _mark(axes: Axes, rows: Sequence[TiltRings]) -> None:
    """Mark how far each fit holds."""
    for tilt in rows:
        if np.isfinite(tilt.fit_resolution_angstrom):
            x, y = axes.place(1 / tilt.fit_resolution_angstrom, tilt.tilt_angle_deg)[0]
            _dot(axes.draw, min(x, axes.box[2]), y)


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    radius = 1.6 * OVERSAMPLING
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), WARNING)
