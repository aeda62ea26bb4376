"""What is true of a simulated tilt series, as written beside it; the processing never reads it."""

from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.spatial.transform import Rotation

from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_movie import TiltCamera
from tomofly.simulate.tilt_structures import bead_model
from tomofly.simulate.truth import TRUTH_SUFFIX, OpticsTruth


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TiltParticleTruth(_Fact):
    """One particle: centred (x, y, z) in the levelled specimen, Å, and RELION's rot, tilt, psi.

    An atom at r (x, y, z) of the structure lies at transpose(Rz(rot) Ry(tilt) Rz(psi)) r from there.
    """

    xyz_angstrom: tuple[float, float, float]
    rot_deg: float
    tilt_deg: float
    psi_deg: float
    structure: str
    diameter_angstrom: float


class TiltTruth(_Fact):
    """One tilt, numbered in the order taken.

    `shift_yx_px` is what must be applied to the image at its first frame, `frame_shift_yx_px` (frame, 2)
    what brings each frame onto that one. `optics` is at the tilt axis.
    """

    order: int
    file: str
    nominal_tilt_deg: float
    reported_tilt_deg: float
    tilt_angle_deg: float
    axis_angle_deg: float
    shift_yx_px: tuple[float, float]
    dose_before_e_per_a2: float
    optics: OpticsTruth
    frame_shift_yx_px: list[tuple[float, float]]
    faults: list[str]


class DeformationTruth(_Fact):
    """The displacement field of `tomofly.simulate.tilt_views.Deformation`."""

    waves_per_angstrom: list[tuple[float, float]]
    phases: list[tuple[float, float]]
    amplitude_angstrom: list[tuple[float, float, float]]
    settling_dose_e_per_a2: float
    total_dose_e_per_a2: float


class SeriesTruth(_Fact):
    """All that is true of one series.

    A point p (x, y, z) of the specimen, centred, in Å, appears in tilt i at (x, y) =
    [Rz(axis_i) Ry(tilt_i) Rx(x_tilt) p] / pixel - shift_i from the pixel n // 2 of each axis, with
    right-handed rotations; its defocus is that of the tilt plus `hand` x the third component.
    `series` and `microscope` make the same series again.
    """

    key: str
    series: int
    microscope: TiltSeriesConfig
    frames: int
    frame_yx_px: tuple[int, int]
    pixel_size_angstrom: float
    dose_per_tilt_e_per_a2: float
    reported_axis_deg: float
    pre_tilt_deg: float
    x_tilt_deg: float
    hand: int
    thickness_angstrom: float
    tilts: list[TiltTruth]
    particles: list[TiltParticleTruth]
    gold_xyz_angstrom: list[tuple[float, float, float]]
    vesicle_radius_angstrom: float | None
    deformation: DeformationTruth
    gain_file: str = ""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The truth that `model_dump_json` wrote."""
        return cls.model_validate_json(text)


def series_truth(
    camera: TiltCamera, key: str, files: list[str], reported_deg: list[float], faults: list[list[str]]
) -> SeriesTruth:
    """Gather the truth of one series; the lists have one entry per tilt, in the order taken."""
    config, views = camera.config, camera.views
    bend = views.deformation
    return SeriesTruth(
        key=key,
        series=camera.series,
        microscope=config,
        frames=config.frames,
        frame_yx_px=config.detector_yx_px,
        pixel_size_angstrom=config.pixel_size_angstrom,
        dose_per_tilt_e_per_a2=config.dose_per_tilt_e_per_a2,
        reported_axis_deg=config.axis_angle_deg + config.axis_error_deg,
        pre_tilt_deg=config.pre_tilt_deg,
        x_tilt_deg=config.x_tilt_deg,
        hand=config.hand,
        thickness_angstrom=config.thickness_angstrom,
        tilts=[
            _tilt_truth(camera, tilt, file, angle, wrong)
            for tilt, (file, angle, wrong) in enumerate(zip(files, reported_deg, faults, strict=True))
        ],
        particles=_particles(camera),
        gold_xyz_angstrom=camera.specimen.gold_xyz_angstrom.round(3).tolist(),
        vesicle_radius_angstrom=config.vesicle_radius_angstrom,
        deformation=DeformationTruth(
            waves_per_angstrom=bend.waves_per_angstrom.tolist(),
            phases=bend.phases.tolist(),
            amplitude_angstrom=bend.amplitude_angstrom.tolist(),
            settling_dose_e_per_a2=bend.settling_dose_e_per_a2,
            total_dose_e_per_a2=bend.total_dose_e_per_a2,
        ),
    )


def _tilt_truth(
    camera: TiltCamera, tilt: int, file: str, reported_deg: float, faults: list[str]
) -> TiltTruth:
    views = camera.views
    shift_y, shift_x = views.shift_yx_angstrom[tilt] / camera.config.pixel_size_angstrom
    return TiltTruth(
        order=tilt,
        file=file,
        nominal_tilt_deg=float(views.nominal_tilt_deg[tilt]),
        reported_tilt_deg=reported_deg,
        tilt_angle_deg=float(views.tilt_angle_deg[tilt]),
        axis_angle_deg=float(views.axis_angle_deg[tilt]),
        shift_yx_px=(float(shift_y), float(shift_x)),
        dose_before_e_per_a2=float(views.dose_before_e_per_a2[tilt]),
        optics=views.optics[tilt],
        frame_shift_yx_px=camera.frame_shifts_yx_px(tilt).round(4).tolist(),
        faults=faults,
    )


def _particles(camera: TiltCamera) -> list[TiltParticleTruth]:
    """The particles of the slab, also those that no untilted view shows."""
    specimen = camera.specimen
    if not len(specimen.particle_rotations):
        return []
    # The rotation is the transpose of RELION's matrix.
    turns = Rotation.from_matrix(specimen.particle_rotations.transpose(0, 2, 1))
    angles = turns.as_euler("ZYZ", degrees=True).round(4)
    return [
        TiltParticleTruth(
            xyz_angstrom=(float(place[0]), float(place[1]), float(place[2])),
            rot_deg=float(rot),
            tilt_deg=float(tilt),
            psi_deg=float(psi),
            structure=name,
            diameter_angstrom=bead_model(name, 6.0).diameter_angstrom,
        )
        for place, (rot, tilt, psi), name in zip(
            np.round(specimen.particle_xyz_angstrom, 3), angles, specimen.particle_structures, strict=True
        )
    ]


def series_truth_beside(folder: Path, key: str) -> SeriesTruth:
    """The truth of the series `key` in a folder. Raises FileNotFoundError where there is none."""
    return SeriesTruth.from_json((folder / f"{key}{TRUTH_SUFFIX}").read_text(encoding="utf-8"))
