"""What is known of a tilt, as the attributes of its item: plain JSON values.

Facts, on which results depend (``RESULT_ATTRIBUTES``):

- ``series``: key of the series, compared whole; "" while it is not known. ``listed``: whether an mdoc has it.
- ``tilt_angle_deg`` as the stage was set; ``axis_angle_deg`` anticlockwise from the image's y axis.
- ``order`` of the exposure in its series, from 0; ``dose_e_per_a2`` of this tilt;
  ``accumulated_dose_e_per_a2`` of all exposures of the series before it (see ``order``).
- ``target_defocus_angstrom``, underfocus positive; ``pixel_size_angstrom`` of the detector, by the mdoc.
- ``views``: of a file that is a whole series, the same for each of its sections; else None.

How they are known, and what the series waits for: ``series_source`` (mdoc, pattern, stack or ""),
``angle_source``, ``axis_source``, ``dose_source``, ``order_source``, ``date_time``, ``number`` in the name,
``section``, ``mdoc``, ``mdoc_changed_at``, ``written_at``, ``found`` tilts of the series, ``expected`` by the
mdoc, ``not_found`` of those with the first of their names, and ``flags`` as [code, message].

``decisions`` of people are kept apart and added when a stage looks: by section, or "" for a whole file, a
``verdict`` (left_out or kept) with its ``reason``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from tomofly.formats.mdoc_axis import wrapped
from tomofly.model import Flag, SourceFile
from tomofly.stages.tilts.claims import Claim
from tomofly.stages.tilts.names import TiltName, read_name
from tomofly.stages.tilts.notes import Listed, SeriesNote
from tomofly.stages.tilts.order import ORDER_WORDS, Exposure, OrderSource, Placed, place_exposures, tilt_dose
from tomofly.stages.tilts.rules import ComposeParams

RESULT_ATTRIBUTES = (
    "series", "listed", "tilt_angle_deg", "axis_angle_deg", "order", "dose_e_per_a2",
    "accumulated_dose_e_per_a2", "target_defocus_angstrom", "pixel_size_angstrom", "views",
    "decisions",
)  # fmt: skip
"""What the result of a series depends on: to be named by the stage that composes."""

NAMES_SHOWN = 5
ANGLE_AGREEMENT_DEG = 1.0
AXIS_AGREEMENT_DEG = 15.0
PIXEL_SIZE_TOLERANCE = 0.02

Attributes = dict[str, Any]


@dataclass(frozen=True)
class SeriesView:
    """A series of movies: its files and what is known of each, by key; and what its mdocs list, by name.

    ``owners`` gives the key of the file that each listed name means, None while it has not come.
    """

    series: str
    files: Mapping[str, SourceFile]
    claims: Mapping[str, Claim]
    notes: Sequence[SeriesNote]
    listed: Mapping[str, Listed]
    owners: Mapping[str, str | None]


def describe_tilts(view: SeriesView, params: ComposeParams) -> dict[str, Attributes]:
    """Give the attributes of each tilt of a series of movies, by key."""
    own = {key: _own_attributes(view.files[key], view.claims[key], params) for key in view.files}
    _fill_from_series(view, own)
    missing = [tilt for name, tilt in view.listed.items() if view.owners.get(name) is None]
    placed, source = _placed(view, own, missing, params)
    shared: Attributes = {
        "order_source": source,
        "found": len(view.files),
        "expected": len(view.listed) or None,
        "not_found": len(missing),
        "not_found_names": sorted(str(tilt.name) for tilt in missing)[:NAMES_SHOWN],
        "mdoc_changed_at": max((note.changed_at for note in view.notes), default=None),
    }
    for key, attributes in own.items():
        attributes.update(shared)
        attributes["order"] = placed[key].order
        attributes["accumulated_dose_e_per_a2"] = placed[key].accumulated_dose_e_per_a2
        if source in ("file time", "name") and len(own) > 1:
            message = f"The order of exposure is known by {ORDER_WORDS[source]} alone"
            attributes["flags"].append(["order_uncertain", message])
        if view.notes and not attributes["listed"]:
            attributes["flags"].append(["not_in_mdoc", f"{view.notes[0].path.name} does not list it"])
        attributes["flags"] += _flags_of_unknowns(attributes)
    return own


def _fill_from_series(view: SeriesView, own: Mapping[str, Attributes]) -> None:
    """Give tilts that the mdoc does not list the axis and the usual dose of their series."""
    doses = [a["dose_e_per_a2"] for a in own.values() if a["dose_e_per_a2"] is not None]
    note = view.notes[0] if view.notes else None
    for attributes in own.values():
        if attributes["axis_angle_deg"] is None and note is not None:
            attributes.update(axis_angle_deg=note.axis_angle_deg, axis_source=note.axis_source)
        if attributes["dose_e_per_a2"] is None and doses:
            attributes.update(dose_e_per_a2=median_low(doses), dose_source="other tilts")


def _placed(
    view: SeriesView, own: Mapping[str, Attributes], missing: Sequence[Listed], params: ComposeParams
) -> tuple[dict[str, Placed], OrderSource]:
    """Put the tilts, and those that the mdoc lists and that have not come, into the order of exposure."""
    exposures = [
        Exposure(
            name=key,
            date_time=None if (listed := view.claims[key].listed) is None else listed.date_time,
            number=attributes["number"],
            section=attributes["section"],
            written_at=view.files[key].acquired_at,
            dose_e_per_a2=attributes["dose_e_per_a2"],
        )
        for key, attributes in own.items()
    ]
    for tilt in missing:
        name = read_name(tilt.name or "", params.pattern, numbered=bool(params.angles_deg))
        number, dose = _number(name, params), _dose(tilt, params)[0]
        exposures.append(Exposure(tilt.name or "", tilt.date_time, number, tilt.section, None, dose))
    placed, source = place_exposures(exposures)
    return dict(zip(own, placed, strict=False)), source


def describe_unknown(file: SourceFile, claim: Claim, params: ComposeParams) -> Attributes:
    """Give the attributes of a file whose series is not known."""
    attributes = _own_attributes(file, claim, params)
    if claim.of_movies:
        message = f"It is the stack of {claim.of_movies}, whose mdoc names movies: those are used"
        attributes["flags"].append(["stack_of_movies", message])
    elif params.grouping == "mdoc":
        attributes["flags"].append(["no_series", "No mdoc lists this file yet"])
    else:
        pattern = f"compose.pattern={params.pattern}" if params.pattern else "any common pattern"
        message = f"No mdoc lists this file yet, and its name is not of {pattern}"
        if claim.name is not None:
            message = "No mdoc lists this file yet; mdocs show that its name does not tell its series"
        attributes["flags"].append(["no_series", message])
    return attributes


def _own_attributes(file: SourceFile, claim: Claim, params: ComposeParams) -> Attributes:
    """Give what is known of a tilt without the others of its series."""
    listed, number = claim.listed, _number(claim.name, params)
    angle, angle_source = _angle(listed, claim.name, number, params)
    axis, axis_source = _axis(claim.note, params)
    dose, dose_source = _dose(listed, params)
    return {
        "series": claim.series,
        "series_source": claim.source,
        "listed": listed is not None,
        "tilt_angle_deg": angle,
        "angle_source": angle_source,
        "axis_angle_deg": axis,
        "axis_source": axis_source,
        "number": number,
        "section": None
        if listed is None or claim.note is None or claim.note.of_one_frame
        else listed.section,
        "order": None,
        "order_source": None,
        "date_time": None if listed is None or listed.date_time is None else listed.date_time.isoformat(),
        "written_at": file.acquired_at,
        "dose_e_per_a2": dose,
        "dose_source": dose_source,
        "accumulated_dose_e_per_a2": None,
        "target_defocus_angstrom": None if listed is None else listed.target_defocus_angstrom,
        "pixel_size_angstrom": None if listed is None else listed.pixel_size_angstrom,
        "mdoc": None if claim.note is None else str(claim.note.path),
        "mdoc_key": None if claim.note is None else _mdoc_key(claim.note),
        "mdoc_changed_at": None,
        "views": None,
        "found": 1,
        "expected": None,
        "not_found": 0,
        "not_found_names": [],
        "flags": [*_flags(file, claim, angle), *map(list, _axis_flags(claim.note, params))],
    }


def _mdoc_key(note: SeriesNote) -> str:
    return f"{note.folder}/{note.path.name}" if note.folder else note.path.name


def _number(name: TiltName | None, params: ComposeParams) -> int | None:
    """Give the number of a tilt: from its name, or from its angle's place among those of the settings."""
    if name is None or name.order is not None or name.angle_deg is None or not params.angles_deg:
        return None if name is None else name.order
    off, place = min((abs(angle - name.angle_deg), i) for i, angle in enumerate(params.angles_deg))
    return place + params.first_number if off <= max(params.angle_tolerance_deg, 0.5) else None


def _angle(
    listed: Listed | None, name: TiltName | None, number: int | None, params: ComposeParams
) -> tuple[float | None, str]:
    if listed is not None and listed.tilt_angle_deg is not None:
        return listed.tilt_angle_deg, "mdoc"
    if name is not None and name.angle_deg is not None:
        return name.angle_deg, "name"
    place = -1 if number is None else number - params.first_number
    if 0 <= place < len(params.angles_deg):
        return params.angles_deg[place], "settings"
    return None, ""


def pixel_size_flag(attributes: Mapping[str, Any], pixel_size_angstrom: float) -> Flag | None:
    """Say so where the settings' pixel size is neither the mdoc's nor, for super-resolution, half of it."""
    by_mdoc = attributes.get("pixel_size_angstrom")
    if not by_mdoc:
        return None
    if any(abs(pixel_size_angstrom * n / by_mdoc - 1) <= PIXEL_SIZE_TOLERANCE for n in (1, 2)):
        return None
    message = f"The settings' pixel size is {pixel_size_angstrom:g} Å, the mdoc's {by_mdoc:.4g} Å"
    return Flag("pixel_size_differs", f"{message}: correct microscope.pixel_size_angstrom if it is wrong")


def _axis_flags(note: SeriesNote | None, params: ComposeParams) -> list[tuple[str, str]]:
    """Say so where the axis in the settings is far from the mdoc's; half a turn would change the hand."""
    by_hand, by_mdoc = params.axis_angle_deg, None if note is None else note.axis_angle_deg
    if by_hand is None or by_mdoc is None:
        return []
    off = abs(wrapped(by_hand - by_mdoc))
    both = f"compose.axis_angle_deg={by_hand:g}, and the mdoc says {by_mdoc:g}"
    if off > 180 - AXIS_AGREEMENT_DEG:
        return [("axis_opposite", f"{both}: half a turn apart, which inverts the sense of the tilt")]
    return [("axis_differs", both)] if off > AXIS_AGREEMENT_DEG else []


def _axis(note: SeriesNote | None, params: ComposeParams) -> tuple[float | None, str]:
    if params.axis_angle_deg is not None:
        return wrapped(params.axis_angle_deg), "settings"
    return (None, "") if note is None else (note.axis_angle_deg, note.axis_source)


def _dose(listed: Listed | None, params: ComposeParams) -> tuple[float | None, str]:
    """Give the dose of one tilt by the one definition; by the dose rate where nothing else tells it."""
    recorded = None if listed is None else listed.dose_e_per_a2
    dose = tilt_dose(recorded, params.dose_per_tilt_e_per_a2, params.dose_from)
    if dose is not None:
        return dose, "mdoc" if dose == recorded else "settings"
    if listed is not None and listed.rate_dose_e_per_a2:
        return round(listed.rate_dose_e_per_a2, 4), "dose rate"
    return None, ""


def _flags(file: SourceFile, claim: Claim, angle: float | None) -> list[list[str]]:
    """Give what people must know of a tilt by itself, as [code, message]."""
    found = list[tuple[str, str]]()
    if not file.whole:
        found.append(("not_whole", f"The file is not whole: {file.reason}"))
    if angle is None and claim.source != "stack":
        found.append(("no_angle", "Neither mdoc nor name nor settings give its tilt angle"))
    if claim.listed is not None:
        found += _flags_of_listing(file, claim, claim.listed)
    return [list(flag) for flag in found]


def _flags_of_unknowns(attributes: Attributes) -> list[list[str]]:
    """Give what neither a tilt's own notes nor those of its series tell."""
    found = []
    doses = [v["dose_e_per_a2"] for v in attributes["views"] or [attributes]]
    if attributes["axis_angle_deg"] is None:
        message = "Neither mdoc nor settings give the direction of the tilt axis"
        found.append(["axis_unknown", f"{message}: set compose.axis_angle_deg"])
    if attributes["dose_source"] == "dose rate":
        message = "The dose is estimated from the dose rate behind the specimen, which makes it too low"
        found.append(["dose_from_rate", f"{message}: set compose.dose_per_tilt_e_per_a2"])
    elif None in doses:
        message = "Neither mdoc nor settings give the dose of a tilt: set compose.dose_per_tilt_e_per_a2"
        found.append(["dose_unknown", message])
    return found


def _flags_of_listing(file: SourceFile, claim: Claim, listed: Listed) -> list[tuple[str, str]]:
    found = []
    if listed.name and listed.name != file.path.name:
        message = f"The mdoc names it {listed.name}, with another suffix"
        found.append(("mdoc_name_differs", message))
    if listed.date_time is None:
        what = f"gives its date as '{listed.date_text}'" if listed.date_text else "gives no date for it"
        found.append(("no_date", f"The mdoc {what}, which tells no order"))
    if listed.repeated:
        found.append(("listed_twice", "The mdoc lists it twice: what it says last is taken"))
    told = None if claim.name is None else claim.name.angle_deg
    angle = listed.tilt_angle_deg
    if told is not None and angle is not None and abs(told - angle) > ANGLE_AGREEMENT_DEG:
        message = f"Its name says {told:g}°, its mdoc {angle:g}°: the mdoc is believed"
        found.append(("angle_differs", message))
    return found


def describe_stack(file: SourceFile, claim: Claim, params: ComposeParams) -> Attributes:
    """Give the attributes of a file that is a whole series, with all of its sections in ``views``."""
    attributes = _own_attributes(file, claim, params)
    views, source = _views(claim, params)
    attributes |= {
        "views": views,
        "order_source": source or None,
        "order": 0,
        "angle_source": _angles_of_stack(claim, params)[1],
        "lists": [str(note.path) for note in (claim.angles, claim.order) if note is not None],
        "expected": None,
        "mdoc_changed_at": None if claim.note is None else claim.note.changed_at,
    }
    flags = attributes["flags"]
    if not views:
        message = (
            "No mdoc, .rawtlt or .tlt beside it and no compose.angles_deg give the angles of its sections"
        )
        flags.append(["no_angles", message])
    if views and source == "section" and _is_monotonic([v["tilt_angle_deg"] for v in views]):
        message = "Its sections are sorted by angle, and nothing gives the order in which they were exposed"
        flags.append(["order_uncertain", f"{message}: set compose.order, or put a .order file beside it"])
    flags += _flags_of_unknowns(attributes)
    return attributes


def _views(claim: Claim, params: ComposeParams) -> tuple[list[Attributes], str]:
    """Describe the sections of a stack, and say what their order is known by."""
    angles, _ = _angles_of_stack(claim, params)
    tilts = {tilt.section: tilt for tilt in claim.note.tilts} if claim.note is not None else {}
    numbers = claim.order.values if claim.order is not None else tuple(float(n) for n in params.order)
    exposures = [
        Exposure(
            name=f"{section:06d}",
            date_time=tilts[section].date_time if section in tilts and not numbers else None,
            number=int(numbers[section]) if section < len(numbers) else None,
            section=section,
            dose_e_per_a2=_dose(tilts.get(section), params)[0],
        )
        for section in angles
    ]
    placed, source = place_exposures(exposures)
    views = [
        {
            "section": section,
            "tilt_angle_deg": angle,
            "order": place.order,
            "dose_e_per_a2": exposure.dose_e_per_a2,
            "accumulated_dose_e_per_a2": place.accumulated_dose_e_per_a2,
        }
        for (section, angle), exposure, place in zip(angles.items(), exposures, placed, strict=True)
    ]
    return views, source if views else ""


def _angles_of_stack(claim: Claim, params: ComposeParams) -> tuple[dict[int, float | None], str]:
    """Give the angle of each section: by the mdoc, else by the list beside, else by the settings."""
    if claim.note is not None and any(tilt.tilt_angle_deg is not None for tilt in claim.note.tilts):
        ordered = sorted(claim.note.tilts, key=lambda tilt: tilt.section)
        return {tilt.section: tilt.tilt_angle_deg for tilt in ordered}, "mdoc"
    if claim.angles is not None:
        return dict(enumerate(claim.angles.values)), claim.angles.path.suffix
    return dict(enumerate(params.angles_deg)), "settings" if params.angles_deg else ""


def _is_monotonic(angles: Sequence[float | None]) -> bool:
    known = [angle for angle in angles if angle is not None]
    return len(known) > 2 and (known == sorted(known) or known == sorted(known, reverse=True))
