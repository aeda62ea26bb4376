"""Warp's tilt series, held against the positions and defoci that Warp itself computed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.formats.tilt_series_records import record
from tomofly.formats.errors import BadFile
from tomofly.formats.star import read_star
from tomofly.formats.tilt_record import rotations
from tomofly.formats.warp_grid import interpolated
from tomofly.formats.warp_xml import read_warp_xml, write_tomostar, write_warp_xml

pytestmark = pytest.mark.filterwarnings("error")


def test_geometry_comes_back(tmp_path):
    series = record()
    write_warp_xml(tmp_path / "TS_1.xml", series)
    warp = read_warp_xml(tmp_path / "TS_1.xml")
    np.testing.assert_allclose(warp.tilt_angle_deg, series.tilt_angle_deg)
    np.testing.assert_allclose(warp.axis_angle_deg, series.axis_angle_deg)
    np.testing.assert_allclose(warp.shift_yx_px(2.7)[:, ::-1], series.shift_xy_px, atol=1e-6)
    assert (warp.level_x_deg, warp.level_y_deg, warp.hand) == (3.7, 0.0, -1)
    assert warp.movie_names == tuple(tilt.movie_name for tilt in series.tilts)
    np.testing.assert_allclose(warp.dose_before, [tilt.dose_before for tilt in series.tilts])


def test_defocus_comes_back(tmp_path):
    series = record()
    write_warp_xml(tmp_path / "TS_1.xml", series)
    warp = read_warp_xml(tmp_path / "TS_1.xml")
    u = warp.defocus_angstrom + warp.astigmatism_angstrom / 2
    np.testing.assert_allclose(u, [tilt.defocus_u_angstrom for tilt in series.tilts])
    np.testing.assert_allclose(warp.defocus_angle_deg, [tilt.defocus_angle_deg for tilt in series.tilts])


def test_series_without_ctf_and_with_excluded_tilts(tmp_path):
    series = record()
    first = replace(series.tilts[0], defocus_u_angstrom=None, excluded=True, movie_name="a & <b>.tif")
    write_warp_xml(tmp_path / "TS_1.xml", replace(series, tilts=(first, *series.tilts[1:]), hand=1))
    warp = read_warp_xml(tmp_path / "TS_1.xml")
    assert warp.defocus_angstrom is None
    assert warp.used.tolist() == [False] + [True] * 6
    assert warp.movie_names[0] == "a & <b>.tif"
    assert warp.hand == 1


def test_tomostar_names_the_tilts_in_the_same_order(tmp_path):
    series = record()
    write_tomostar(tmp_path / "TS_1.tomostar", series)
    (table,) = read_star(tmp_path / "TS_1.tomostar").values()
    assert list(table.wrpMovieName) == [tilt.movie_name for tilt in series.tilts]
    np.testing.assert_allclose(table.wrpAngleTilt, -series.tilt_angle_deg)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<Movie></Movie>",
        "<TiltSeries></TiltSeries>",
        "<TiltSeries><Angles>1\n2</Angles><AxisAngle>85</AxisAngle></TiltSeries>",
        "<TiltSeries><Angles>1\nx</Angles></TiltSeries>",
        '<!DOCTYPE a [<!ENTITY b "c">]><TiltSeries>&b;</TiltSeries>',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(BadFile):
        read_warp_xml(tmp_path / "a.xml")


@pytest.fixture
def warps_own(real_data):
    """Warp's positions (tilt, point, 2) in Å and defoci (tilt, point, 2) of its points, and the series."""
    folder = real_data / "warp_geometry"
    star = read_star(folder / "TS_1.star")
    points, seen = star["points"].to_numpy(float), star["mappings"]
    shape = (seen.tiltID.max(), seen.pointID.max(), 2)
    where, defocus = np.zeros(shape), np.zeros(shape)
    at = (seen.tiltID - 1, seen.pointID - 1)
    where[at] = seen[["centeredCoordinateXAngst", "centeredCoordinateYAngst"]]
    defocus[at] = seen[["defocusU", "defocusV"]]
    return read_warp_xml(folder / "TS_1.xml"), points, where, defocus


@pytest.mark.real_data
def test_positions_are_those_that_warp_computes(warps_own):
    series, points, where, _ = warps_own
    size = (5760 * 0.834, 4092 * 0.834)
    np.testing.assert_allclose(series.positions(points, size), where, atol=1e-3)
    rigid = replace(series, movement_xy_angstrom=(np.zeros((1, 1, 1)),) * 2).positions(points, size)
    assert 1.0 < np.sqrt(((rigid - where) ** 2).mean()) < 4.0  # the movement grids are what is left


@pytest.mark.real_data
def test_defoci_are_those_that_warp_computes(warps_own):
    series, points, _, defocus = warps_own
    turned = rotations(series.tilt_angle_deg, series.axis_angle_deg, series.level_x_deg)
    depth = np.einsum("ti,pi->tp", turned[:, 2], points)
    mean = series.defocus_angstrom[:, None] + series.hand * depth
    np.testing.assert_allclose(mean, defocus.mean(axis=-1), atol=0.05)
    half = series.astigmatism_angstrom[:, None] / 2
    np.testing.assert_allclose(
        np.broadcast_to(half, mean.shape), (defocus[..., 0] - defocus[..., 1]) / 2, atol=0.05
    )


@pytest.mark.real_data
def test_inverted_series_of_warp_has_the_other_hand(real_data):
    assert read_warp_xml(real_data / "warp_geometry" / "00254.xml").hand == -1


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "axes"), [("reference1d", "x"), ("reference2d", "yx"), ("reference3d", "zyx")]
)
def test_grids_are_joined_as_warp_joins_them(real_data, name, axes):
    star = read_star(real_data / "warp_geometry" / f"{name}.star")
    nodes = star["grid"]
    shape = tuple(int(nodes[f"i{axis}"].max()) + 1 for axis in axes)
    grid = np.zeros(shape)
    grid[tuple(nodes[f"i{axis}"] for axis in axes)] = nodes["value"]
    grid = grid.reshape((1,) * (3 - len(axes)) + shape)
    some = star["eval"].iloc[:: max(1, len(star["eval"]) // 40)]
    points = np.zeros((len(some), 3))
    points[:, 3 - len(axes) :] = some[list(axes)]
    np.testing.assert_allclose(interpolated(grid, points), some["value"], atol=1e-6)
