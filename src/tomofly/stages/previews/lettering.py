"""Text in pictures: Pillow's own font, and the few signs of the field that it lacks."""

from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]

# The font that comes with Pillow is the same on every machine; it has no Å, no µ and no raised figures.
_RAISED = {"²": "2", "¹": "1", "³": "3", "⁻": "–"}
_PLAIN = {"–": "-", "−": "-", "×": "x"}


@dataclass(frozen=True)
class _Glyph:
    text: str
    x: float
    width: float
    sign: str


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow is built with FreeType everywhere
    return font


def _glyphs(text: str, size: int) -> list[_Glyph]:
    """Lay out the characters one after another, those of a plain run together."""
    glyphs: list[_Glyph] = []
    x, run = 0.0, ""
    for character in [*text, ""]:
        special = character in _RAISED or character in ("Å", "µ", "")
        if not special:
            run += _PLAIN.get(character, character)
            continue
        if run:
            glyphs.append(_Glyph(run, x, _font(size).getlength(run), "run"))
            x, run = x + glyphs[-1].width, ""
        if character:
            glyph = _special(character, x, size)
            glyphs.append(glyph)
            x += glyph.width
    return glyphs


def _special(character: str, x: float, size: int) -> _Glyph:
    if character in _RAISED:
        raised = _PLAIN.get(_RAISED[character], _RAISED[character])
        return _Glyph(raised, x, _font(_small(size)).getlength(raised), "raised")
    letter = "A" if character == "Å" else "u"
    return _Glyph(letter, x, _font(size).getlength(letter), character)


def _small(size: int) -> int:
    return max(6, round(0.65 * size))


def text_width(text: str, size: int) -> float:
    """Width in pixels of a line of text."""
    glyphs = _glyphs(text, size)
    return glyphs[-1].x + glyphs[-1].width if glyphs else 0.0


def write_text(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    *,
    anchor: str = "l",
) -> None:
    """Write a line centred on ``xy`` in height; ``anchor`` l, m or r: its left, middle or right is there."""
    shift = {"l": 0.0, "m": 0.5, "r": 1.0}[anchor] * text_width(text, size)
    left, middle = xy[0] - shift, xy[1]
    baseline = middle + 0.36 * size
    for glyph in _glyphs(text, size):
        x = left + glyph.x
        if glyph.sign == "raised":
            draw.text((x, baseline - 0.34 * size), glyph.text, colour, _font(_small(size)), "ls")
            continue
        draw.text((x, baseline), glyph.text, colour, _font(size), "ls")
        _complete(draw, glyph, x, baseline, size, colour)


def _complete(
    draw: ImageDraw.ImageDraw, glyph: _Glyph, x: float, baseline: float, size: int, colour: Colour
) -> None:
    """Put the ring on the A and the stroke under the u."""
    line = max(1, round(0.07 * size))
    if glyph.sign == "Å":
        centre_x, centre_y, radius = x + glyph.width / 2, baseline - 0.83 * size, 0.12 * size
        draw.ellipse(
            (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius),
            outline=colour,
            width=line,
        )
    elif glyph.sign == "µ":
        stem = x + 0.10 * size
        draw.line((stem, baseline - 0.2 * size, stem, baseline + 0.22 * size), colour, line)
