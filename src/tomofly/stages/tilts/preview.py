"""What a session would make of files: series with their tilts, before it starts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tomofly.model import Entry, SourceFile
from tomofly.stages.tilts.catalog import TiltCatalog
from tomofly.stages.tilts.composition import View, compose_views, views_of
from tomofly.stages.tilts.rules import ComposeParams


@dataclass(frozen=True)
class PreviewedTilt:
    """One tilt as it would be taken; ``remark`` says why it would be left out, if it would."""

    name: str
    order: int | None
    tilt_angle_deg: float | None
    dose_e_per_a2: float | None
    accumulated_dose_e_per_a2: float | None
    remark: str = ""


@dataclass(frozen=True)
class PreviewedSeries:
    """A series as it would be composed; ``series`` is empty for files that belong to none.

    ``source``: mdoc, pattern or stack. ``tilts`` in the order of exposure, which ``order_source`` tells.
    """

    series: str
    source: str
    order_source: str
    axis_angle_deg: float | None
    tilts: tuple[PreviewedTilt, ...]
    problems: tuple[str, ...] = ()


def preview_groups(files: Sequence[SourceFile], params: ComposeParams) -> list[PreviewedSeries]:
    """Group files, and the notes among them, as a session would; those of no series come last.

    Notes that cannot be used are problems of a last entry without a series. Raises nothing for any file.
    """
    catalog = TiltCatalog(params)
    by_series: dict[str, list[Entry]] = defaultdict(list)
    for entry in catalog.take(files):
        by_series[str(entry.attributes["series"])].append(entry)
    strays = by_series.pop("", [])
    previews = [_series(name, by_series[name], params) for name in sorted(by_series, key=_natural)]
    problems = [f"{path}: {why}" for path, why in sorted(catalog.note_problems.items())]
    if strays or problems:
        previews.append(_without_series(strays, problems))
    return previews


def _series(name: str, entries: Sequence[Entry], params: ComposeParams) -> PreviewedSeries:
    views = [view for entry in entries for view in views_of(entry.key, entry.attributes)]
    composed = compose_views(views, params)
    first = entries[0].attributes
    sources = Counter(str(entry.attributes["series_source"]) for entry in entries)
    return PreviewedSeries(
        series=name,
        source=sources.most_common(1)[0][0],
        order_source=str(first["order_source"] or ""),
        axis_angle_deg=composed.axis_angle_deg,
        tilts=tuple(_tilt(each.view, each.reason) for each in composed.views),
        problems=tuple(_problems(entries)),
    )


def _tilt(view: View, remark: str) -> PreviewedTilt:
    return PreviewedTilt(
        view.name, view.order, view.tilt_angle_deg, view.dose_e_per_a2, view.accumulated_dose_e_per_a2, remark
    )


def _problems(entries: Sequence[Entry]) -> list[str]:
    """Give the flags of tilts, each once with how many tilts have it, and what has not come."""
    messages: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in entries:
        for code, message in entry.attributes["flags"]:
            messages.setdefault(code, message)
            counts[code] += 1
    found = [_counted(messages[code], counts[code], len(entries)) for code in messages]
    first: dict[str, Any] = dict(entries[0].attributes)
    if first["not_found"]:
        names = ", ".join(first["not_found_names"])
        more = " and others" if first["not_found"] > len(first["not_found_names"]) else ""
        found.append(f"{first['not_found']} of {first['expected']} movies have not come: {names}{more}")
    return found


def _counted(message: str, count: int, total: int) -> str:
    return message if count == total else f"{message} ({count} of {total} tilts)"


def _without_series(entries: Sequence[Entry], problems: Sequence[str]) -> PreviewedSeries:
    tilts = tuple(
        PreviewedTilt(
            entry.key, None, entry.attributes["tilt_angle_deg"], entry.attributes["dose_e_per_a2"], None,
            "; ".join(message for _, message in entry.attributes["flags"]),
        )
        for entry in entries
    )  # fmt: skip
    return PreviewedSeries("", "", "", None, tilts, tuple(problems))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort ``TS_2`` before ``TS_10``."""
    pieces = "".join(c if c.isdecimal() else f"\0{c}\0" for c in name).split("\0")
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces if p]
