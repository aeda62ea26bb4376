"""Tilt series on a terminal: for each a strip of its tilts over the angle, and what is made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tomofly.cli.output import duration_text
from tomofly.services.series import MARKS, Mark, SeriesProgress, mark_of

if TYPE_CHECKING:
    from tomofly.services.tilts import Tilt

GLYPHS: dict[Mark, tuple[str, str]] = {
    "awaited": ("·", "dim"),
    "arrived": ("▫", "white"),
    "ready": ("▪", "cyan"),
    "aligned": ("■", "green"),
    "left out": ("×", "yellow"),
    "failed": ("!", "bold red"),
}
"""Signs that differ without colour as well."""

STATES = {"running": "green", "queued": "green", "done": "bold green", "failed": "bold red"}
RETAKEN = "retaken"
NARROWEST_STRIP, WIDEST_STRIP = 11, 61
HEADING = "Tilt series"
LONGEST_KEY = 18
MOST_REASONS = 2
OTHER_COLUMNS = 18
"""Room for state, count and gaps beside key and strip."""


@dataclass(frozen=True)
class Scale:
    """The angles that the places of a strip stand for: the lowest, and the step from one to the next."""

    lowest_deg: float
    step_deg: float
    places: int

    def place(self, angle_deg: float) -> int:
        """Give the place of an angle."""
        return min(self.places - 1, max(0, round((angle_deg - self.lowest_deg) / self.step_deg)))


def common_scale(series: Sequence[SeriesProgress], widest: int) -> Scale | None:
    """Give one scale for the strips of all series; where there is too little room, places share tilts."""
    each = [sorted({t.tilt_angle_deg for t in s.tilts if t.tilt_angle_deg is not None}) for s in series]
    angles = sorted({angle for own in each for angle in own})
    if not angles:
        return None
    gaps = [gap for own in each for low, high in pairwise(own) if (gap := high - low) > 0.3]
    step, spread = median(gaps) if gaps else 1.0, angles[-1] - angles[0]
    step = max(step, spread / max(1, widest - 1))
    return Scale(angles[0], step, round(spread / step) + 1)


def strip(series: SeriesProgress, scale: Scale) -> Text:
    """Draw the tilts of a series; of several in one place, the one of which people must know most."""
    places: dict[int, Mark] = {}
    for tilt in series.tilts:
        if tilt.tilt_angle_deg is None or tilt.excluded == RETAKEN:
            continue
        place, mark = scale.place(tilt.tilt_angle_deg), mark_of(tilt)
        places[place] = max(mark, places.get(place, mark), key=_weight)
    drawn = Text()
    for place in range(scale.places):
        glyph, style = GLYPHS[places.get(place, "awaited")]
        drawn.append(glyph, style=style)
    return drawn


def _weight(mark: Mark) -> int:
    """Troubles first, then what is least far."""
    return {"failed": 5, "left out": 4, "arrived": 3, "ready": 2, "aligned": 1}.get(mark, 0)


@dataclass(frozen=True)
class SeriesRows:
    """The newest series, as wide as the terminal lets them be."""

    series: Sequence[SeriesProgress]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw a heading with the angles, some lines for each series, and what the signs mean."""
        keys = [_short_key(one.item.key) for one in self.series]
        width = max(len(HEADING), *map(len, keys))
        room = min(WIDEST_STRIP, options.max_width - width - OTHER_COLUMNS)
        scale = common_scale(self.series, max(NARROWEST_STRIP, room))
        yield Text(f"{HEADING:<{width}}  {'state':<7}  {_angles(scale)}  tilts", style="bold", no_wrap=True)
        for key, one in zip(keys, self.series, strict=True):
            line = Text(f"{key:<{width}}  ", no_wrap=True)
            line.append(f"{one.state:<7}  ", style=STATES.get(one.state, "white"))
            yield line.append_text(strip(one, scale) if scale else Text()).append(f"  {_count(one):>5}")
            yield from _details(one)
        yield _legend(self.series)


def _details(one: SeriesProgress) -> list[Text]:
    told = [text for text in one.numbers if not text.startswith("tilts ")]
    if one.tomogram == "provisional":
        told.insert(0, "provisional tomogram")
    elif one.tomogram:
        after = f" {duration_text(one.latency_s)} after the last tilt" if one.latency_s is not None else ""
        told.append(f"tomogram{after}")
    lines = [", ".join(told), one.waiting_for if one.state == "waiting" else ""]
    # What failed stands among the troubles of the session.
    left_out = [f"× {_angle(t)}{t.reason}" for t in one.tilts if mark_of(t) == "left out"]
    lines += left_out[:MOST_REASONS]
    if len(left_out) > MOST_REASONS:
        lines.append(f"× and {len(left_out) - MOST_REASONS} more left out")
    return [Text(f"  {text}", style="dim", overflow="fold") for text in lines if text]


def _angle(tilt: "Tilt") -> str:
    return "" if tilt.tilt_angle_deg is None else f"{tilt.tilt_angle_deg:.0f}°: "


def _count(one: SeriesProgress) -> str:
    return str(one.come) if one.come == len(one.tilts) else f"{one.come}/{len(one.tilts)}"


def _angles(scale: Scale | None) -> str:
    """Write the lowest and the highest angle above the ends of the strips, and 0 where that is."""
    if scale is None:
        return ""
    highest = scale.lowest_deg + scale.step_deg * (scale.places - 1)
    left, right = f"{scale.lowest_deg:.0f}°", f"{highest:.0f}°"
    room = scale.places - len(left) - len(right)
    middle = scale.place(0.0) - len(left)
    zero = scale.lowest_deg < 0 < highest and 1 < middle < room - 1
    between = " " * middle + "0" + " " * (room - middle - 1) if zero else " " * max(1, room)
    return (left + between + right)[: max(scale.places, len(left) + len(right) + 1)]


def _legend(series: Sequence[SeriesProgress]) -> Text:
    seen = {mark for one in series for mark in one.counts()}
    drawn = Text()
    for mark in (mark for mark in MARKS if mark in seen):
        glyph, style = GLYPHS[mark]
        drawn.append("  " if drawn else "").append(glyph, style=style).append(f" {mark}", style="dim")
    return drawn


def _short_key(key: str) -> str:
    return key if len(key) <= LONGEST_KEY else f"…{key[1 - LONGEST_KEY :]}"
