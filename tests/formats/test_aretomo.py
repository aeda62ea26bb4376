"""AreTomo's .aln files of all versions."""

from dataclasses import replace

import numpy as np
import pytest

from tests.formats.tilt_series_records import record
from tomofly.formats.aretomo import read_aln, write_aln
from tomofly.formats.errors import BadFile

LOCAL = """Hello
# AreTomo Alignment / Priims bprmMn
# RawSize = 4092 5760 4
# NumPatches = 2
# DarkFrame =     0    3   -57.01
# AlphaOffset =    -9.00
# BetaOffset =     0.50
# Thickness = 712
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
    1    84.3600    1.00000     10.500     -3.250     1.00     1.00     1.00     0.00    -30.02
    2    84.3600    1.00000      0.000      0.000     1.00     1.00     1.00     0.00      0.01
    4    84.3600    1.00000     -7.125      4.000     1.00     1.00     1.00     0.00     30.01
# Local Alignment
   0   0   100.00    200.00      1.50     -0.50   1.0
   0   1  -100.00    210.00      2.50     -1.50   0.0
   1   0   101.00    200.00      0.00      0.00   1.0
   1   1  -101.00    210.00      0.00      0.00   1.0
   2   0   102.00    200.00     -1.50      0.50   1.0
   2   1  -102.00    210.00     -2.50      1.50   1.0
"""


def test_alignment_comes_back(tmp_path):
    series = record(x_tilt_deg=0.0)
    write_aln(tmp_path / "TS_1.aln", series)
    found = read_aln(tmp_path / "TS_1.aln")
    assert found.raw_size_xyz == (926, 958, 7)
    assert found.section.tolist() == list(range(7))
    np.testing.assert_allclose(found.tilt_angle_deg, series.tilt_angle_deg, atol=1e-4)
    np.testing.assert_allclose(found.axis_angle_deg, series.axis_angle_deg, atol=1e-4)
    np.testing.assert_allclose(found.shift_yx_px[:, ::-1], series.shift_xy_px, atol=1e-3)


def test_excluded_tilts_are_dark_frames(tmp_path):
    series = record(x_tilt_deg=0.0)
    tilts = tuple(replace(tilt, excluded=n in (0, 6)) for n, tilt in enumerate(series.tilts))
    write_aln(tmp_path / "TS_1.aln", replace(series, tilts=tilts))
    found = read_aln(tmp_path / "TS_1.aln")
    assert found.section.tolist() == [1, 2, 3, 4, 5]
    assert [section for section, _ in found.dark] == [0, 6]


def test_rows_are_in_order_of_angle_whatever_the_stack_is_in(tmp_path):
    series = record(x_tilt_deg=0.0)
    taken = series.in_order_of_acquisition()
    write_aln(tmp_path / "TS_1.aln", taken)
    found = read_aln(tmp_path / "TS_1.aln")
    assert np.all(np.diff(found.tilt_angle_deg) > 0)
    np.testing.assert_allclose(found.tilt_angle_deg, taken.tilt_angle_deg[found.section], atol=1e-4)


def test_level_about_x_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="no rotation about x"):
        write_aln(tmp_path / "TS_1.aln", record(x_tilt_deg=3.7))


def test_header_local_alignment_and_sections_from_one(tmp_path):
    path = tmp_path / "TS_1.aln"
    path.write_text(LOCAL)
    found = read_aln(path)
    assert found.section.tolist() == [0, 1, 3]
    assert found.dark == ((2, -57.01),)
    assert (found.alpha_offset_deg, found.beta_offset_deg, found.thickness_px) == (-9.0, 0.5, 712)
    np.testing.assert_allclose(found.shift_yx_px, [[3.25, -10.5], [0, 0], [-4, 7.125]])
    assert found.local is not None
    np.testing.assert_allclose(found.local.centre_yx_px[2, 1], [210, -102])
    np.testing.assert_allclose(found.local.shift_yx_px[0, 1], [-1.5, 2.5])
    assert found.local.good.tolist() == [[True, False], [True, True], [True, True]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# AreTomo\n",
        LOCAL[:-60],
        LOCAL.replace("     0.00      0.01\n", "\n", 1),
        "no\nalignment at all\n",
    ],
)
def test_cut_and_other_files_are_refused(tmp_path, text):
    path = tmp_path / "TS_1.aln"
    path.write_text(text)
    with pytest.raises(BadFile):
        read_aln(path)


@pytest.mark.real_data
def test_real_file(real_data):
    found = read_aln(real_data / "mdoc" / "Position_5_4.aln")
    assert found.raw_size_xyz == (4096, 4096, 31)
    assert found.section.tolist() == list(range(31))
    assert found.local is None
    np.testing.assert_allclose(found.axis_angle_deg, 83.9394)
    np.testing.assert_allclose(found.shift_yx_px[0], [-49.542, 44.819])
    np.testing.assert_allclose(found.tilt_angle_deg[[0, -1]], [-45.02, 44.98])
