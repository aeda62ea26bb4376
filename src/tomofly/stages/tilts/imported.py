"""Alignments that another program made: IMOD's .xf with .tlt, and AreTomo's .aln."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.aretomo import read_aln
from tomofly.formats.imod import geometry_of_transforms, read_angles, read_xf
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.model import BadInput
from tomofly.stages.tilts.files import SeriesFile


def imported_geometry(folder: Path, series: SeriesFile) -> tuple[TiltGeometry, npt.NDArray[np.bool_], Path]:
    """Give the geometry that another program found, in pixels of the series' stack, and which tilts it has.

    Its images are those of the microscope, in the order of the stack. Raises BadInput where there is none,
    or one of another number of tilts.
    """
    name = Path(series.name).name
    aln, xf, tlt = (folder / f"{name}{suffix}" for suffix in (".aln", ".xf", ".tlt"))
    if aln.is_file():
        geometry, used = _of_aretomo(aln, series)
        return geometry, used, aln
    if xf.is_file() and tlt.is_file():
        return _of_imod(xf, tlt, series), np.ones(len(series.used), dtype=bool), xf
    raise BadInput(
        f"{folder} has neither {aln.name} nor {xf.name} with {tlt.name}",
        "Put them there, or choose another series_alignment.method",
    )


def _of_aretomo(path: Path, series: SeriesFile) -> tuple[TiltGeometry, npt.NDArray[np.bool_]]:
    """Take AreTomo's tilts to where they stand in the stack; those that it left out stay as they were set."""
    found = read_aln(path)
    count = len(series.used)
    if found.section.size and int(found.section.max()) >= count:
        raise BadInput(f"{path.name} has a section {int(found.section.max()) + 1}, the series has {count}")
    binning = _binning(found.raw_size_xyz, series)
    used = np.zeros(count, dtype=bool)
    used[found.section] = True
    tilts, axes, shifts = series.tilt_angle_deg, np.full(count, series.axis_angle_deg), np.zeros((count, 2))
    tilts[found.section] = found.tilt_angle_deg
    axes[found.section] = found.axis_angle_deg
    shifts[found.section] = found.shift_yx_px / binning
    return TiltGeometry(tilts, axes, shifts), used


def _binning(raw_size: tuple[int, int, int] | None, series: SeriesFile) -> float:
    columns = series.full_shape_yx[1] if raw_size is None else raw_size[0]
    return columns / series.shape_yx[1]


def _of_imod(xf: Path, tlt: Path, series: SeriesFile) -> TiltGeometry:
    """Take IMOD's transforms of the full images."""
    transforms, angles = read_xf(xf), read_angles(tlt)
    count = len(series.used)
    if len(transforms) != count or len(angles) != count:
        found = f"{len(transforms)} transforms and {len(angles)} angles"
        raise BadInput(f"{xf.name} and {tlt.name} have {found}, the series has {count} tilts")
    # A binned series' size is known to a pixel; cameras have even ones, and IMOD's middle depends on that.
    exact = series.full_shape_yx == series.shape_yx
    rows, columns = (side if exact else 2 * round(side / 2) for side in series.full_shape_yx)
    size = (columns, rows)
    axis, shift, _ = geometry_of_transforms(transforms, angles, size, (columns, rows, 2), 0.0)
    geometry = TiltGeometry(angles, axis, shift)
    return geometry.binned(series.pixel_size_angstrom / series.full_pixel_size_angstrom)
