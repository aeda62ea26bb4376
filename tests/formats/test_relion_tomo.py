"""RELION's STAR files of tomography, held against those that RELION 5 wrote of EMPIAR-10164."""

from dataclasses import replace

import numpy as np
import pytest

from tests.formats.tilt_series_records import record
from tomofly.formats.errors import BadFile
from tomofly.formats.mdoc import read_mdoc
from tomofly.formats.relion4_tomo import (
    read_relion4_projections,
    write_relion4_particles,
    write_relion4_tomograms,
)
from tomofly.formats.relion_tomo import (
    TomoParticle,
    projection_matrices,
    read_relion_tilts,
    relion_projections,
    write_particles,
    write_tilt_series,
    write_tomograms,
)
from tomofly.formats.star import read_star

# of EMPIAR-10164: its images, and the tomogram of TS_01_global.star, in pixels of 1.35 Å
IMAGE, TOMOGRAM, PIXEL = (3710, 3838), (4000, 4000, 3000), 1.35


def test_alignment_comes_back_in_order_of_acquisition(tmp_path):
    series = record()
    write_tilt_series(tmp_path / "TS_1.star", series)
    found = read_relion_tilts(tmp_path / "TS_1.star")
    taken = series.in_order_of_acquisition()
    assert found.order().tolist() == list(range(7))
    np.testing.assert_allclose(found.dose_before, 3.1 * np.arange(7), atol=1e-6)
    np.testing.assert_allclose(found.tilt_angle_deg, taken.tilt_angle_deg)
    np.testing.assert_allclose(found.axis_angle_deg, taken.axis_angle_deg)
    np.testing.assert_allclose(found.x_tilt_deg, 3.7)
    np.testing.assert_allclose(found.shift_yx_angstrom[:, ::-1] / 2.7, taken.shift_xy_px)
    assert list(found.table.rlnMicrographMovieName) == [tilt.movie_name for tilt in taken.tilts]
    np.testing.assert_allclose(found.table.rlnDefocusU, [tilt.defocus_u_angstrom for tilt in taken.tilts])
    assert "rlnPhaseShift" not in found.table


def test_excluded_tilts_are_left_out_and_keep_their_dose(tmp_path):
    series = record()
    taken_third = tuple(replace(tilt, excluded=tilt.acquisition_order == 2) for tilt in series.tilts)
    write_tilt_series(tmp_path / "TS_1.star", replace(series, tilts=taken_third))
    found = read_relion_tilts(tmp_path / "TS_1.star")
    np.testing.assert_allclose(found.dose_before, 3.1 * np.array([0, 1, 3, 4, 5, 6]), atol=1e-6)
    assert found.table.rlnTomoTiltMovieIndex.tolist() == [1, 2, 4, 5, 6, 7]


def test_columns_not_known_of_all_tilts_are_left_out(tmp_path):
    series = record()
    unfitted = replace(series.tilts[3], defocus_u_angstrom=None, motion_star=None)
    write_tilt_series(
        tmp_path / "a.star", replace(series, tilts=(*series.tilts[:3], unfitted, *series.tilts[4:]))
    )
    table = read_relion_tilts(tmp_path / "a.star").table
    assert not {"rlnDefocusU", "rlnCtfAstigmatism", "rlnMicrographMetadata"} & set(table)
    assert "rlnDefocusV" in table


def test_list_of_tomograms(tmp_path):
    first = record(tomogram_name="tomograms/TS_1.mrc", tomogram_binning=4.0)
    listed = {"tilt_series/TS_1.star": first, "tilt_series/TS_10.star": replace(first, name="TS_10", hand=1)}
    write_tomograms(tmp_path / "tomograms.star", listed)
    table = read_star(tmp_path / "tomograms.star")["global"]
    assert table.rlnTomoName.tolist() == ["TS_1", "TS_10"]
    assert table.rlnTomoTiltSeriesStarFile.tolist() == list(listed)
    assert table.rlnTomoHand.tolist() == [-1, 1]
    assert table[["rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"]].iloc[0].tolist() == [940, 912, 300]
    write_tomograms(tmp_path / "series.star", listed, tomograms=False)
    assert "rlnTomoSizeX" not in read_star(tmp_path / "series.star")["global"]


def test_particles_of_several_series_and_optics_groups(tmp_path):
    first, second = record(), record(name="TS_10", optics_group="other")
    particles = [
        TomoParticle("TS_10", (10.0, -20.0, 5.0), (1, 2, 3), 0.5),
        TomoParticle("TS_1", (0, 0, 0), score=0.25),
    ]
    write_particles(tmp_path / "particles.star", particles, [first, second])
    blocks = read_star(tmp_path / "particles.star")
    table = blocks["particles"]
    assert table.rlnTomoName.tolist() == ["TS_10", "TS_1"]
    assert blocks["optics"].rlnOpticsGroupName[table.rlnOpticsGroup - 1].tolist() == ["other", "opticsGroup1"]
    np.testing.assert_allclose(table.rlnCenteredCoordinateYAngst, [-54.0, 0.0])
    assert table.rlnAnglePsi.tolist() == [3, 0]
    assert table.rlnAutopickFigureOfMerit.tolist() == [0.5, 0.25]


def test_no_particles_are_a_table_without_rows(tmp_path):
    write_particles(tmp_path / "particles.star", [], [record()])
    assert len(read_star(tmp_path / "particles.star")["particles"]) == 0


def test_relion4_takes_matrices_and_the_stack_without_excluded_tilts(tmp_path):
    series = record(stack_name="stacks/TS_1.mrc")
    tilts = tuple(replace(tilt, excluded=n == 2) for n, tilt in enumerate(series.tilts))
    series = replace(series, tilts=tilts)
    write_relion4_tomograms(tmp_path / "tomograms.star", [series])
    np.testing.assert_allclose(
        read_relion4_projections(tmp_path / "tomograms.star", "TS_1"),
        projection_matrices(series.used()),
        atol=1e-6,
    )
    blocks = read_star(tmp_path / "tomograms.star")
    assert blocks["global"].rlnTomoFrameCount.tolist() == [6]
    assert blocks["global"].rlnTomoTiltSeriesName.tolist() == ["stacks/TS_1.mrc"]
    np.testing.assert_allclose(
        blocks["TS_1"].rlnMicrographPreExposure, [tilt.dose_before for tilt in series.used().tilts]
    )


def test_relion4_particles_split_in_halves(tmp_path):
    particles = [TomoParticle("TS_1", (float(n), 0, 0)) for n in range(4)]
    write_relion4_particles(tmp_path / "particles.star", particles, [record()])
    table = read_star(tmp_path / "particles.star")["particles"]
    np.testing.assert_allclose(table.rlnCoordinateX, 470 + np.arange(4))
    assert table.rlnRandomSubset.tolist() == [1, 2, 1, 2]


def test_relion4_says_what_a_series_lacks(tmp_path):
    with pytest.raises(ValueError, match="no stack"):
        write_relion4_tomograms(tmp_path / "a.star", [record()])
    series = record(stack_name="a.mrc")
    without = replace(series.tilts[0], defocus_v_angstrom=None)
    with pytest.raises(ValueError, match="defocus of 1 tilts"):
        write_relion4_tomograms(tmp_path / "a.star", [replace(series, tilts=(without, *series.tilts[1:]))])


@pytest.mark.parametrize(
    "text",
    [
        "data_a\n\nloop_\n_rlnTomoXTilt #1\n1\n",
        "data_a\n\n_rlnTomoXTilt 1\n",
        "data_a\n\nloop_\n_rlnTomoXTilt\n_rlnTomoYTilt\n_rlnTomoZRot\n"
        "_rlnTomoXShiftAngst\n_rlnTomoYShiftAngst\n1 2 x 4 5\n",
    ],
)
def test_files_without_an_alignment_are_refused(tmp_path, text):
    (tmp_path / "a.star").write_text(text)
    with pytest.raises(BadFile):
        read_relion_tilts(tmp_path / "a.star")


# --- EMPIAR-10164, as RELION 5 has it


@pytest.fixture
def empiar(real_data):
    return real_data / "tomo_empiar10164"


@pytest.mark.real_data
def test_projection_matrices_are_relions_own(empiar):
    sizes = read_star(empiar / "TS_01_global.star")["global"].iloc[0]
    tomogram = tuple(int(sizes[f"rlnTomoSize{axis}"]) for axis in "XYZ")
    assert (tomogram, sizes.rlnTomoTiltSeriesPixelSize) == (TOMOGRAM, PIXEL)
    tilts = read_relion_tilts(empiar / "TS_01_relion.star")
    assert tilts.projections is not None
    ours = relion_projections(tilts, sizes.rlnTomoTiltSeriesPixelSize, IMAGE, tomogram)
    np.testing.assert_allclose(ours[:, :3, :3], tilts.projections[:, :3, :3], atol=1e-6)
    # RELION's rotations have the digits of single precision: compare where they cancel, at the origin
    origin = np.array([*(n // 2 for n in tomogram), 1.0])
    np.testing.assert_allclose(ours @ origin, tilts.projections @ origin, atol=1e-5)
    anywhere = np.array([*tomogram, 1.0]) * np.random.default_rng(1).uniform(0, 1, (50, 1))
    np.testing.assert_allclose(ours @ anywhere.T, tilts.projections @ anywhere.T, atol=5e-4)


@pytest.mark.real_data
def test_order_and_dose_of_the_mdoc_are_relions(empiar):
    tilts = read_relion_tilts(empiar / "TS_01_relion.star")
    mdoc = read_mdoc(empiar / "TS_01.mrc.mdoc")
    taken = sorted(mdoc.tilts, key=lambda tilt: tilt.date_time)
    assert [tilt.frame_name for tilt in taken] == [
        name.removeprefix("frames/") for name in tilts.table.rlnMicrographMovieName
    ]
    np.testing.assert_allclose([t.tilt_angle_deg for t in taken], tilts.nominal_tilt_deg, atol=1e-5)
    np.testing.assert_allclose(tilts.dose_before, 3.0 * np.arange(41))
    assert tilts.order().tolist() == list(range(41))
