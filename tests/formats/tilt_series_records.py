"""Tilt series with everything different from tilt to tilt, for the tests of the formats."""

from dataclasses import replace

import numpy as np

from tomofly.formats.tilt_record import TiltRecord, TiltSeriesRecord
from tomofly.imaging.tilt_geometry import TiltGeometry


def record(
    tilts: int = 7,
    seed: int = 3,
    image_size_xy: tuple[int, int] = (926, 958),
    tomogram_size_xyz: tuple[int, int, int] = (940, 912, 300),
    **changes: object,
) -> TiltSeriesRecord:
    """A series of 2.7 Å pixels, axis near 85°, shifts of tens of pixels, dose-symmetric order."""
    random = np.random.default_rng(seed)
    nominal = np.linspace(-54.0, 57.0, tilts)
    order = np.argsort(np.argsort(np.abs(nominal), kind="stable"))
    made = tuple(
        TiltRecord(
            movie_name=f"frames/TS_1_{order[n]:03d}_{nominal[n]:.1f}.tif",
            tilt_angle_deg=float(nominal[n] + 2.3 + random.normal(0, 0.1)),
            axis_angle_deg=float(85.3 + random.normal(0, 0.2)),
            shift_yx_px=(float(random.normal(0, 30)), float(random.normal(0, 50))),
            nominal_tilt_deg=float(nominal[n]),
            acquisition_order=int(order[n]),
            dose=3.1,
            dose_before=float(3.1 * order[n]),
            image_name=f"images/TS_1_{n:03d}.mrc",
            motion_star=f"images/TS_1_{n:03d}.star",
            frame_count=8,
            nominal_defocus_um=4.0,
            defocus_u_angstrom=float(40000 + 300 * n),
            defocus_v_angstrom=float(39500 + 280 * n),
            defocus_angle_deg=float(-60 + 17 * n),
            ctf_resolution_angstrom=7.5,
        )
        for n in range(tilts)
    )
    base = TiltSeriesRecord(
        name="TS_1",
        tilts=made,
        image_size_xy=image_size_xy,
        pixel_size_angstrom=2.7,
        tomogram_size_xyz=tomogram_size_xyz,
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
        hand=-1,
        movie_pixel_size_angstrom=1.35,
        nominal_axis_angle_deg=84.0,
        x_tilt_deg=3.7,
    )
    return replace(base, **changes)


def seen_at(series: TiltSeriesRecord, points_xyz: np.ndarray) -> np.ndarray:
    """Indices (tilt, point, 2) as (x, y), from 0, at which points (point, 3) of tomogram indices are seen."""
    geometry = TiltGeometry(
        np.array([tilt.tilt_angle_deg for tilt in series.tilts]),
        np.array([tilt.axis_angle_deg for tilt in series.tilts]),
        np.array([tilt.shift_yx_px for tilt in series.tilts]),
        series.x_tilt_deg,
    )
    centred = points_xyz - np.array([n // 2 for n in series.tomogram_size_xyz])
    return geometry.project(centred[:, ::-1])[..., ::-1] + np.array([n // 2 for n in series.image_size_xy])


def beads(series: TiltSeriesRecord, count: int = 20, seed: int = 5) -> np.ndarray:
    """Indices (bead, 3) as (x, y, z) anywhere in the tomogram."""
    return np.random.default_rng(seed).uniform(0, 1, (count, 3)) * (np.array(series.tomogram_size_xyz) - 1)
