"""The folders and the XML of an automated session, as EPU writes them."""

import math
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.truth import Truth

SHARED_OBJECTS = "http://schemas.datacontract.org/2004/07/Fei.SharedObjects"
ARRAYS = "http://schemas.microsoft.com/2003/10/Serialization/Arrays"
FEI_TYPES = "http://schemas.datacontract.org/2004/07/Fei.Types"
DRAWING = "http://schemas.datacontract.org/2004/07/System.Drawing"
SCHEMA = "http://www.w3.org/2001/XMLSchema"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"

HOLES_PER_SQUARE, SHOTS_PER_HOLE = 12, 4
SECONDS_PER_FRAME = 0.1
FIRST_SQUARE, FIRST_HOLE, FIRST_SHOT = 29272952, 29279958, 29274665


@dataclass(frozen=True)
class Shot:
    """Where on the grid and when one movie was taken."""

    index: int
    acquired: datetime

    @property
    def hole(self) -> int:
        """Number of the foil hole, from 0."""
        return self.index // SHOTS_PER_HOLE

    @property
    def square(self) -> int:
        """Number of the grid square, from 0."""
        return self.hole // HOLES_PER_SQUARE

    @property
    def folder(self) -> Path:
        """Folder of the movie, below the session's."""
        return Path("Images-Disc1") / f"GridSquare_{FIRST_SQUARE + 61 * self.square}" / "Data"

    @property
    def stem(self) -> str:
        """Name of the exposure without suffix; the movie's adds `_Fractions`."""
        shot = FIRST_SHOT + 3 * (self.index % SHOTS_PER_HOLE)
        number = self.hole % HOLES_PER_SQUARE + 1
        hole = FIRST_HOLE + self.hole
        return f"FoilHole_{hole}_Data_{shot}_{number}_{self.acquired:%Y%m%d_%H%M%S}"

    def stage_m(self, seed: int) -> dict[str, float]:
        """Stage position: metres (X, Y, Z) and radians (A, B); one place per group of nine holes."""
        group = np.random.default_rng([seed, self.square, self.hole // 9])
        x, y, z = group.uniform([-8e-4, -8e-4, -7e-5], [8e-4, 8e-4, 7e-5])
        return {"A": 3.5e-06, "B": 0.0, "X": float(x), "Y": float(y), "Z": float(z)}

    def beam_shift(self) -> tuple[float, float]:
        """Beam shift (x, y) that reaches this hole of its group and this shot of its hole."""
        row, column = divmod(self.hole % 9, 3)
        angle = math.tau * (self.index % SHOTS_PER_HOLE) / SHOTS_PER_HOLE
        return 0.09 * (column - 1) + 0.02 * math.cos(angle), 0.09 * (row - 1) + 0.02 * math.sin(angle)


def acquisition_xml(microscope: SpaMicroscope, truth: Truth, shot: Shot) -> str:
    """The XML beside a movie, with the element paths of EPU 3's MicroscopeImage."""
    root = Xml.Element(f"{{{SHARED_OBJECTS}}}MicroscopeImage")
    _add(root, "name", "Empty")
    _add(root, "uniqueID", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{microscope.seed}/{shot.stem}")))
    _custom_data(root, microscope)
    scale = _add(_add(root, "SpatialScale"), "pixelSize")
    for axis in ("x", "y"):
        _add(_add(scale, axis), "numericValue", truth.pixel_size_angstrom * 1e-10)
    data = _add(root, "microscopeData")
    _acquisition(data, microscope, truth, shot)
    core = _add(data, "core")
    _add(core, "ApplicationSoftware", "EPU")
    _add(core, "ApplicationSoftwareVersion", "3.5.1.6034")
    _add(_add(data, "gun"), "AccelerationVoltage", round(microscope.voltage_kv * 1e3))
    _add(_add(data, "instrument"), "InstrumentModel", "SIMULATED")
    _optics(data, truth, shot)
    position = _add(_add(data, "stage"), "Position")
    for axis, value in shot.stage_m(microscope.seed).items():
        _add(position, axis, value)
    return _text(root)


def _text(root: Xml.Element) -> str:
    """The document with the prefixes that EPU uses."""
    Xml.register_namespace("i", INSTANCE)
    Xml.register_namespace("a", ARRAYS)
    Xml.register_namespace("b", SCHEMA)
    Xml.register_namespace("t", FEI_TYPES)
    Xml.register_namespace("d", DRAWING)
    Xml.register_namespace("", SHARED_OBJECTS)
    # Types in attribute values carry the prefix b, which a parser that resolves them must find.
    root.set("xmlns:b", SCHEMA)
    Xml.indent(root, "    ")
    return '<?xml version="1.0" ?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _add(
    parent: Xml.Element, name: str, value: object = None, namespace: str = SHARED_OBJECTS
) -> Xml.Element:
    """Add an element, with text unless `value` is None."""
    child = Xml.SubElement(parent, f"{{{namespace}}}{name}")
    if value is not None:
        child.text = str(value)
    return child


def _key_values(parent: Xml.Element, values: dict[str, tuple[str, object]]) -> None:
    """Add pairs as .NET serialises a dictionary: key -> (type, value)."""
    for key, (kind, value) in values.items():
        pair = _add(parent, "KeyValueOfstringanyType", namespace=ARRAYS)
        _add(pair, "Key", key, ARRAYS)
        _add(pair, "Value", value, ARRAYS).set(f"{{{INSTANCE}}}type", f"b:{kind}")


def _custom_data(root: Xml.Element, microscope: SpaMicroscope) -> None:
    """Dose in e⁻/m² on the specimen and in e⁻ per recorded pixel, and the nominal defocus in m."""
    exposure_s = SECONDS_PER_FRAME * microscope.frames
    dose = microscope.dose_per_frame_e_per_a2 * microscope.frames
    on_camera = dose * microscope.frame_pixel_size_angstrom**2
    nominal = -1e-10 * sum(microscope.defocus_range_angstrom) / 2
    camera = "Detectors[BM-Falcon]."
    _key_values(
        _add(root, "CustomData"),
        {
            "DoseOnCamera": ("double", on_camera),
            f"{camera}CommercialName": ("string", "Simulated"),
            f"{camera}ElectronCounted": ("boolean", "true"),
            f"{camera}ExposureTime": ("double", exposure_s),
            f"{camera}FrameRate": ("double", 1 / SECONDS_PER_FRAME),
            f"{camera}TotalDose": ("double", on_camera),
            f"{camera}DoseRate": ("double", on_camera / exposure_s),
            "Dose": ("double", dose * 1e20),
            "PhasePlateUsed": ("boolean", str(microscope.phase_shift_deg > 0).lower()),
            "BinaryResult.Detector": ("string", "BM-Falcon"),
            "DetectorCommercialName": ("string", "Simulated"),
            "AppliedDefocus": ("double", nominal),
        },
    )


def _acquisition(data: Xml.Element, microscope: SpaMicroscope, truth: Truth, shot: Shot) -> None:
    """When, and with which camera settings."""
    acquisition = _add(data, "acquisition")
    _add(acquisition, "acquisitionDateTime", shot.acquired.isoformat())
    camera = _add(acquisition, "camera")
    binning = _add(camera, "Binning")
    _add(binning, "x", 1, DRAWING)
    _add(binning, "y", 1, DRAWING)
    _key_values(
        _add(camera, "CameraSpecificInput"),
        {
            "SuperResolutionFactor": ("int", microscope.sampling),
            "ElectronCountingEnabled": ("boolean", "true"),
        },
    )
    _add(camera, "ExposureTime", SECONDS_PER_FRAME * microscope.frames)
    _add(camera, "Name", "BM-Falcon")
    area = _add(camera, "ReadoutArea")
    _add(area, "height", truth.frame_yx_px[0], DRAWING)
    _add(area, "width", truth.frame_yx_px[1], DRAWING)


def _optics(data: Xml.Element, truth: Truth, shot: Shot) -> None:
    """Beam shift, magnification, and the defocus that the microscope believes in (m)."""
    optics = _add(data, "optics")
    shift_x, shift_y = shot.beam_shift()
    shift = _add(optics, "BeamShift")
    _add(shift, "_x", shift_x, FEI_TYPES)
    _add(shift, "_y", shift_y, FEI_TYPES)
    for still in ("BeamTilt", "ImageShift"):
        vector = _add(optics, still)
        _add(vector, "_x", 0, FEI_TYPES)
        _add(vector, "_y", 0, FEI_TYPES)
    _add(optics, "Defocus", -1e-10 * round(truth.optics.defocus_u_angstrom, -3))
    _add(_add(optics, "TemMagnification"), "NominalMagnification", round(140000 / truth.pixel_size_angstrom))


def next_shot(index: int, started: datetime, pace_s: float) -> Shot:
    """The shot of movie `index` in a session that began at `started` and takes one every `pace_s`.

    Shots are at least a second apart in name, as the time of day is part of it.
    """
    return Shot(index, started + timedelta(seconds=index * max(1.0, pace_s)))
