"""The direction of the tilt axis as an mdoc file gives it, in the one sense that is used here.

SerialEM gives the angle from the image's y axis, anticlockwise, and a ``RotationAngle`` that is larger by
90°. Tomography 5 (Thermo Fisher) has written three things as ``TiltAxisAngle``: at first minus the true
angle minus 90°, with the true angle as ``RotationAngle``; later SerialEM's angle; also that with its sign
turned. Its ``RotationAngle`` tells which, as IMOD's program ``header`` takes it. Mastronarde (2005).
"""

import re
from collections.abc import Iterable
from enum import StrEnum

_AXIS = re.compile(r"(?i)tilt\s*axis\s*angle\s*=\s*([-+]?(?:\d+(?:[.,]\d+)?|\.\d+))")
_THERMO_FISHER = re.compile(r"(?i)tomography|\btomo\s?\d|\btomo\b|thermo|\btfs\b|\bfei\b")
# both are written with one digit after the point
_TOLERANCE_DEG = 0.11


class AxisSource(StrEnum):
    """Where the angle of the tilt axis comes from, for people to read."""

    NOTHING = "the mdoc gives no tilt axis"
    TITLE = "the title's tilt axis angle"
    ROTATION = "RotationAngle - 90, as no title gives the tilt axis"
    TOMO5_ROTATION = "RotationAngle, which Tomography 5's title confirms as -(angle + 90)"
    TOMO5_TITLE = "the title's angle, which Tomography 5 gave as SerialEM does"
    TOMO5_NEGATED = "the title's angle with its sign turned, as RotationAngle shows"
    TOMO5_ASSUMED = "-(title's angle + 90), as Tomography 5 means it, which nothing confirms"


def axis_in_titles(titles: Iterable[str]) -> float | None:
    """Give the angle of the tilt axis as a title has it, in the sense of the program that wrote it."""
    found = next((match for title in titles if (match := _AXIS.search(title))), None)
    return float(found[1].replace(",", ".")) if found else None


def by_thermo_fisher(titles: Iterable[str], version: str | None) -> bool:
    """Tell whether Tomography 5 or an older program of the same maker wrote a file with these titles."""
    programs = " ".join((*titles, version or ""))
    return "serialem" not in programs.lower() and bool(_THERMO_FISHER.search(_AXIS.sub("", programs)))


def tilt_axis(
    titles: Iterable[str], version: str | None, rotation_angle_deg: float | None
) -> tuple[float | None, AxisSource]:
    """Give the angle of the tilt axis, anticlockwise from the image's y axis in (-180, 180], and whence."""
    titles = tuple(titles)
    written = axis_in_titles(titles)
    if written is None:
        if rotation_angle_deg is None:
            return None, AxisSource.NOTHING
        return round(wrapped(rotation_angle_deg - 90.0), 4), AxisSource.ROTATION
    if by_thermo_fisher(titles, version):
        return _of_tomography_5(written, rotation_angle_deg)
    return wrapped(written), AxisSource.TITLE


def _of_tomography_5(written: float, rotation: float | None) -> tuple[float, AxisSource]:
    if rotation is None:
        return wrapped(-written - 90.0), AxisSource.TOMO5_ASSUMED
    if _same(-(rotation + 90.0), written):
        return wrapped(rotation), AxisSource.TOMO5_ROTATION
    if _same(rotation - 90.0, written):
        return wrapped(written), AxisSource.TOMO5_TITLE
    if _same(90.0 - rotation, written):
        return wrapped(-written), AxisSource.TOMO5_NEGATED
    return wrapped(-written - 90.0), AxisSource.TOMO5_ASSUMED


def _same(first: float, second: float) -> bool:
    return abs(wrapped(first - second)) < _TOLERANCE_DEG


def wrapped(angle_deg: float) -> float:
    """Give an angle in (-180, 180]."""
    turned = 180.0 - (180.0 - angle_deg) % 360.0
    return turned if abs(turned - angle_deg) > 1e-9 else angle_deg
