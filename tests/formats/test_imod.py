"""IMOD's files: what is written comes back, and strange files are refused with the reason."""

from dataclasses import replace

import numpy as np
import pytest

from tests.formats.tilt_series_records import record
from tomofly.formats.errors import BadFile
from tomofly.formats.imod import (
    geometry_of_transforms,
    imod_transforms,
    read_angles,
    read_xf,
    write_angles,
    write_imod,
    write_xf,
)
from tomofly.formats.warp_xml import read_warp_xml


def test_transforms_come_back(tmp_path):
    transforms = imod_transforms(record())
    write_xf(tmp_path / "a.xf", transforms)
    np.testing.assert_allclose(read_xf(tmp_path / "a.xf"), transforms, atol=6e-4)


def test_angles_come_back(tmp_path):
    angles = np.array([-60.0, 0.123, 12.5])
    write_angles(tmp_path / "a.tlt", angles)
    np.testing.assert_allclose(read_angles(tmp_path / "a.tlt"), angles, atol=6e-4)


@pytest.mark.parametrize(("image", "volume"), [((926, 958), (940, 912, 300)), ((927, 957), (941, 913, 301))])
def test_geometry_comes_back_from_transforms(image, volume):
    series = record(image_size_xy=image, tomogram_size_xyz=volume)
    axis, shift, lost = geometry_of_transforms(
        imod_transforms(series), series.tilt_angle_deg, image, volume, series.x_tilt_deg
    )
    np.testing.assert_allclose(axis, series.axis_angle_deg)
    np.testing.assert_allclose(shift[:, ::-1], series.shift_xy_px, atol=1e-9)
    assert lost < 1e-9


def test_stretch_in_a_foreign_transform_is_told():
    series = record()
    transforms = imod_transforms(series)
    transforms[3, :4] *= 1.01
    *_, lost = geometry_of_transforms(transforms, series.tilt_angle_deg, (926, 958), (940, 912, 300))
    assert lost == pytest.approx(0.01 * 958 / 2, rel=0.01)


def test_all_files_of_a_series(tmp_path):
    series = record()
    written = write_imod(tmp_path, series)
    assert sorted(path.name for path in written) == sorted(
        ["TS_1.xf", "TS_1.tlt", "TS_1.rawtlt", "TS_1.xtilt", "newst.com", "tilt.com"]
    )
    np.testing.assert_allclose(read_angles(tmp_path / "TS_1.tlt"), series.tilt_angle_deg, atol=6e-4)
    np.testing.assert_allclose(read_angles(tmp_path / "TS_1.rawtlt"), np.linspace(-54, 57, 7), atol=6e-4)
    np.testing.assert_allclose(read_angles(tmp_path / "TS_1.xtilt"), 3.7)
    assert "SizeToOutputInXandY 940,912" in (tmp_path / "newst.com").read_text()
    assert "EXCLUDELIST2" not in (tmp_path / "tilt.com").read_text()


def test_excluded_tilts_stay_in_the_stack_and_are_listed_from_one(tmp_path):
    series = record()
    tilts = tuple(replace(tilt, excluded=n in (0, 4)) for n, tilt in enumerate(series.tilts))
    write_imod(tmp_path, replace(series, tilts=tilts))
    assert len(read_xf(tmp_path / "TS_1.xf")) == 7
    assert "EXCLUDELIST2 1,5\n" in (tmp_path / "tilt.com").read_text()


@pytest.mark.parametrize(
    "text", ["", "\n\n", "1 0 0 1 2\n", "1 0 0 1 2 x\n", "1 0 0 1 2 nan\n", "1 0 0 1 0 0\n1 0 0 1 0 0 7\n"]
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "a.xf"
    path.write_text(text)
    with pytest.raises(BadFile):
        read_xf(path)


@pytest.mark.real_data
def test_warps_import_of_a_real_xf_is_ours(real_data):
    folder = real_data / "warp_geometry" / "xf_import"
    warp = read_warp_xml(folder / "00254.xml")
    # Warp takes the middle as n / 2 and leaves the volume's out: sizes of 1 mean "no half pixels"
    axis, shift, lost = geometry_of_transforms(
        read_xf(folder / "00254.xf"), read_angles(folder / "00254.tlt"), (1, 1), (1, 1, 1)
    )
    np.testing.assert_allclose(axis, warp.axis_angle_deg, atol=1e-4)
    np.testing.assert_allclose(-shift[:, ::-1] * 10.0, warp.axis_offset_xy_angstrom, atol=1e-3)
    np.testing.assert_allclose(read_angles(folder / "00254.tlt"), warp.angle_deg)
    assert lost < 0.001
