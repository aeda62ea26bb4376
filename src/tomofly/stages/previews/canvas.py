"""What all previews share: colours, scale bars, axes, and saving as WebP."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tomofly.stages.previews.lettering import Colour, text_width, write_text

BACKGROUND: Colour = (17, 20, 26)
PANEL: Colour = (24, 28, 36)
GRID: Colour = (46, 53, 66)
TEXT: Colour = (214, 220, 230)
MUTED: Colour = (140, 150, 166)
MEASURED: Colour = (96, 176, 244)
FITTED: Colour = (255, 170, 72)
GOOD: Colour = (94, 214, 150)
WARNING: Colour = (244, 96, 96)

# Plots are drawn at this multiple and reduced, for Pillow's lines have hard edges.
OVERSAMPLING = 2


def save_webp(picture: Image.Image, path: Path, quality: int = 74) -> None:
    """Write a picture; the quickest methods of the encoder cost a few per cent of size."""
    picture.save(path, "WEBP", quality=quality, method=2)


def nice_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … that is at most ``longest`` (any scale)."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)) * power)


def draw_scale_bar(picture: Image.Image, angstrom_per_px: float) -> None:
    """Draw a bar of a round length, about a fifth of the width, into the lower left corner."""
    draw = ImageDraw.Draw(picture, "RGBA")
    length_nm = nice_length(0.22 * picture.width * angstrom_per_px / 10)
    bar_px = length_nm * 10 / angstrom_per_px
    label = f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"
    size = max(11, round(picture.width / 34))
    box = max(bar_px, text_width(label, size)) + size
    left, bottom = 0.6 * size, picture.height - 0.6 * size
    draw.rounded_rectangle((left, bottom - 2.1 * size, left + box, bottom), 0.3 * size, (*BACKGROUND, 190))
    middle = left + box / 2
    write_text(draw, (middle, bottom - 1.3 * size), label, size, TEXT, anchor="m")
    draw.rectangle(
        (middle - bar_px / 2, bottom - 0.55 * size, middle + bar_px / 2, bottom - 0.3 * size), TEXT
    )


@dataclass(frozen=True)
class Axes:
    """A rectangle (left, top, right, bottom) in pixels with ranges of x and y; y grows upwards."""

    draw: ImageDraw.ImageDraw
    box: tuple[float, float, float, float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    text_size: int = 11 * OVERSAMPLING

    def place(self, x: npt.ArrayLike, y: npt.ArrayLike) -> list[tuple[float, float]]:
        """Give the pixels of points."""
        left, top, right, bottom = self.box
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        px = left + (np.asarray(x, dtype=float) - x0) / (x1 - x0) * (right - left)
        py = bottom - (np.asarray(y, dtype=float) - y0) / (y1 - y0) * (bottom - top)
        return [(float(a), float(b)) for a, b in zip(np.atleast_1d(px), np.atleast_1d(py), strict=True)]

    def frame(self) -> None:
        """Draw the panel behind the curves."""
        self.draw.rectangle(self.box, PANEL)

    def x_tick(self, value: float, label: str) -> None:
        """Draw a vertical grid line with its label below."""
        (x, _), bottom = self.place(value, self.y_range[0])[0], self.box[3]
        self.draw.line((x, self.box[1], x, bottom), GRID, OVERSAMPLING)
        write_text(self.draw, (x, bottom + 0.9 * self.text_size), label, self.text_size, MUTED, anchor="m")

    def y_tick(self, value: float, label: str) -> None:
        """Draw a horizontal grid line with its label to the left."""
        (_, y), left = self.place(self.x_range[0], value)[0], self.box[0]
        self.draw.line((left, y, self.box[2], y), GRID, OVERSAMPLING)
        write_text(self.draw, (left - 0.5 * self.text_size, y), label, self.text_size, MUTED, anchor="r")

    def curve(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: Colour, width: float = 1.5) -> None:
        """Draw a line through points, kept inside the panel."""
        points = self.place(x, np.clip(y, *self.y_range))
        if len(points) > 1:
            self.draw.line(points, colour, round(width * OVERSAMPLING), joint="curve")

    def title(self, text: str) -> None:
        """Write a line above the panel."""
        place = (self.box[0], self.box[1] - 0.9 * self.text_size)
        write_text(self.draw, place, text, self.text_size, TEXT)


def ticks_between(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within a range, about ``count`` of them."""
    step = nice_length(max(high - low, 1e-12) / max(count - 1, 1))
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(i * step, 10) + 0.0 for i in range(first, last + 1)]


def new_plot(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Begin a plot of the given size in final pixels."""
    picture = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), BACKGROUND)
    return picture, ImageDraw.Draw(picture)


def save_plot(picture: Image.Image, path: Path) -> None:
    """Reduce a plot to its final size and write it."""
    save_webp(picture.reduce(OVERSAMPLING), path, quality=88)
