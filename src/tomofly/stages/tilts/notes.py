"""What files beside tilts say of them: mdoc files, and lists of angles and of the order of exposure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tomofly.formats.errors import BadFile
from tomofly.formats.mdoc import Mdoc, MdocSection, read_mdoc
from tomofly.model import SourceFile
from tomofly.stages.tilts.names import LARGEST_ANGLE_DEG, stem

ANGLE_SUFFIXES = (".rawtlt", ".tlt")
"""Lists of angles, one for each section of a stack; the first is taken where both are there."""

ORDER_SUFFIX = ".order"
NOTE_SUFFIXES = (".mdoc", *ANGLE_SUFFIXES, ORDER_SUFFIX)

_LARGEST_LIST_BYTES = 1 << 20
_LIST_CHECK = "It must hold one number for each section, each in a line of its own"


@dataclass(frozen=True)
class Listed:
    """A tilt as an mdoc has it. ``name``: of its movie, if it has one; ``section``: its place in the stack.

    ``rate_dose_e_per_a2`` is estimated from the dose rate behind the specimen. Underfocus is positive.
    ``pixel_size_angstrom`` is of the detector's pixels.
    """

    name: str | None
    section: int
    tilt_angle_deg: float | None
    date_time: datetime | None
    date_text: str
    dose_e_per_a2: float | None
    rate_dose_e_per_a2: float | None
    target_defocus_angstrom: float | None
    pixel_size_angstrom: float | None
    repeated: bool = False


@dataclass(frozen=True)
class SeriesNote:
    """What an mdoc says. ``series`` is its name without suffixes; ``folder`` where it lies, as in keys.

    ``tilts`` are in the file's order, each movie once. ``of_one_frame``: it lies beside a single movie and
    says nothing of a series.
    """

    path: Path
    series: str
    folder: str
    changed_at: float
    tilts: tuple[Listed, ...]
    image_file: str | None
    axis_angle_deg: float | None
    axis_source: str
    of_one_frame: bool = False

    @property
    def key(self) -> str:
        """The series' key: its name, below the folder in which the mdoc lies."""
        return f"{self.folder}/{self.series}" if self.folder else self.series

    @property
    def full_key(self) -> str:
        """The same with all suffixes of the mdoc but its own."""
        name = self.path.name[: -len(".mdoc")]
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def has_movies(self) -> bool:
        """Whether it names the movies of its tilts."""
        return any(tilt.name for tilt in self.tilts)


@dataclass(frozen=True)
class ListNote:
    """Numbers for the sections of a stack: angles in degrees, or the order of exposure."""

    path: Path
    stem: str
    values: tuple[float, ...]


def read_note(file: SourceFile) -> SeriesNote | ListNote:
    """Read an mdoc or a list. Raises BadFile saying why it is of no use."""
    try:
        if file.path.suffix.lower() == ".mdoc":
            return series_note(file, read_mdoc(file.path))
        return _list_note(file.path)
    except OSError as error:
        raise BadFile(
            file.path, f"cannot be read now ({error.strerror})", "Check that it is still there"
        ) from error


def series_note(file: SourceFile, mdoc: Mdoc) -> SeriesNote:
    """Give what counts of an mdoc. A movie that is listed twice is taken as it was listed last."""
    name = file.path.name[: -len(".mdoc")]
    folder = file.key.rpartition("/")[0]
    listed = [_listed(section, place) for place, section in enumerate(mdoc.tilts)]
    single = len(listed) == 1 and listed[0].name is not None
    return SeriesNote(
        path=file.path,
        series=stem(name),
        folder=folder,
        changed_at=file.acquired_at,
        tilts=_each_once(_in_stack(mdoc.tilts, listed)),
        image_file=Path(mdoc.image_file.replace("\\", "/")).name if mdoc.image_file else None,
        axis_angle_deg=mdoc.axis_angle_deg,
        axis_source=str(mdoc.axis_source),
        of_one_frame=single
        and (mdoc.tilts[0].kind == "FrameSet" or stem(name) == stem(listed[0].name or "")),
    )


def _listed(section: MdocSection, place: int) -> Listed:
    dose, rate_dose = section.dose, None
    if dose is not None and dose[1].startswith("DoseRate"):
        dose, rate_dose = None, dose
    angle, defocus = section.tilt_angle_deg, section.target_defocus_um
    spacing = section.pixel_spacing_angstrom
    return Listed(
        name=section.frame_name,
        section=place,
        tilt_angle_deg=None if angle is None or abs(angle) > LARGEST_ANGLE_DEG else angle + 0.0,
        date_time=section.date_time,
        date_text=section.values.get("DateTime", ""),
        dose_e_per_a2=None if dose is None else dose[0],
        rate_dose_e_per_a2=None if rate_dose is None else rate_dose[0],
        target_defocus_angstrom=None if defocus is None else -1e4 * defocus + 0.0,
        pixel_size_angstrom=None if spacing is None else spacing / (section.binning or 1.0),
    )


def _in_stack(sections: Sequence[MdocSection], listed: Sequence[Listed]) -> list[Listed]:
    """Place tilts by their ZValue where those tell all apart; else by their place in the file."""
    numbers = [section.z_value for section in sections]
    if None in numbers or len(set(numbers)) != len(numbers):
        return list(listed)
    return [
        replace(tilt, section=number)
        for tilt, number in zip(listed, numbers, strict=True)
        if number is not None
    ]


def _each_once(listed: Sequence[Listed]) -> tuple[Listed, ...]:
    last: dict[str, Listed] = {}
    for place, tilt in enumerate(listed):
        name = tilt.name or f"\0{place}"
        repeated = last.pop(name, None) is not None
        last[name] = replace(tilt, repeated=True) if repeated else tilt
    return tuple(last.values())


def _list_note(path: Path) -> ListNote:
    if path.stat().st_size > _LARGEST_LIST_BYTES:
        raise BadFile(path, "is too large for a list of angles", _LIST_CHECK)
    words = path.read_text(encoding="utf-8", errors="replace").split()
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        raise BadFile(path, "holds something that is no number", _LIST_CHECK) from None
    if not values:
        raise BadFile(path, "is empty", _LIST_CHECK)
    if path.suffix.lower() in ANGLE_SUFFIXES and not all(abs(v) <= LARGEST_ANGLE_DEG for v in values):
        raise BadFile(path, f"holds an angle beyond {LARGEST_ANGLE_DEG:g}°", _LIST_CHECK)
    return ListNote(path, stem(path.name[: -len(path.suffix)]), values)
