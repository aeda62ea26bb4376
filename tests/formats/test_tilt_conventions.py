"""A bead at a known place goes through each writer and is seen at the same place by that format's equations.

The equations stand here as each program has them, apart from the code that writes the files.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.formats.tilt_series_records import beads, record, seen_at
from tomofly.formats.aretomo import read_aln, write_aln
from tomofly.formats.imod import geometry_of_transforms, read_angles, read_xf, write_imod
from tomofly.formats.relion4_tomo import (
    read_relion4_projections,
    write_relion4_particles,
    write_relion4_tomograms,
)
from tomofly.formats.relion_tomo import TomoParticle, write_particles, write_tilt_series
from tomofly.formats.star import read_star
from tomofly.formats.tilt_record import TiltSeriesRecord, rotations
from tomofly.formats.warp_xml import read_warp_xml, write_warp_xml
from tomofly.imaging.tilt_geometry import TiltGeometry

EVEN = ((926, 958), (940, 912, 300))
ODD = ((927, 957), (941, 913, 301))
SIZES = pytest.mark.parametrize("sizes", [EVEN, ODD, (EVEN[0], ODD[1]), (ODD[0], EVEN[1])])


def series_of(sizes, **changes) -> TiltSeriesRecord:
    return record(image_size_xy=sizes[0], tomogram_size_xyz=sizes[1], **changes)


def particles_at(series: TiltSeriesRecord, points: np.ndarray) -> list[TomoParticle]:
    centre = np.array([n // 2 for n in series.tomogram_size_xyz])
    return [TomoParticle(series.name, tuple(point)) for point in points - centre]


def test_rotations_are_those_of_the_tilt_geometry():
    series = record()
    geometry = TiltGeometry(series.tilt_angle_deg, series.axis_angle_deg, np.zeros((7, 2)), 3.7)
    np.testing.assert_allclose(series.rotations(), geometry.rotations(), atol=1e-15)
    np.testing.assert_allclose(rotations(series.tilt_angle_deg, 10.0, 0.0).shape, (7, 3, 3))


# --- RELION 5


def relion5_sees(table, pixel: float, image, tomogram, points: np.ndarray) -> np.ndarray:
    """s1 · s2 · Rz · Ry · Rx · s0, with sizes halved as whole numbers."""
    seen = []
    for row in table.itertuples():
        matrix = np.eye(4)
        matrix[:3, 3] = [-int(n / 2) for n in tomogram]
        for angle, first, second in (
            (row.rlnTomoXTilt, 1, 2),
            (row.rlnTomoYTilt, 2, 0),
            (row.rlnTomoZRot, 0, 1),
        ):
            turn = np.eye(4)
            turn[first, first] = turn[second, second] = np.cos(np.deg2rad(angle))
            turn[second, first] = np.sin(np.deg2rad(angle))
            turn[first, second] = -turn[second, first]
            matrix = turn @ matrix
        matrix[:2, 3] += [int(n / 2) for n in image]
        matrix[:2, 3] += [row.rlnTomoXShiftAngst / pixel, row.rlnTomoYShiftAngst / pixel]
        seen.append((points @ matrix[:3, :3].T + matrix[:3, 3])[:, :2])
    return np.array(seen)


@SIZES
def test_bead_through_relion_5(tmp_path, sizes):
    series = series_of(sizes)
    points = beads(series)
    write_tilt_series(tmp_path / "TS_1.star", series)
    write_particles(tmp_path / "particles.star", particles_at(series, points), [series])
    (table,) = read_star(tmp_path / "TS_1.star").values()
    particles = read_star(tmp_path / "particles.star")["particles"]
    centred = particles[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    # RELION finds the index of a particle from half the size, not rounded
    index = centred / series.pixel_size_angstrom + np.array(series.tomogram_size_xyz) / 2.0
    seen = relion5_sees(table, series.pixel_size_angstrom, *sizes, index)
    np.testing.assert_allclose(seen, seen_at(series.in_order_of_acquisition(), points), atol=1e-5)


@SIZES
def test_bead_through_relion_4(tmp_path, sizes):
    series = series_of(sizes, stack_name="TS_1.mrc")
    points = beads(series)
    write_relion4_tomograms(tmp_path / "tomograms.star", [series])
    write_relion4_particles(tmp_path / "particles.star", particles_at(series, points), [series])
    particles = read_star(tmp_path / "particles.star")["particles"]
    position = particles[["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]].to_numpy()
    matrices = read_relion4_projections(tmp_path / "tomograms.star", "TS_1")
    seen = np.einsum("tij,pj->tpi", matrices[:, :2, :3], position) + matrices[:, None, :2, 3]
    np.testing.assert_allclose(seen, seen_at(series, points), atol=1e-5)


# --- IMOD


def imod_sees(folder: Path, image, tomogram, points: np.ndarray) -> np.ndarray:
    """trimvol -rx, then tilt's projection, then newstack's transform backwards; pixels count from 1."""
    width, height, thickness = tomogram
    x, y, upwards = (points + 1).T
    downwards = thickness + 1 - upwards
    xx, yy, zz = x - (width / 2 + 0.5), y - (height / 2 + 0.5), downwards - (thickness / 2 + 0.5)
    seen = []
    files = (read_xf(folder / "TS_1.xf"), *(read_angles(folder / f"TS_1.{end}") for end in ("tlt", "xtilt")))
    for transform, tilt, x_tilt in zip(*files, strict=True):
        cos_beta, sin_beta = np.cos(np.deg2rad(tilt)), -np.sin(np.deg2rad(tilt))
        cos_alpha, sin_alpha = np.cos(np.deg2rad(x_tilt)), -np.sin(np.deg2rad(x_tilt))
        x_aligned = xx * cos_beta + yy * sin_alpha * sin_beta + zz * cos_alpha * sin_beta
        y_aligned = yy * cos_alpha - zz * sin_alpha
        aligned = np.stack([x_aligned, y_aligned]) - transform[4:, None]
        raw = np.linalg.solve(transform[:4].reshape(2, 2), aligned).T + np.array(image) / 2 + 0.5
        seen.append(raw - 1)
    return np.array(seen)


@SIZES
def test_bead_through_imod(tmp_path, sizes):
    series = series_of(sizes)
    points = beads(series)
    write_imod(tmp_path, series)
    # the files have three digits of an angle: half a thousandth of a degree, 500 pixels from the axis
    np.testing.assert_allclose(imod_sees(tmp_path, *sizes, points), seen_at(series, points), atol=0.01)


@SIZES
def test_imported_imod_alignment_is_where_imod_sees_it(tmp_path, sizes):
    series = series_of(sizes)
    points = beads(series)
    write_imod(tmp_path, series)
    tilt = read_angles(tmp_path / "TS_1.tlt")
    axis, shift, _ = geometry_of_transforms(read_xf(tmp_path / "TS_1.xf"), tilt, *sizes, series.x_tilt_deg)
    geometry = TiltGeometry(tilt, axis, shift, series.x_tilt_deg)
    centred = points - np.array([n // 2 for n in sizes[1]])
    ours = geometry.project(centred[:, ::-1])[..., ::-1] + np.array([n // 2 for n in sizes[0]])
    np.testing.assert_allclose(ours, imod_sees(tmp_path, *sizes, points), atol=1e-3)


# --- AreTomo


def test_bead_through_aretomo(tmp_path):
    series = series_of(EVEN, x_tilt_deg=0.0)
    points = beads(series)
    write_aln(tmp_path / "TS_1.aln", series)
    lines = [line.split() for line in (tmp_path / "TS_1.aln").read_text().splitlines() if line[0] != "#"]
    x, y, z = (points - np.array(EVEN[1]) / 2).T
    seen = []
    for section, rot, _, tx, ty, *_, tilt in np.array(lines, dtype=float):
        # as AreTomo writes an alignment for IMOD: x' = Rz(-ROT)·(x - (TX, TY)), the tilt axis upright
        a, b = np.deg2rad(rot), np.deg2rad(tilt)
        upright = np.stack([x * np.cos(b) + z * np.sin(b), y])
        turned = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ upright
        seen.append((section, turned.T + [tx, ty] + np.array(EVEN[0]) / 2))
    expected = seen_at(series, points)
    for section, at in seen:
        np.testing.assert_allclose(at, expected[int(section)], atol=0.003)


def test_aretomo_and_imod_agree(tmp_path):
    """AreTomo's own transform for IMOD is that which is written for IMOD, but for the half pixels."""
    series = series_of(EVEN, x_tilt_deg=0.0)
    write_aln(tmp_path / "TS_1.aln", series)
    write_imod(tmp_path, series)
    found = read_aln(tmp_path / "TS_1.aln")
    for transform, rot, (y, x) in zip(
        read_xf(tmp_path / "TS_1.xf"), found.axis_angle_deg, found.shift_yx_px, strict=True
    ):
        a = np.deg2rad(-rot)
        matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        np.testing.assert_allclose(transform[:4].reshape(2, 2), matrix, atol=1e-5)
        np.testing.assert_allclose(transform[4:], matrix @ [x, y], atol=1.3)


# --- Warp


@SIZES
def test_bead_through_warp(tmp_path, sizes):
    series = series_of(sizes)
    points = beads(series)
    write_warp_xml(tmp_path / "TS_1.xml", series)
    pixel = series.pixel_size_angstrom
    volume, image = (np.array(size) * pixel for size in (series.tomogram_size_xyz, series.image_size_xy))
    # WarpSeries.positions is held against Warp's own numbers in test_warp_xml
    seen = read_warp_xml(tmp_path / "TS_1.xml").positions(points * pixel - volume / 2, image)
    np.testing.assert_allclose((seen + image / 2) / pixel, seen_at(series, points), atol=1e-4)


# --- what the sense of the axis must not change


@pytest.mark.parametrize("axis", [84.0, -96.0, 264.0])
def test_an_axis_run_through_the_other_way_is_the_same_view_with_the_tilts_turned_round(axis):
    sense = 1.0 if axis == 84.0 else -1.0
    tilt = np.array([-40.0, 10.0, 55.0])
    one, other = rotations(tilt, 84.0, 0.0), rotations(sense * tilt, axis, 0.0)
    turn = np.diag([sense, sense, 1.0])
    np.testing.assert_allclose(other @ turn, one, atol=1e-12)
