"""Mdoc files: what SerialEM, PACEtomo and Tomography 5 say of each image. Mastronarde (2005)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from tomofly.formats.errors import BadFile
from tomofly.formats.mdoc_axis import AxisSource, by_thermo_fisher, tilt_axis
from tomofly.formats.mdoc_dates import parse_date
from tomofly.formats.mdoc_text import RawMdoc, RawSection, read_raw

SectionKind = Literal["ZValue", "FrameSet", "MontSection"]

_KINDS: dict[str, SectionKind] = {kind: kind for kind in ("ZValue", "FrameSet", "MontSection")}
# what tells one tilt from another: a section that lacks one that all before it have is not yet written
_TELLING = ("TiltAngle", "PixelSpacing", "ExposureDose", "SubFramePath", "NumSubFrames", "DateTime")
# a tilt series of one montage per tilt has no one image per tilt to align
_NO_MONTAGE = "Use the mdoc of a tilt series with one image per tilt"


@dataclass(frozen=True)
class MdocSection:
    """One image of an mdoc. What the file does not say, or says unreadably, is None.

    ``values`` has all as written. ``exposure_dose`` is as written, e/Å²; many programs write 0 for "not
    known": see ``dose``. The pixel spacing (Å) is of the image at ``binning``. ``date_time`` is of the
    microscope's computer, without a zone.
    """

    kind: SectionKind
    name: str
    z_value: int | None
    tilt_angle_deg: float | None
    sub_frame_path: str | None
    num_sub_frames: int | None
    date_time: datetime | None
    exposure_dose: float | None
    dose_rate: float | None
    prior_dose: float | None
    exposure_time_s: float | None
    target_defocus_um: float | None
    defocus_um: float | None
    pixel_spacing_angstrom: float | None
    rotation_angle_deg: float | None
    binning: float | None
    magnification: float | None
    stage_xy_um: tuple[float, float] | None
    image_shift_xy_um: tuple[float, float] | None
    min_max_mean: tuple[float, float, float] | None
    values: Mapping[str, str] = field(repr=False)

    @property
    def frame_name(self) -> str | None:
        """The movie's file name, of a Windows, UNC or POSIX path."""
        if self.sub_frame_path is None:
            return None
        return re.split(r"[\\/]", self.sub_frame_path)[-1].strip() or None

    @property
    def frame_doses(self) -> tuple[tuple[float, int], ...]:
        """Dose of a frame (e/Å²) and number of such frames, in order; doses of 0 mean "not known"."""
        numbers = _numbers(
            self.values.get("FrameDosesAndNumber", self.values.get("FrameDosesAndNumbers", ""))
        )
        return tuple((dose, int(count)) for dose, count in zip(numbers[::2], numbers[1::2], strict=False))

    @property
    def dose(self) -> tuple[float, str] | None:
        """The dose of this image alone, e/Å², and what it comes from; None when the file does not say.

        ExposureDose is taken first, then the frames' doses, then dose rate x time / physical pixel²; that
        last is measured behind the specimen, so that a thick or tilted one makes it too low.
        """
        if self.exposure_dose:
            return self.exposure_dose, "ExposureDose"
        frames = sum(dose * count for dose, count in self.frame_doses)
        if frames > 0:
            return frames, "FrameDosesAndNumber"
        if self.dose_rate and self.exposure_time_s and self.pixel_spacing_angstrom:
            pixel = self.pixel_spacing_angstrom / (self.binning or 1.0)
            return self.dose_rate * self.exposure_time_s / pixel**2, "DoseRate x ExposureTime"
        return None


@dataclass(frozen=True)
class Mdoc:
    """An mdoc file. ``sections`` are whole and in the file's order; a last one that is cut is ``unfinished``.

    ``complete``: nothing is missing at the end of what could be read; the microscope may still go on.
    ``axis_angle_deg``: anticlockwise from the image's y axis in (-180, 180], ``axis_source`` how it is known.
    """

    path: Path
    titles: tuple[str, ...]
    values: Mapping[str, str] = field(repr=False)
    sections: tuple[MdocSection, ...]
    unfinished: MdocSection | None
    complete: bool
    image_file: str | None
    image_size_xy: tuple[int, int] | None
    pixel_spacing_angstrom: float | None
    voltage_kv: float | None
    version: str | None
    axis_angle_deg: float | None
    axis_source: AxisSource
    strange_lines: tuple[int, ...]

    @property
    def tilts(self) -> tuple[MdocSection, ...]:
        """The sections that are images of the series, in the file's order."""
        return tuple(section for section in self.sections if section.kind != "MontSection")


def read_mdoc(path: str | Path) -> Mdoc:
    """Read an mdoc file, also one that is being written while it is read.

    Raises BadFile when it is empty, no mdoc, or describes a montage. A value that cannot be read is None and
    a section's number may be missing or out of order; neither costs the rest.
    """
    path = Path(path)
    raw = read_raw(path)
    year_first = by_thermo_fisher(raw.titles, raw.values.get("Version"))
    known = [_section(section, year_first) for section in raw.sections if section.kind in _KINDS]
    whole = _last_is_whole(raw, known)
    sections = tuple(known if whole else known[:-1])
    _refuse_montage(path, sections)
    size = _pair(raw.values.get("ImageSize"))
    spacing = _number(raw.values.get("PixelSpacing"))
    axis, source = tilt_axis(raw.titles, raw.values.get("Version"), _first_rotation(known))
    return Mdoc(
        path=path,
        titles=tuple(raw.titles),
        values=dict(raw.values),
        sections=sections,
        unfinished=None if whole or not known else known[-1],
        complete=whole and bool(known) and not raw.cut_header,
        image_file=raw.values.get("ImageFile") or None,
        image_size_xy=(int(size[0]), int(size[1])) if size else None,
        pixel_spacing_angstrom=spacing or next((s.pixel_spacing_angstrom for s in known), None),
        voltage_kv=_number(raw.values.get("Voltage")),
        version=raw.values.get("Version") or None,
        axis_angle_deg=axis,
        axis_source=source,
        strange_lines=tuple(raw.strange_lines),
    )


def _section(raw: RawSection, year_first: bool) -> MdocSection:
    values = raw.values
    number = {key: _number(text) for key, text in values.items()}
    frames = number.get("NumSubFrames")
    return MdocSection(
        kind=_KINDS[raw.kind],
        name=raw.name,
        z_value=_whole_number(raw.name) if raw.kind == "ZValue" else None,
        tilt_angle_deg=number.get("TiltAngle"),
        sub_frame_path=values.get("SubFramePath", "").strip("\"' ") or None,
        num_sub_frames=None if frames is None else int(frames),
        date_time=parse_date(values.get("DateTime", ""), year_first=year_first),
        exposure_dose=number.get("ExposureDose"),
        dose_rate=number.get("DoseRate"),
        prior_dose=number.get("PriorRecordDose"),
        exposure_time_s=number.get("ExposureTime"),
        target_defocus_um=number.get("TargetDefocus"),
        defocus_um=number.get("Defocus"),
        pixel_spacing_angstrom=number.get("PixelSpacing") or None,
        rotation_angle_deg=number.get("RotationAngle"),
        binning=number.get("Binning") or None,
        magnification=number.get("Magnification"),
        stage_xy_um=_pair(values.get("StagePosition")),
        image_shift_xy_um=_pair(values.get("ImageShift")),
        min_max_mean=_triple(values.get("MinMaxMean")),
        values=dict(values),
    )


def _last_is_whole(raw: RawMdoc, sections: list[MdocSection]) -> bool:
    """Tell whether the last section has what the others have, and its last line is not cut."""
    if not sections:
        return True
    *before, last = sections
    if before:
        needed = [key for key in _TELLING if all(key in section.values for section in before)]
        has_all = all(key in last.values for key in needed)
    else:
        has_all = "TiltAngle" in last.values and bool({"SubFramePath", "DateTime"} & set(last.values))
    return has_all and _ends_whole(raw.cut_key, last, before)


def _ends_whole(cut_key: str | None, last: MdocSection, before: list[MdocSection]) -> bool:
    """Tell whether a last line without a line break is whole: some programs end their files so."""
    if cut_key is None:
        return True
    if cut_key == "DateTime":
        return last.date_time is not None
    if cut_key == "SubFramePath":
        endings = {Path(section.frame_name).suffix for section in before if section.frame_name}
        return Path(last.frame_name or "").suffix in endings
    return cut_key != "" and cut_key not in _TELLING and all(cut_key in section.values for section in before)


def _refuse_montage(path: Path, sections: tuple[MdocSection, ...]) -> None:
    """A montage of one piece, as some tilt series are saved, is none."""
    pieces = {
        tuple(_numbers(section.values["PieceCoordinates"])[:2])
        for section in sections
        if section.kind != "MontSection" and "PieceCoordinates" in section.values
    }
    if len(pieces) > 1:
        raise BadFile(path, f"describes a montage of {len(pieces)} pieces, not a tilt series", _NO_MONTAGE)
    if sections and all(section.kind == "MontSection" for section in sections):
        raise BadFile(path, f"describes {len(sections)} montages, not a tilt series", _NO_MONTAGE)


def _first_rotation(sections: list[MdocSection]) -> float | None:
    return next((s.rotation_angle_deg for s in sections if s.rotation_angle_deg is not None), None)


def _number(text: str | None) -> float | None:
    """A single number; a comma is a point, as some locales have it."""
    try:
        value = float((text or "").replace(",", ".") if (text or "").count(",") == 1 else text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers(text: str) -> list[float]:
    found = [_number(word) for word in text.split()]
    return [value for value in found if value is not None]


def _pair(text: str | None) -> tuple[float, float] | None:
    numbers = _numbers(text or "")
    return (numbers[0], numbers[1]) if len(numbers) >= 2 else None


def _triple(text: str | None) -> tuple[float, float, float] | None:
    numbers = _numbers(text or "")
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) >= 3 else None


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
