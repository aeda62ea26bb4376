"""The views of a series brought together: which are used, in what order, and why the others are not."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tomofly.imaging.tilt_screening import dark_tilts
from tomofly.model import BadInput, Flag
from tomofly.stages.tilts.rules import ComposeParams

BY_HAND = "by_hand"


@dataclass(frozen=True)
class Measured:
    """What was measured of a view before any alignment; None where it was not.

    ``shift_fraction``: how far it is off its neighbours, as a part of the field. ``quality``: of exposures
    at one angle the highest is the best. ``shape_yx``: of the image, in pixels.
    """

    mean: float | None = None
    spread: float | None = None
    blocked_fraction: float | None = None
    shift_fraction: float | None = None
    quality: float | None = None
    shape_yx: tuple[int, int] | None = None


@dataclass(frozen=True)
class View:
    """One exposure of a series: a movie, or a ``section`` of a stack. See ``attributes``."""

    key: str
    section: int | None
    tilt_angle_deg: float | None
    order: int
    dose_e_per_a2: float | None
    accumulated_dose_e_per_a2: float | None
    axis_angle_deg: float | None = None
    listed: bool = False
    measured: Measured = Measured()

    @property
    def name(self) -> str:
        """Name the view: as its item, with the section where that holds several."""
        return self.key if self.section is None else section_name(self.key, self.section)


@dataclass(frozen=True)
class ComposedView:
    """A view in its series; ``excluded`` is a short code, empty for one that is used, with its ``reason``."""

    view: View
    excluded: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Composed:
    """A series: all ``views`` in the order of exposure, those left out among them."""

    views: tuple[ComposedView, ...]
    axis_angle_deg: float | None
    flags: tuple[Flag, ...] = field(default=())

    @property
    def used(self) -> tuple[View, ...]:
        """The views that are used, in the order of their angles."""
        used = [each.view for each in self.views if not each.excluded]
        return tuple(sorted(used, key=lambda view: (view.tilt_angle_deg or 0.0, view.order)))

    @property
    def excluded(self) -> tuple[ComposedView, ...]:
        """The views that are left out, in the order of exposure."""
        return tuple(each for each in self.views if each.excluded)


def section_name(key: str, section: int) -> str:
    """Name one section of a stack, as it is excluded by hand: ``TS_01[7]``, counted from 0."""
    return f"{key}[{section}]"


def views_of(key: str, attributes: Mapping[str, Any], measured: Sequence[Measured] = ()) -> list[View]:
    """Give the views that an item holds: one, or one for each section; ``measured`` of all its images."""
    rows = attributes.get("views")
    sections = [row["section"] for row in rows] if rows else [None]
    measures = dict(enumerate(measured))
    return [
        View(
            key=key,
            section=section,
            tilt_angle_deg=row["tilt_angle_deg"],
            order=row["order"] or 0,
            dose_e_per_a2=row["dose_e_per_a2"],
            accumulated_dose_e_per_a2=row["accumulated_dose_e_per_a2"],
            axis_angle_deg=attributes["axis_angle_deg"],
            listed=bool(attributes.get("listed")),
            measured=measures.get(section or 0, Measured()),
        )
        for section, row in zip(sections, rows or [attributes], strict=True)
    ]


@dataclass(frozen=True)
class Decided:
    """What people have decided of views, by their names: ``left_out`` with the reason, and ``kept``."""

    left_out: Mapping[str, str]
    kept: frozenset[str]


def decided_of(items: Iterable[tuple[str, Mapping[str, Any]]]) -> Decided:
    """Give what people have decided of the views of items, from their keys and attributes."""
    left_out: dict[str, str] = {}
    kept = set[str]()
    for key, attributes in items:
        for number, decision in (attributes.get("decisions") or {}).items():
            name = section_name(key, int(number)) if number else key
            if decision["verdict"] == "left_out":
                left_out[name] = decision.get("reason", "")
            else:
                kept.add(name)
    return Decided(left_out, frozenset(kept))


def compose_views(
    views: Sequence[View],
    params: ComposeParams,
    *,
    left_out: Mapping[str, str] | Collection[str] = (),
    kept: Collection[str] = (),
    usual_mean: float | None = None,
) -> Composed:
    """Say which views make the series, and why the others do not.

    ``left_out`` and ``kept`` name views (or whole items) as people have decided: ``left_out``, which may
    give reasons, always wins, and what is ``kept`` is left out by no measurement. Order and doses stand as
    the exposures were made, whatever is left out. ``usual_mean``: brightness at 0° of other series, to know
    one that is all dark.
    """
    ordered = sorted(views, key=lambda view: (view.order, view.name))
    reasons = left_out if isinstance(left_out, Mapping) else {}
    found: dict[str, tuple[str, str]] = {}
    for view in ordered:
        if _is_named(view, left_out):
            reason = reasons.get(view.name) or reasons.get(view.key)
            found[view.name] = (BY_HAND, f"Left out by hand: {reason}" if reason else "Left out by hand")
        elif view.tilt_angle_deg is None:
            found[view.name] = ("no_angle", "Its tilt angle is not known")
    spared = {view.name for view in ordered if _is_named(view, kept)}
    for name, why in _of_other_size([view for view in ordered if view.name not in found]):
        found[name] = why
    for name, why in _by_measurement(ordered, params, usual_mean):
        if name not in spared:
            found.setdefault(name, why)
    usable = [view for view in ordered if view.name not in found]
    for name, why in _taken_again(usable, params, spared):
        found[name] = why
    composed = tuple(ComposedView(view, *found.get(view.name, ("", ""))) for view in ordered)
    axis, flags = _axis([each.view for each in composed if not each.excluded])
    return Composed(composed, axis, (*flags, *_flags(composed)))


def require_enough(composed: Composed, params: ComposeParams) -> None:
    """Raise BadInput where too few views are left for a tomogram, saying why the others are not used."""
    left = len(composed.used)
    if left >= params.minimum_tilts:
        return
    counts = Counter(each.excluded for each in composed.excluded)
    why = ", ".join(f"{count} {code.replace('_', ' ')}" for code, count in sorted(counts.items()))
    of = f"{left} of {len(composed.views)} tilts can be used" + (f" (left out: {why})" if why else "")
    raise BadInput(
        f"{of}, compose.minimum_tilts asks for {params.minimum_tilts}",
        "Look at the tilts; include those that are good, or lower that setting",
    )


def _is_named(view: View, names: Collection[str]) -> bool:
    return view.name in names or view.key in names


Why = tuple[str, tuple[str, str]]


def _of_other_size(views: Sequence[View]) -> Iterator[Why]:
    """Find views that do not have the size which most have: they cannot be in one series, kept or not."""
    sizes = Counter(view.measured.shape_yx for view in views if view.measured.shape_yx is not None)
    if len(sizes) < 2:
        return
    rows, columns = max(sizes, key=lambda size: (sizes[size], size))
    for view in views:
        own = view.measured.shape_yx
        if own is not None and own != (rows, columns):
            message = f"It has {own[1]} x {own[0]} pixels, most have {columns} x {rows}"
            yield view.name, ("other_size", message)


def _by_measurement(views: Sequence[View], params: ComposeParams, usual: float | None) -> Iterator[Why]:
    """Find dark, blocked and shifted views."""
    yield from _dark(views, params, usual)
    for view in views:
        blocked, shifted = view.measured.blocked_fraction, view.measured.shift_fraction
        if blocked is not None and blocked > params.blocked_above:
            limit = f"compose.blocked_above={params.blocked_above:g}"
            yield view.name, ("blocked", f"{blocked:.0%} of it are blocked, {limit}")
        elif shifted is not None and shifted > params.shifted_above:
            limit = f"compose.shifted_above={params.shifted_above:g}"
            yield view.name, ("shifted", f"It is shifted by {shifted:.0%} of the field, {limit}")


def _dark(views: Sequence[View], params: ComposeParams, usual: float | None) -> Iterator[Why]:
    measured = [v for v in views if v.measured.mean is not None and v.tilt_angle_deg is not None]
    means = [view.measured.mean or 0.0 for view in measured]
    angles = [view.tilt_angle_deg or 0.0 for view in measured]
    dark, expected = dark_tilts(np.array(means), np.array(angles), params.dark_below, usual=usual)
    for view, mean, is_dark, bright in zip(measured, means, dark, expected, strict=True):
        if view.measured.spread == 0.0 or mean <= 0.0:
            yield view.name, ("dark", "It is blank")
        elif is_dark and params.dark_below:
            limit = f"compose.dark_below={params.dark_below:g}"
            part = f"{mean / bright:.0%} of what its angle lets expect"
            yield view.name, ("dark", f"Its brightness of {mean:.4g} is {part}, {limit}")


def _taken_again(views: Sequence[View], params: ComposeParams, spared: Collection[str]) -> Iterator[Why]:
    """Of views at one angle leave out all but one: first what the mdoc does not list, then by the setting."""
    for group in _of_one_angle(views, params.angle_tolerance_deg):
        chosen = max(group, key=lambda view: (view.name in spared, view.listed, *_rank(view, params)))
        for view in group:
            if view is chosen:
                continue
            if chosen.listed and not view.listed:
                yield view.name, ("not_in_mdoc", f"The mdoc lists {chosen.name} at this angle, and not this")
            else:
                how = "taken later" if params.retaken == "last" else "better"
                yield view.name, ("taken_again", f"{chosen.name} of the same angle is {how}")


def _rank(view: View, params: ComposeParams) -> tuple[float, int]:
    quality = view.measured.quality if params.retaken == "best" else None
    return (float("-inf") if quality is None else quality, view.order)


def _of_one_angle(views: Sequence[View], tolerance_deg: float) -> Iterator[list[View]]:
    """Give groups of two and more views whose angles differ by no more than the tolerance."""
    group: list[View] = []
    for view in sorted(views, key=lambda v: (v.tilt_angle_deg or 0.0, v.order)):
        if group and (view.tilt_angle_deg or 0.0) - (group[0].tilt_angle_deg or 0.0) > tolerance_deg:
            yield group
            group = []
        group.append(view)
    if group:
        yield group


def _axis(views: Sequence[View]) -> tuple[float | None, list[Flag]]:
    """Give the tilt axis of a series: the angle that most of its views have."""
    known = Counter(view.axis_angle_deg for view in views if view.axis_angle_deg is not None)
    if not known:
        return None, [Flag("axis_unknown", "The direction of the tilt axis is not known")]
    axis, _ = known.most_common(1)[0]
    if len(known) == 1:
        return axis, []
    others = ", ".join(f"{angle:g}°" for angle in sorted(known) if angle != axis)
    return axis, [Flag("axis_differs", f"Some tilts have another tilt axis ({others}): {axis:g}° is taken")]


def _flags(composed: Sequence[ComposedView]) -> Iterator[Flag]:
    counts = Counter(each.excluded for each in composed if each.excluded)
    for code, count in sorted(counts.items()):
        tilts = "1 tilt is" if count == 1 else f"{count} tilts are"
        yield Flag(f"tilts_{code}", f"{tilts} left out ({code.replace('_', ' ')})")
    if any(each.view.accumulated_dose_e_per_a2 is None for each in composed if not each.excluded):
        yield Flag("dose_unknown", "The dose before some tilts is not known")
