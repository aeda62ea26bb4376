"""The one definition of the order of a series' exposures, of a tilt's dose, and of the dose before it.

Every exposure counts: also one that was taken again, left out, has failed, or never came. The dose before a
tilt is the sum of the doses of all exposures of its series that were made earlier. What the specimen had
received before its series (``microscope.pre_exposure_e_per_a2``) is not in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

OrderSource = Literal["date", "number", "section", "file time", "name"]

ORDER_WORDS: dict[OrderSource, str] = {
    "date": "the dates in the mdoc",
    "number": "the numbers in the names, or in the settings",
    "section": "the order in the file",
    "file time": "the times of the files",
    "name": "the names, as nothing else is known",
}


@dataclass(frozen=True)
class Exposure:
    """What is known of when an exposure was made; None where nothing is.

    ``number``: from its name or the settings. ``section``: its place in the mdoc or the stack.
    ``written_at``: time of the last byte of its file (seconds since 1970).
    """

    name: str
    date_time: datetime | None = None
    number: int | None = None
    section: int | None = None
    written_at: float | None = None
    dose_e_per_a2: float | None = None


@dataclass(frozen=True)
class Placed:
    """Where an exposure stands in its series: ``order`` from 0, and the dose before it (None: not known)."""

    order: int
    accumulated_dose_e_per_a2: float | None


def tilt_dose(recorded: float | None, by_hand: float, prefer: Literal["mdoc", "settings"]) -> float | None:
    """Give the dose of one tilt in e⁻/Å²: what was recorded with it if above zero, else that of the settings.

    With ``prefer`` "settings" it is the other way round. One of the two is taken, they are never combined.
    """
    known = [recorded, by_hand] if prefer == "mdoc" else [by_hand, recorded]
    return next((dose for dose in known if dose is not None and dose > 0), None)


def place_exposures(exposures: Sequence[Exposure]) -> tuple[list[Placed], OrderSource]:
    """Put the exposures of a series into the order in which they were made, and add up the dose before each.

    The first of these that tells all of them apart decides: dates, numbers, sections, file times. Where
    only some exposures have a date, those come first: the others are newer than what the mdoc says.
    """
    ranked, source = _ranked(exposures)
    placed: list[Placed] = [Placed(0, None)] * len(exposures)
    total: float | None = 0.0
    for order, index in enumerate(ranked):
        placed[index] = Placed(order, None if total is None else round(total, 6))
        dose = exposures[index].dose_e_per_a2
        total = None if total is None or dose is None else total + dose
    return placed, source


def _ranked(exposures: Sequence[Exposure]) -> tuple[list[int], OrderSource]:
    """Give the indices in the order of exposure, and what told it."""
    keys: list[tuple[OrderSource, Callable[[Exposure], float | datetime | None]]] = [
        ("date", lambda e: e.date_time),
        ("number", lambda e: e.number),
        ("section", lambda e: e.section),
        ("file time", lambda e: e.written_at),
    ]
    for source, key in keys:
        values = [key(exposure) for exposure in exposures]
        if None not in values and len(set(values)) == len(values):
            return sorted(range(len(values)), key=values.__getitem__), source  # type: ignore[arg-type]
    dated = any(e.date_time for e in exposures)
    timed = any(e.written_at for e in exposures)
    source = "date" if dated else "file time" if timed else "name"
    return sorted(range(len(exposures)), key=lambda i: _mixed_key(exposures[i])), source


def _mixed_key(exposure: Exposure) -> tuple[bool, datetime, float, float, float, str]:
    """Sort by date, then by number, section and time of the file; what lacks a date comes last."""
    return (
        exposure.date_time is None,
        exposure.date_time or datetime.max,
        _or_last(exposure.number),
        _or_last(exposure.section),
        _or_last(exposure.written_at),
        exposure.name,
    )


def _or_last(value: float | None) -> float:
    return float("inf") if value is None else value
