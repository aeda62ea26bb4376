"""RELION 4's STAR files of tomography: series with a projection matrix per tilt, and particles in pixels.

A matrix takes a position in the tomogram, in pixels of the tilt series, to one in the image; as matrix and
positions come from here together, both count indices from 0. Zivanov et al. (2022).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tomofly.formats.errors import BadFile
from tomofly.formats.relion_tomo import PROJECTION_LABELS, TomoParticle, projection_matrices, read_matrices
from tomofly.formats.star import StarBlock, StarValue, read_star, write_star
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord

_CHECK = "Check that it is the tomograms.star of RELION 4"


def write_relion4_tomograms(path: str | Path, series: Iterable[TiltSeriesRecord]) -> None:
    """Write all series, without their excluded tilts, which must not be in the stacks either.

    RELION 4 takes tilt n of a series from section n of the stack that ``stack_name`` names. Raises
    ValueError for a series without a stack or with a tilt whose defocus is not known.
    """
    used = [one.used() for one in series]
    blocks: dict[str, StarBlock] = {"global": pd.DataFrame([_global_row(one) for one in used])}
    blocks |= {one.name: _tilts(one) for one in used}
    write_star(path, blocks)


def write_relion4_particles(
    path: str | Path, particles: Iterable[TomoParticle], series: Iterable[TiltSeriesRecord]
) -> None:
    """Write particles with coordinates in pixels from the tomogram's first, counted from 0."""
    by_name = {one.name: one for one in series}
    particles = list(particles)
    centres = np.array([by_name[p.series_name].tomogram_centre_xyz for p in particles]).reshape(-1, 3)
    at = np.array([p.centred_xyz_px for p in particles]).reshape(-1, 3) + centres
    angles = np.array([p.angles_deg or (0.0, 0.0, 0.0) for p in particles]).reshape(-1, 3)
    number = np.arange(1, len(particles) + 1)
    columns: dict[str, object] = {
        "rlnTomoName": [p.series_name for p in particles],
        "rlnTomoParticleId": number,
        "rlnTomoManifoldIndex": np.ones(len(particles), np.int64),
        **{f"rlnCoordinate{axis}": at[:, n] for n, axis in enumerate("XYZ")},
        **{f"rlnOrigin{axis}Angst": np.zeros(len(particles)) for axis in "XYZ"},
        **{f"rlnAngle{angle}": angles[:, n] for n, angle in enumerate(("Rot", "Tilt", "Psi"))},
        "rlnClassNumber": np.ones(len(particles), np.int64),
        "rlnRandomSubset": 2 - number % 2,
    }
    write_star(path, {"particles": pd.DataFrame(columns)})


def read_relion4_projections(path: str | Path, series_name: str) -> FloatArray:
    """Give the matrices (tilt, 4, 4) of one series. Raises KeyError when the file has no such series."""
    path = Path(path)
    block = read_star(path)[series_name]
    if not isinstance(block, pd.DataFrame):
        raise BadFile(path, f"has no table of tilts for {series_name}", _CHECK)
    return read_matrices(path, block)


def _global_row(series: TiltSeriesRecord) -> dict[str, StarValue]:
    if series.stack_name is None:
        raise ValueError(f"{series.name} has no stack of its tilts, which RELION 4 needs")
    width, height, depth = series.tomogram_size_xyz
    return {
        "rlnTomoName": series.name,
        "rlnTomoTiltSeriesName": series.stack_name,
        "rlnTomoFrameCount": len(series.tilts),
        "rlnTomoSizeX": width,
        "rlnTomoSizeY": height,
        "rlnTomoSizeZ": depth,
        "rlnTomoHand": float(series.hand),
        "rlnOpticsGroupName": series.optics_group,
        "rlnTomoTiltSeriesPixelSize": float(series.pixel_size_angstrom),
        "rlnVoltage": float(series.voltage_kv),
        "rlnSphericalAberration": float(series.spherical_aberration_mm),
        "rlnAmplitudeContrast": float(series.amplitude_contrast),
        "rlnTomoImportFractionalDose": float(np.mean([tilt.dose for tilt in series.tilts])),
    }


def _tilts(series: TiltSeriesRecord) -> pd.DataFrame:
    unknown = [tilt for tilt in series.tilts if None in (tilt.defocus_u_angstrom, tilt.defocus_v_angstrom)]
    if unknown:
        what = f"the defocus of {len(unknown)} tilts of {series.name} is not known"
        raise ValueError(f"{what}: fit the CTF first, RELION 4 needs it")
    matrices = projection_matrices(series)
    columns: dict[str, object] = {
        label: [f"[{','.join(f'{value:.12g}' for value in matrix[row])}]" for matrix in matrices]
        for row, label in enumerate(PROJECTION_LABELS)
    }
    columns |= {
        "rlnDefocusU": [float(tilt.defocus_u_angstrom or 0) for tilt in series.tilts],
        "rlnDefocusV": [float(tilt.defocus_v_angstrom or 0) for tilt in series.tilts],
        "rlnDefocusAngle": [float(tilt.defocus_angle_deg or 0) for tilt in series.tilts],
        "rlnCtfScalefactor": np.cos(np.deg2rad(series.tilt_angle_deg)),
        "rlnMicrographPreExposure": [float(tilt.dose_before) for tilt in series.tilts],
    }
    return pd.DataFrame(columns)
