"""EPU (Thermo Fisher): the XML that it writes beside each acquisition, and what its names say."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from tomofly.formats.errors import BadFile
from tomofly.formats.source import read_whole

_LARGEST_BYTES = 16 << 20
_CHECK = "Check that it is the XML that EPU wrote for an acquisition"
_WAIT = "Wait until it is written, or transfer it again"
# the two ways in which EPU gives the dose agree unless one belongs to another image
_DOSE_TOLERANCE = 0.05

XY = tuple[float, float]


@dataclass(frozen=True)
class EpuMetadata:
    """What EPU says of one acquisition; None where it says nothing. Beam values are in EPU's own units."""

    path: Path
    acquired_at: datetime | None  # UTC
    pixel_size_angstrom: float | None
    voltage_kv: float | None
    magnification: float | None
    exposure_time_s: float | None
    stage_xyz_um: tuple[float, float, float] | None
    tilt_deg: float | None
    beam_shift_xy: XY | None
    beam_tilt_xy: XY | None
    image_shift_xy: XY | None
    applied_defocus_angstrom: float | None  # underfocus positive, unlike in EPU
    dose_on_camera: float | None  # e/pixel on the detector, for the whole exposure
    dose_e_per_angstrom2: float | None  # at the specimen, for the whole exposure
    doses_agree: bool | None  # whether "Dose" and "DoseOnCamera" say the same
    detector: str | None
    instrument: str | None
    software: str | None


@dataclass(frozen=True)
class EpuName:
    """What an EPU file's name and folders say."""

    grid_square: str | None
    foil_hole: str
    data_id: str
    position: int  # of the acquisition area within the foil hole
    named_at: datetime  # local time of the microscope's computer, without a zone


def read_epu_xml(path: str | Path) -> EpuMetadata:
    """Read an acquisition's XML. Raises BadFile when it is no such XML; a missing value is None.

    "Dose" is electrons per square metre at the specimen, "DoseOnCamera" electrons per detector pixel, both
    for the whole exposure, so dose = DoseOnCamera / pixel size^2. The former is taken where both are there.
    """
    path = Path(path)
    tree = _Tree(_root(path))
    pixel = _scaled(tree.number("SpatialScale/pixelSize/x/numericValue"), 1e10)
    on_camera = _positive(tree.custom_number("DoseOnCamera"))
    at_specimen = _scaled(tree.custom_number("Dose"), 1e-20)
    derived = on_camera / pixel**2 if on_camera and pixel else None
    acquisition, optics = "microscopeData/acquisition/", "microscopeData/optics/"
    defocus = tree.custom_number("AppliedDefocus")
    tilt = tree.number("microscopeData/stage/Position/A")
    return EpuMetadata(
        path=path,
        acquired_at=_utc(tree.text(acquisition + "acquisitionDateTime")),
        pixel_size_angstrom=pixel,
        voltage_kv=_scaled(tree.number("microscopeData/gun/AccelerationVoltage"), 1e-3),
        magnification=_positive(tree.number(optics + "TemMagnification/NominalMagnification")),
        exposure_time_s=_positive(tree.number(acquisition + "camera/ExposureTime")),
        stage_xyz_um=tree.stage_um(),
        tilt_deg=None if tilt is None else math.degrees(tilt),
        beam_shift_xy=tree.pair(optics + "BeamShift"),
        beam_tilt_xy=tree.pair(optics + "BeamTilt"),
        image_shift_xy=tree.pair(optics + "ImageShift"),
        applied_defocus_angstrom=None if defocus is None else -defocus * 1e10,
        dose_on_camera=on_camera,
        dose_e_per_angstrom2=at_specimen or derived,
        doses_agree=_agree(at_specimen, derived),
        detector=tree.custom("DetectorCommercialName") or tree.text(acquisition + "camera/Name"),
        instrument=tree.text("microscopeData/instrument/InstrumentModel"),
        software=_software(tree),
    )


_NAME = re.compile(
    r"FoilHole_(?P<hole>\d+)_Data_(?P<data>\d+)_(?P<position>\d+)(?:_\d+)?_(?P<date>\d{8})_(?P<time>\d{6})(?!\d)"
)
_SQUARE = re.compile(r"GridSquare_(\d+)$")


def parse_epu_name(path: str | Path) -> EpuName | None:
    """What the name of an EPU movie, picture or XML says, or None when it is not named as EPU does."""
    path = Path(path)
    found = _NAME.match(path.name)
    if not found:
        return None
    try:
        named_at = datetime.strptime(found["date"] + found["time"], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    squares = [match[1] for part in path.parts[:-1] if (match := _SQUARE.match(part))]
    return EpuName(
        grid_square=squares[-1] if squares else None,
        foil_hole=found["hole"],
        data_id=found["data"],
        position=int(found["position"]),
        named_at=named_at,
    )


# what detectors and EPU add to the name of an acquisition to name its movie
_MOVIE_ENDINGS = ("_Fractions", "_fractions", "_EER", "-Fractions", "_movie", "_frames")


COMPANION_SUFFIXES = (".xml", ".mdoc")


def companion_names(movie_name: str, further: Sequence[str] = ()) -> tuple[str, ...]:
    """Names, in a movie's own folder, of the files that may belong to it: EPU's XML, SerialEM's mdoc.

    For FoilHole_1_Data_2_3_20230101_120000_Fractions.tiff these are ...120000.xml, ...Fractions.xml,
    ...Fractions.tiff.mdoc and ...Fractions.mdoc. A name is made of the movie's whole name: TS_1 is not TS_10.
    ``further`` are suffixes, each with its dot, that are looked for in the same places as XML and mdoc.
    """
    own = Path(movie_name)
    stems = [own.stem, *(own.stem.removesuffix(end) for end in _MOVIE_ENDINGS if own.stem.endswith(end))]
    known = [*(f"{stem}.xml" for stem in stems), f"{movie_name}.mdoc", f"{own.stem}.mdoc"]
    known += [f"{name}{suffix}" for suffix in further for name in (*stems, movie_name)]
    # What ends like the movie itself, such as the picture a.mrc of a_Fractions.mrc, is another image.
    return tuple(name for name in known if Path(name).suffix.lower() != own.suffix.lower())


def movie_stems(companion: str, further: Sequence[str] = ()) -> tuple[str, ...]:
    """Stems of the movies to which a file of this name may belong; it may be a movie's whole name."""
    suffix = next((suffix for suffix in further if companion.endswith(suffix)), Path(companion).suffix)
    stem = companion.removesuffix(suffix)
    return (stem, *(f"{stem}{ending}" for ending in _MOVIE_ENDINGS))


def additional_files(
    movie: str | Path, existing: frozenset[str] | set[str] | None = None, further: Sequence[str] = ()
) -> list[Path]:
    """The files beside a movie that belong to it, by the names in `existing` (default: ask the disk)."""
    movie = Path(movie)
    beside = (movie.with_name(name) for name in companion_names(movie.name, further))
    return [path for path in beside if (path.is_file() if existing is None else path.name in existing)]


def _root(path: Path) -> Any:
    raw = read_whole(path, _LARGEST_BYTES, "EPU's XML", _CHECK, when_empty=_WAIT)
    try:
        root = ElementTree.fromstring(raw)
    except DefusedXmlException as error:
        raise BadFile(path, f"uses XML that is not safe to read ({type(error).__name__})", _CHECK) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadFile(path, f"is not well-formed XML ({error})", _CHECK) from error
    if _local(root.tag) != "MicroscopeImage":
        raise BadFile(path, f"describes a {_local(root.tag)}, not a MicroscopeImage", _CHECK)
    return root


class _Tree:
    """Look-up by local names: EPU's name spaces change with its version."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._custom = self._custom_data()

    def text(self, place: str) -> str | None:
        node = self._node(place)
        return None if node is None else (node.text or "").strip() or None

    def number(self, place: str) -> float | None:
        return _number(self.text(place))

    def pair(self, place: str) -> XY | None:
        x, y = self.number(f"{place}/_x"), self.number(f"{place}/_y")
        return None if x is None or y is None else (x, y)

    def stage_um(self) -> tuple[float, float, float] | None:
        x, y, z = (self.number(f"microscopeData/stage/Position/{axis}") for axis in "XYZ")
        return None if x is None or y is None or z is None else (x * 1e6, y * 1e6, z * 1e6)

    def custom(self, key: str) -> str | None:
        return self._custom.get(key)

    def custom_number(self, key: str) -> float | None:
        return _number(self._custom.get(key))

    def _node(self, place: str) -> Any:
        node = self._root
        for name in place.split("/"):
            node = next((child for child in node if _local(child.tag) == name), None)
            if node is None:
                return None
        return node

    def _custom_data(self) -> dict[str, str]:
        pairs = self._node("CustomData")
        found: dict[str, str] = {}
        for pair in () if pairs is None else pairs:
            texts = {_local(child.tag): (child.text or "").strip() for child in pair}
            found[texts.get("Key", "")] = texts.get("Value", "")
        return found


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _scaled(value: float | None, factor: float) -> float | None:
    return value * factor if value is not None and value > 0 else None


def _agree(at_specimen: float | None, derived: float | None) -> bool | None:
    if at_specimen is None or derived is None:
        return None
    return math.isclose(at_specimen, derived, rel_tol=_DOSE_TOLERANCE)


def _software(tree: _Tree) -> str | None:
    name = tree.text("microscopeData/core/ApplicationSoftware")
    version = tree.text("microscopeData/core/ApplicationSoftwareVersion")
    return " ".join(part for part in (name, version) if part) or None


def _utc(text: str | None) -> datetime | None:
    """ISO 8601; EPU gives seven digits of a second, of which the last is cut. Without a zone: None."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
