"""What the names of tilts say: the series, the number and the angle, by a pattern with named fields."""

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

from tomofly.formats.suffixes import MOVIE_SUFFIXES

IMAGE_SUFFIXES = frozenset(suffix.lower() for suffix in MOVIE_SUFFIXES) | {".st", ".mrcs", ".ali", ".map"}
"""Suffixes of movies and of single-file tilt series."""

LARGEST_ANGLE_DEG = 90.0
FIELDS = ("series", "order", "angle")
HINT = "Write it as {series}_{order}_{angle}*: * is anything, [ and ] stand for themselves"

_DECIMAL_ANGLE = r"[+-]?\d{1,3}\.\d+"
_ANY_ANGLE = r"[+-]?(?:\d{1,3}\.\d+|\d{1,2})(?!\d)"
_PIECE = re.compile(r"\{(?P<field>[^{}]*)\}|(?P<wild>[*?])|(?P<text>[^{}*?]+)|(?P<stray>[{}])")


@dataclass(frozen=True)
class TiltName:
    """What a file's name says of a tilt; None where it says nothing."""

    series: str
    order: int | None = None
    angle_deg: float | None = None


class NamePattern:
    """A pattern such as ``{series}_{order:03d}_{angle}_*`` for the whole name of a file without its suffix.

    ``series`` takes as much as it can; an angle with a decimal point comes before one without, which
    ``decimals`` rules out. Raises ValueError saying what is wrong with the pattern.
    """

    def __init__(self, text: str, *, decimals: bool = False) -> None:
        self.text = text
        kinds = (True,) if decimals else (True, False)
        self._expressions = [re.compile(_expression(stem(text.strip()), kind)) for kind in kinds]

    def read(self, name: str) -> TiltName | None:
        """Read a file's name; None where it does not match, or holds no possible angle."""
        matches = (expression.fullmatch(stem(name)) for expression in self._expressions)
        found = next((match for match in matches if match is not None), None)
        if found is None:
            return None
        fields = found.groupdict()
        order, angle = fields.get("order"), fields.get("angle")
        angle_deg = None if angle is None else float(angle) + 0.0
        if angle_deg is not None and abs(angle_deg) > LARGEST_ANGLE_DEG:
            return None
        return TiltName(fields["series"], None if order is None else int(order), angle_deg)


COMMON_PATTERNS = (
    "{series}_[{angle}]*",
    "{series}_{order:03d}[{angle}]*",
    "{series}_[{angle}]*",
    "{series}[{angle}]*",
    "{series}_{order:03d}_{angle}_*",
    "{series}_{order:03d}_{angle}",
    "{series}_{angle}_*",
    "{series}_{angle}",
)
"""As SerialEM, PACEtomo and Tomo5 name tilts; an angle outside brackets must have a decimal point."""

NUMBERED_PATTERNS = ("{series}_{order:03d}_*", "{series}_{order:03d}")
"""Tried after those where the angles come from the settings."""


def read_name(name: str, pattern: str = "", *, numbered: bool = False) -> TiltName | None:
    """Read a file's name by a pattern; without one, by those that are common.

    ``numbered``: a number without an angle will do. Raises ValueError saying what is wrong with the pattern.
    """
    for candidate in _patterns(pattern, numbered):
        found = candidate.read(name)
        if found is not None:
            return found
    return None


def stem(name: str) -> str:
    """Give a name without the suffix of an image, which may also be missing: ``TS_1_-3.0`` has none."""
    head, dot, suffix = name.rpartition(".")
    return head if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


@lru_cache(maxsize=64)
def _patterns(pattern: str, numbered: bool) -> tuple[NamePattern, ...]:
    if pattern.strip():
        return (NamePattern(pattern),)
    texts = COMMON_PATTERNS + (NUMBERED_PATTERNS if numbered else ())
    return tuple(NamePattern(text, decimals="[" not in text) for text in texts)


def _expression(pattern: str, decimals: bool) -> str:
    """Turn a pattern into a regular expression. Raises ValueError."""
    _refuse_folders(pattern)
    pieces = list(_PIECE.finditer(pattern))
    parts, seen = [], list[str]()
    before = ""
    for piece in pieces:
        kind = _kind(pattern, piece)
        _refuse_neighbours(pattern, before, kind)
        before = kind
        if kind == "text":
            parts.append(re.escape(piece["text"]))
        elif kind == "wild":
            parts.append(".*" if piece["wild"] == "*" else ".")
        else:
            name = kind.partition(":")[0]
            if name in seen:
                raise ValueError(f"The pattern '{pattern}' has the field {{{name}}} twice. {HINT}")
            seen.append(name)
            parts.append(_field(pattern, kind, decimals))
    if "series" not in seen:
        raise ValueError(f"The pattern '{pattern}' has no field {{series}}. {HINT}")
    return "".join(parts)


def _refuse_folders(pattern: str) -> None:
    if "/" in pattern or "\\" in pattern:
        raise ValueError(
            f"The pattern '{pattern}' names a folder: it is for names of files alone, "
            "and source.pattern says where they are"
        )


def _kind(pattern: str, piece: re.Match[str]) -> str:
    """Say what a piece is: ``text``, ``wild``, or a field as it is written."""
    if piece["stray"]:
        raise ValueError(
            f"The pattern '{pattern}' has a '{piece['stray']}' at character {piece.start() + 1} "
            f"that belongs to no field. {HINT}"
        )
    if piece["field"] is None:
        return "text" if piece["text"] else "wild"
    name = piece["field"].partition(":")[0]
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        advice = f"Did you mean {{{near[0]}}}?" if near else "Legal are {series}, {order} and {angle}."
        raise ValueError(f"The pattern '{pattern}' has a field {{{name}}} that does not exist. {advice}")
    return piece["field"]


def _refuse_neighbours(pattern: str, before: str, kind: str) -> None:
    """Refuse a pattern that leaves open where one field ends and the next begins."""
    if "text" in (before, kind) or not before:
        return
    names = [word.partition(":")[0] for word in (before, kind)]
    if "series" in names and "wild" in names:
        raise ValueError(
            f"The pattern '{pattern}' has a wildcard beside {{series}}, which leaves open where the name of "
            f"the series begins or ends. Put a sign between them. {HINT}"
        )
    if "wild" not in names and ":" not in kind:
        raise ValueError(
            f"The pattern '{pattern}' has {{{names[0]}}} and {{{names[1]}}} with nothing between them. {HINT}"
        )


def _field(pattern: str, written: str, decimals: bool) -> str:
    name, colon, form = written.partition(":")
    if name == "order" and (width := re.fullmatch(r"(?:0?(\d))?d", form)) is not None:
        return rf"(?P<order>\d{{{width[1] or 1},}})"
    if name == "angle" and (places := re.fullmatch(r"\.(\d)f", form)) is not None:
        decimals_text = rf"[.]\d{{{places[1]}}}" if places[1] != "0" else ""
        return rf"(?P<angle>[+-]?\d{{1,3}}{decimals_text})"
    if colon:
        legal = {"order": "{order}, {order:03d}", "angle": "{angle}, {angle:.1f}", "series": "{series}"}
        raise ValueError(
            f"The pattern '{pattern}' has a field {{{written}}} that is not understood. "
            f"Legal are {legal[name]}"
        )
    return {
        "series": r"(?P<series>.+)",
        "order": r"(?P<order>\d+)",
        "angle": f"(?P<angle>{_DECIMAL_ANGLE if decimals else _ANY_ANGLE})",
    }[name]
