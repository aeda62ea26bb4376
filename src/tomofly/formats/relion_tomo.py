"""RELION 5's STAR files of tomography. Zivanov et al. (2022), Burt et al. (2024).

RELION 5 sees a point of the tomogram, by its index from 0, at T(shift) · T(image // 2) · Rz(ZRot) ·
Ry(YTilt) · Rx(XTilt) · T(-tomogram // 2), halves rounded down, sizes and indices in pixels of the tilt
series: the project's origin and geometry, with the shift's sign turned and in Å. Only its centred coordinates
of particles count from size / 2, half a pixel further where a size is odd.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomofly.formats.errors import BadFile
from tomofly.formats.star import StarValue, read_star, write_star
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord, rotations

_CHECK = "Check that it is the STAR file of one tilt series that RELION 5 has aligned"
PROJECTION_LABELS = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW")
_ALIGNMENT = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")


@dataclass(frozen=True)
class TomoParticle:
    """A particle: centred position in the tomogram and its orientation in RELION's angles, if known.

    ``centred_xyz_px`` is the index less size // 2, in pixels of the tilt series.
    """

    series_name: str
    centred_xyz_px: tuple[float, float, float]
    angles_deg: tuple[float, float, float] | None = None
    score: float | None = None


@dataclass(frozen=True)
class RelionTilts:
    """The alignment of one series as RELION 5 has it, in the project's sense, one row per tilt of the file.

    ``projections`` (tilt, 4, 4): RELION's own matrices where the file has them. ``table``: all columns.
    """

    tilt_angle_deg: FloatArray
    axis_angle_deg: FloatArray
    x_tilt_deg: FloatArray
    shift_yx_angstrom: FloatArray
    dose_before: FloatArray
    nominal_tilt_deg: FloatArray
    projections: FloatArray | None
    table: pd.DataFrame

    def order(self) -> npt.NDArray[np.int64]:
        """Give for each row its place in the order of acquisition, from 0."""
        return np.argsort(np.argsort(self.dose_before, kind="stable")).astype(np.int64)


def projection_matrices(series: TiltSeriesRecord) -> FloatArray:
    """Give RELION's matrices (tilt, 4, 4) from a tomogram's indices (x, y, z), from 0, to an image's."""
    return _projections(
        series.rotations(), series.shift_xy_px, series.image_size_xy, series.tomogram_size_xyz
    )


def write_tilt_series(path: str | Path, series: TiltSeriesRecord) -> None:
    """Write the STAR file of one series for RELION 5: its used tilts in the order of acquisition."""
    used = series.used().in_order_of_acquisition()
    tilts = used.tilts
    u, v = ([getattr(tilt, f"defocus_{axis}_angstrom") for tilt in tilts] for axis in "uv")
    columns: dict[str, Iterable[object]] = {
        "rlnMicrographMovieName": [tilt.movie_name for tilt in tilts],
        "rlnTomoTiltMovieFrameCount": [tilt.frame_count for tilt in tilts],
        "rlnTomoTiltMovieIndex": [tilt.acquisition_order + 1 for tilt in tilts],
        "rlnTomoNominalStageTiltAngle": [tilt.nominal_tilt_deg for tilt in tilts],
        "rlnTomoNominalTiltAxisAngle": [series.nominal_axis_angle_deg] * len(tilts),
        "rlnTomoNominalDefocus": [_negative(tilt.nominal_defocus_um) for tilt in tilts],
        "rlnMicrographPreExposure": [float(tilt.dose_before) for tilt in tilts],
        "rlnMicrographNameEven": [tilt.even_name for tilt in tilts],
        "rlnMicrographNameOdd": [tilt.odd_name for tilt in tilts],
        "rlnMicrographName": [tilt.image_name for tilt in tilts],
        "rlnMicrographMetadata": [tilt.motion_star for tilt in tilts],
        **_motion_columns(used),
        "rlnDefocusU": u,
        "rlnDefocusV": v,
        "rlnCtfAstigmatism": [_difference(first, second) for first, second in zip(u, v, strict=True)],
        "rlnDefocusAngle": [tilt.defocus_angle_deg for tilt in tilts],
        "rlnPhaseShift": [tilt.phase_shift_deg or None for tilt in tilts],
        "rlnCtfMaxResolution": [tilt.ctf_resolution_angstrom for tilt in tilts],
        "rlnCtfScalefactor": np.cos(np.deg2rad(used.tilt_angle_deg)),
        **_alignment_columns(used),
    }
    known = {label: list(values) for label, values in columns.items() if not _missing(values)}
    write_star(path, {series.name: pd.DataFrame(known)})


def write_tomograms(
    path: str | Path, series: Mapping[str, TiltSeriesRecord], *, tomograms: bool = True
) -> None:
    """Write RELION 5's list of series by the names of their STAR files; of tomograms, with their sizes."""
    rows = [_tomogram_row(star, one, tomograms) for star, one in series.items()]
    write_star(path, {"global": pd.DataFrame(rows).dropna(axis=1, how="any")})


def write_particles(
    path: str | Path, particles: Iterable[TomoParticle], series: Iterable[TiltSeriesRecord]
) -> None:
    """Write particles for RELION 5, in Å from the middle of their tomogram. Raises KeyError for another's."""
    by_name = {one.name: one for one in series}
    particles = list(particles)
    groups = _optics(by_name.values())
    at = np.array([relion_centred_angstrom(p, by_name[p.series_name]) for p in particles]).reshape(-1, 3)
    angles = np.array([p.angles_deg or (0.0, 0.0, 0.0) for p in particles]).reshape(-1, 3)
    number = {str(name): index for index, name in enumerate(groups["rlnOpticsGroupName"], start=1)}
    columns: dict[str, object] = {
        "rlnTomoName": [p.series_name for p in particles],
        "rlnTomoParticleId": np.arange(1, len(particles) + 1),
        **{f"rlnCenteredCoordinate{axis}Angst": at[:, n] for n, axis in enumerate("XYZ")},
        **{f"rlnAngle{angle}": angles[:, n] for n, angle in enumerate(("Rot", "Tilt", "Psi"))},
        "rlnOpticsGroup": [number[by_name[p.series_name].optics_group] for p in particles],
    }
    if particles and all(p.score is not None for p in particles):
        columns["rlnAutopickFigureOfMerit"] = [float(p.score or 0) for p in particles]
    write_star(path, {"optics": groups, "particles": pd.DataFrame(columns)})


def write_optimisation_set(path: str | Path, tomograms: str, particles: str) -> None:
    """Write the file that names both lists, by which RELION's jobs take them together."""
    names: dict[str, StarValue] = {"rlnTomoParticlesFile": particles, "rlnTomoTomogramsFile": tomograms}
    write_star(path, {"optimisation_set": names})


def relion_centred_angstrom(particle: TomoParticle, series: TiltSeriesRecord) -> FloatArray:
    """Give a particle's rlnCenteredCoordinate (x, y, z): from size / 2, not size // 2."""
    half = np.array(series.tomogram_size_xyz) / 2 - series.tomogram_centre_xyz
    return np.asarray((np.array(particle.centred_xyz_px) - half) * series.pixel_size_angstrom)


def read_relion_tilts(path: str | Path) -> RelionTilts:
    """Read the STAR file of one aligned series. Raises BadFile when it lacks a column of the alignment."""
    path = Path(path)
    tables = [block for block in read_star(path).values() if isinstance(block, pd.DataFrame)]
    if len(tables) != 1 or not len(tables[0]):
        raise BadFile(path, "is not one table of tilts", _CHECK)
    table = tables[0]
    missing = [label for label in _ALIGNMENT if label not in table]
    if missing:
        raise BadFile(path, f"has no {', '.join(missing)}", _CHECK)
    x_tilt, y_tilt, z_rot, x, y = (_numbers(path, table, label) for label in _ALIGNMENT)
    return RelionTilts(
        tilt_angle_deg=y_tilt,
        axis_angle_deg=z_rot,
        x_tilt_deg=x_tilt,
        shift_yx_angstrom=-np.stack([y, x], axis=1),
        dose_before=_numbers(path, table, "rlnMicrographPreExposure"),
        nominal_tilt_deg=_numbers(path, table, "rlnTomoNominalStageTiltAngle"),
        projections=read_matrices(path, table)
        if all(label in table for label in PROJECTION_LABELS)
        else None,
        table=table,
    )


def relion_projections(
    tilts: RelionTilts,
    pixel_size_angstrom: float,
    image_size_xy: tuple[int, int],
    tomogram_size_xyz: tuple[int, int, int],
) -> FloatArray:
    """Give RELION's matrices (tilt, 4, 4) of a series read from its STAR file."""
    turned = rotations(tilts.tilt_angle_deg, tilts.axis_angle_deg, tilts.x_tilt_deg)
    shift_xy = tilts.shift_yx_angstrom[:, ::-1] / pixel_size_angstrom
    return _projections(turned, shift_xy, image_size_xy, tomogram_size_xyz)


def read_matrices(path: Path, table: pd.DataFrame) -> FloatArray:
    """Give the matrices (tilt, 4, 4) of a table's four columns. Raises BadFile for a row that is none."""
    rows = [[_vector(path, text) for text in table[label]] for label in PROJECTION_LABELS]
    return np.moveaxis(np.array(rows, dtype=np.float64), 0, 1)


def _projections(
    turned: FloatArray,
    shift_xy_px: FloatArray,
    image_size: tuple[int, int],
    tomogram_size: tuple[int, int, int],
) -> FloatArray:
    matrices = np.tile(np.eye(4), (len(turned), 1, 1))
    matrices[:, :3, :3] = turned
    matrices[:, :3, 3] = -turned @ np.array([n // 2 for n in tomogram_size])
    matrices[:, :2, 3] += np.array([n // 2 for n in image_size]) - shift_xy_px
    return matrices


def _alignment_columns(series: TiltSeriesRecord) -> dict[str, Iterable[object]]:
    shift = -series.shift_xy_px * series.pixel_size_angstrom
    x_tilt = np.full(len(series.tilts), series.x_tilt_deg)
    columns = (x_tilt, series.tilt_angle_deg, series.axis_angle_deg, shift[:, 0], shift[:, 1])
    return dict(zip(_ALIGNMENT, columns, strict=True))


def _motion_columns(series: TiltSeriesRecord) -> dict[str, Iterable[object]]:
    motion = [tilt.motion_angstrom or (None, None, None) for tilt in series.tilts]
    labels = [f"rlnAccumMotion{part}" for part in ("Total", "Early", "Late")]
    return dict(zip(labels, zip(*motion, strict=True), strict=True))


def _tomogram_row(star: str, series: TiltSeriesRecord, tomogram: bool) -> dict[str, StarValue | None]:
    row: dict[str, StarValue | None] = {
        "rlnTomoName": series.name,
        "rlnTomoTiltSeriesStarFile": star,
        "rlnVoltage": float(series.voltage_kv),
        "rlnSphericalAberration": float(series.spherical_aberration_mm),
        "rlnAmplitudeContrast": float(series.amplitude_contrast),
        "rlnMicrographOriginalPixelSize": float(series.movie_pixel_size_angstrom),
        "rlnTomoHand": float(series.hand),
        "rlnOpticsGroupName": series.optics_group,
        "rlnTomoTiltSeriesPixelSize": float(series.pixel_size_angstrom),
    }
    if tomogram:
        row |= {
            f"rlnTomoSize{axis}": size for axis, size in zip("XYZ", series.tomogram_size_xyz, strict=True)
        }
        row["rlnTomoTomogramBinning"] = float(series.tomogram_binning)
        row["rlnTomoReconstructedTomogram"] = series.tomogram_name
        halves = series.half_names or (None, None)
        row |= {f"rlnTomoReconstructedTomogramHalf{n}": name for n, name in enumerate(halves, start=1)}
    return row


def _optics(series: Iterable[TiltSeriesRecord]) -> pd.DataFrame:
    groups = {one.optics_group: one for one in series}
    return pd.DataFrame(
        {
            "rlnOpticsGroup": np.arange(1, len(groups) + 1),
            "rlnOpticsGroupName": list(groups),
            "rlnSphericalAberration": [float(one.spherical_aberration_mm) for one in groups.values()],
            "rlnVoltage": [float(one.voltage_kv) for one in groups.values()],
            "rlnAmplitudeContrast": [float(one.amplitude_contrast) for one in groups.values()],
            "rlnTomoTiltSeriesPixelSize": [float(one.pixel_size_angstrom) for one in groups.values()],
        }
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _missing(values: Iterable[object]) -> bool:
    """RELION wants a value in every row: a column that is not known of all tilts is left out."""
    return any(value is None for value in values)


def _numbers(path: Path, table: pd.DataFrame, label: str) -> FloatArray:
    if label not in table:
        raise BadFile(path, f"has no {label}", _CHECK)
    try:
        return table[label].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise BadFile(path, f"has a value of {label} that is no number", _CHECK) from error


def _vector(path: Path, text: object) -> list[float]:
    try:
        numbers = [float(word) for word in re.split(r"[,\s]+", str(text).strip("[] \t"))]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise BadFile(path, f"has a row of a projection matrix that is not four numbers: {text!r}", _CHECK)
    return numbers
