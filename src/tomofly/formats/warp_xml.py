"""Warp's tilt series: the .xml with its geometry, and the .tomostar that names its tilts. Tegunov (2021).

Warp counts in Å from the corner of an image or volume, whose middle is at half its size: index n / 2 from 0,
which is the project's origin n // 2 but for half a pixel where n is odd. A point p from the middle appears at
Rz(AxisAngle) · Ry(-(Angles + LevelAngleY)) · Rx(LevelAngleX) · p + AxisOffset - movement(where it is then).
So Warp's angles have the other sign: it turns the angles of an mdoc round when it imports one. Defocus grows
with depth along the beam, and falls with ``AreAnglesInverted``, which changes nothing else.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from tomofly.formats.errors import BadFile
from tomofly.formats.on_disk import synced_text
from tomofly.formats.source import read_whole
from tomofly.formats.star import write_star
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord, mean_of_known, rotations
from tomofly.formats.warp_grid import grid_of, interpolated

_CHECK = "Check that it is the .xml that Warp wrote for a tilt series"
_LARGEST_BYTES = 512 << 20
_ANGSTROM_PER_UM = 1e4


@dataclass(frozen=True)
class WarpSeries:
    """What a Warp .xml says of a series, in Warp's own numbers; arrays have one row per tilt.

    ``movement_xy_angstrom``: two grids (tilt, y, x) over the image. ``hand`` is RELION's rlnTomoHand.
    """

    movie_names: tuple[str, ...]
    angle_deg: FloatArray
    axis_angle_deg: FloatArray
    axis_offset_xy_angstrom: FloatArray
    dose_before: FloatArray
    used: np.ndarray
    level_x_deg: float
    level_y_deg: float
    hand: int
    movement_xy_angstrom: tuple[FloatArray, FloatArray]
    defocus_angstrom: FloatArray | None
    astigmatism_angstrom: FloatArray | None
    defocus_angle_deg: FloatArray | None

    @property
    def tilt_angle_deg(self) -> FloatArray:
        """Refined tilt angles (tilt,) in the project's sense."""
        return -(self.angle_deg + self.level_y_deg)

    def shift_yx_px(self, pixel_size_angstrom: float) -> FloatArray:
        """Shifts (tilt, 2) to be applied, for images and volumes of even size."""
        return -self.axis_offset_xy_angstrom[:, ::-1] / pixel_size_angstrom

    def positions(
        self, points_xyz_angstrom: FloatArray, image_size_xy_angstrom: Sequence[float]
    ) -> FloatArray:
        """Give where points (point, 3) from the volume's middle appear, (tilt, point, 2) from the image's."""
        turned = rotations(self.tilt_angle_deg, self.axis_angle_deg, self.level_x_deg)[:, :2]
        rigid = np.einsum("tij,pj->tpi", turned, points_xyz_angstrom) + self.axis_offset_xy_angstrom[:, None]
        field = rigid / np.asarray(image_size_xy_angstrom) + 0.5
        moved = [self._movement(grid, field) for grid in self.movement_xy_angstrom]
        return np.asarray(rigid - np.stack(moved, axis=-1))

    def _movement(self, grid: FloatArray, field_xy: FloatArray) -> FloatArray:
        tilts, points = field_xy.shape[:2]
        if grid.size == 1:
            return np.full((tilts, points), grid.item())
        place = np.broadcast_to(np.linspace(0.0, 1.0, tilts)[:, None, None], (tilts, points, 1))
        at = np.concatenate([place, field_xy[..., ::-1]], axis=-1)
        return interpolated(grid, at.reshape(-1, 3)).reshape(tilts, points)


def write_warp_xml(path: str | Path, series: TiltSeriesRecord) -> None:
    """Write the .xml of a series, tilts in the stack's order, with the defocus where all tilts have one."""
    offsets = warp_offsets_xy_angstrom(series)
    columns = {
        "Angles": [_number(-angle) for angle in series.tilt_angle_deg],
        "Dose": [_number(tilt.dose_before) for tilt in series.tilts],
        "UseTilt": [str(not tilt.excluded) for tilt in series.tilts],
        "AxisAngle": [_number(angle) for angle in series.axis_angle_deg],
        "AxisOffsetX": [_number(x) for x in offsets[:, 0]],
        "AxisOffsetY": [_number(y) for y in offsets[:, 1]],
        "MoviePath": [html.escape(tilt.movie_name) for tilt in series.tilts],
        "FOVFraction": ["1"] * len(series.tilts),
    }
    with synced_text(path) as target:
        target.write(f'<?xml version="1.0" encoding="utf-8"?>\n<TiltSeries {_attributes(series)}>\n')
        for name, values in columns.items():
            target.write(f"\t<{name}>" + "\n".join(values) + f"</{name}>\n")
        target.writelines(_optics(series))
        target.write("</TiltSeries>\n")


def warp_offsets_xy_angstrom(series: TiltSeriesRecord) -> FloatArray:
    """Give Warp's AxisOffsetX and Y (tilt, 2), with the half pixels of odd sizes."""
    image_half = np.array(series.image_size_xy) / 2 - series.image_centre_xy
    volume_half = np.array(series.tomogram_size_xyz) / 2 - series.tomogram_centre_xyz
    turned = series.rotations()[:, :2] @ volume_half
    return np.asarray((turned - series.shift_xy_px - image_half) * series.pixel_size_angstrom)


def write_tomostar(path: str | Path, series: TiltSeriesRecord) -> None:
    """Write the .tomostar that makes Warp look for the series; tilts in the same order as in the .xml."""
    table = pd.DataFrame(
        {
            "wrpMovieName": [tilt.movie_name for tilt in series.tilts],
            "wrpAngleTilt": -series.tilt_angle_deg,
            "wrpAxisAngle": series.axis_angle_deg,
            "wrpDose": [float(tilt.dose_before) for tilt in series.tilts],
        }
    )
    write_star(path, {"": table})


def read_warp_xml(path: str | Path) -> WarpSeries:
    """Read the geometry of a Warp .xml. Raises BadFile when it is none or its lists differ in length."""
    path = Path(path)
    root = _root(path)
    try:
        series = _series(root)
    except (ValueError, TypeError) as error:
        raise BadFile(path, f"has a value that cannot be read ({error})", _CHECK) from error
    lengths = {len(series.angle_deg), len(series.axis_angle_deg), len(series.used), len(series.dose_before)}
    if len(lengths) != 1 or not len(series.angle_deg):
        raise BadFile(path, "has not the same number of angles, axes and doses", _CHECK)
    return series


def _series(root: Any) -> WarpSeries:
    angle = _column(root, "Angles", 0)
    n = len(angle)
    inverted = root.get("AreAnglesInverted", "False") == "True"
    grids = {name: _grid(root, name) for name in ("GridMovementX", "GridMovementY")}
    names = ((root.findtext("MoviePath") or "").strip()).splitlines()
    return WarpSeries(
        movie_names=tuple(name.strip() for name in names),
        angle_deg=angle,
        axis_angle_deg=_column(root, "AxisAngle", n),
        axis_offset_xy_angstrom=np.stack([_column(root, f"AxisOffset{axis}", n) for axis in "XY"], axis=1),
        dose_before=_column(root, "Dose", n),
        used=np.array([word == "True" for word in (root.findtext("UseTilt") or "True " * n).split()]),
        level_x_deg=float(root.get("LevelAngleX") or 0),
        level_y_deg=float(root.get("LevelAngleY") or 0),
        hand=-1 if inverted else 1,
        movement_xy_angstrom=(grids["GridMovementX"], grids["GridMovementY"]),
        defocus_angstrom=_per_tilt(root, "GridCTF", n, _ANGSTROM_PER_UM),
        astigmatism_angstrom=_per_tilt(root, "GridCTFDefocusDelta", n, _ANGSTROM_PER_UM),
        defocus_angle_deg=_per_tilt(root, "GridCTFDefocusAngle", n, 1.0),
    )


def _attributes(series: TiltSeriesRecord) -> str:
    pixel = series.pixel_size_angstrom
    values = {
        "DataDirectory": "",
        "AreAnglesInverted": str(series.hand < 0),
        "PlaneNormal": "0, 0, 1",
        "LevelAngleX": _number(series.x_tilt_deg),
        "LevelAngleY": "0",
        "Bfactor": "0",
        "Weight": "1",
        "MagnificationCorrection": "1, 0, 0, 1",
        "VolumeDimensionsAngstrom": ", ".join(_number(n * pixel) for n in series.tomogram_size_xyz),
        "ImageDimensionsAngstrom": ", ".join(_number(n * pixel) for n in series.image_size_xy),
        "UnselectFilter": "False",
        "UnselectManual": "",
        "CTFResolutionEstimate": _number(_mean([tilt.ctf_resolution_angstrom for tilt in series.tilts])),
    }
    return " ".join(f'{name}="{value}"' for name, value in values.items())


def _optics(series: TiltSeriesRecord) -> Iterable[str]:
    """Warp has the mean of both defoci and their difference, in µm, and the phase in units of pi."""
    tilts = series.tilts
    pairs = [(tilt.defocus_u_angstrom, tilt.defocus_v_angstrom) for tilt in tilts]
    known = [(u, v) for u, v in pairs if u is not None and v is not None]
    fitted = len(known) == len(tilts)
    mean = [(u + v) / 2 / _ANGSTROM_PER_UM for u, v in known]
    delta = [(u - v) / _ANGSTROM_PER_UM for u, v in known]
    angle = [float(tilt.defocus_angle_deg or 0) for tilt in tilts]
    phase = [tilt.phase_shift_deg / 180.0 for tilt in tilts]
    values = {
        "PixelSize": series.pixel_size_angstrom,
        "Voltage": series.voltage_kv,
        "Cs": series.spherical_aberration_mm,
        "Amplitude": series.amplitude_contrast,
        "Defocus": _mean([*mean]),
        "DefocusDelta": _mean([*delta]),
        "DefocusAngle": _mean([*angle]) if fitted else 0.0,
        "PhaseShift": _mean([*phase]),
    }
    yield "\t<CTF>\n"
    yield from (f'\t\t<Param Name="{name}" Value="{_number(value)}" />\n' for name, value in values.items())
    yield "\t</CTF>\n"
    if fitted:
        yield from _grid_lines("GridCTF", mean)
        yield from _grid_lines("GridCTFDefocusDelta", delta)
        yield from _grid_lines("GridCTFDefocusAngle", angle)
        yield from _grid_lines("GridCTFPhase", phase)
    yield from _grid_lines("GridMovementX", [0.0])
    yield from _grid_lines("GridMovementY", [0.0])


def _grid_lines(name: str, values: list[float]) -> Iterable[str]:
    yield f'\t<{name} Width="1" Height="1" Depth="{len(values)}" MarginX="0" MarginY="0" MarginZ="0">\n'
    yield from (
        f'\t\t<Node X="0" Y="0" Z="{z}" Value="{_number(value)}" />\n' for z, value in enumerate(values)
    )
    yield f"\t</{name}>\n"


def _mean(values: list[float | None]) -> float:
    return mean_of_known(values) or 0.0


def _number(value: float) -> str:
    return f"{float(value):.9g}"


def _column(root: Any, name: str, length: int) -> FloatArray:
    text = root.findtext(name)
    return np.zeros(length) if text is None else np.array([float(word) for word in text.split()])


def _grid(root: Any, name: str) -> FloatArray:
    node = root.find(name)
    return np.zeros((1, 1, 1)) if node is None else grid_of(node)


def _per_tilt(root: Any, name: str, tilts: int, unit: float) -> FloatArray | None:
    """Give the grid's middle at each tilt, None where the series has not been fitted."""
    grid = _grid(root, name)
    if tilts < 2 or len(grid) != tilts:
        return None
    places = np.linspace(0.0, 1.0, tilts)
    return interpolated(grid, np.stack([places, *[np.full(tilts, 0.5)] * 2], axis=1)) * unit


def _root(path: Path) -> Any:
    raw = read_whole(path, _LARGEST_BYTES, "Warp's .xml", _CHECK)
    try:
        root = ElementTree.fromstring(raw)
    except (DefusedXmlException, ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadFile(path, f"is not XML that can be read ({error})", _CHECK) from error
    if root.tag != "TiltSeries":
        raise BadFile(path, f"describes a {root.tag}, not a TiltSeries", _CHECK)
    return root
