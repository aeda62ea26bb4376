"""Names of tilts are read by a pattern with fields, and what is wrong with a pattern is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.stages.tilts.names import NamePattern, TiltName, read_name, stem

COMMON = {
    "TS_01_000_0.0.mrc": ("TS_01", 0, 0.0),
    "TS_01_039_-60.0.tif": ("TS_01", 39, -60.0),
    "TS_1_[-3.00]_fractions.tif": ("TS_1", None, -3.0),
    "Position_1_001_0.00_20230516_fractions.tiff": ("Position_1", 1, 0.0),
    "Position_1_001_0.00_20230516_123456_fractions.tiff": ("Position_1", 1, 0.0),
    "Position_10_2_001[10.00]_EER.eer": ("Position_10_2", 1, 10.0),
    "s_mmm_00993_33.0_Oct08_07.39.05.tif": ("s_mmm", 993, 33.0),
    "amelo_20230811_33kx_hydraliftout_0241_-60.0.tif": ("amelo_20230811_33kx_hydraliftout", 241, -60.0),
    "TS_1_-3.0": ("TS_1", None, -3.0),
    "grid-2 lamella.3_004_-12.00.eer": ("grid-2 lamella.3", 4, -12.0),
}


@pytest.mark.parametrize("name", COMMON)
def test_names_of_common_programs_are_read_without_a_pattern(name: str) -> None:
    assert read_name(name) == TiltName(*COMMON[name])


@pytest.mark.parametrize(
    "name",
    ["foo.tif", "foo_001.tif", "FoilHole_123_Data_12_3_20230101_121212_Fractions.mrc", "", "x_95.0.tif"],
)
def test_names_that_tell_no_tilt_are_left_alone(name: str) -> None:
    assert read_name(name) is None


def test_a_number_alone_will_do_where_the_settings_give_the_angles() -> None:
    assert read_name("TS_01_001.tif", numbered=True) == TiltName("TS_01", 1, None)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{series}_{order}_{angle}", "TS_1_5_-3.tif", TiltName("TS_1", 5, -3.0)),
        ("{series}_{order:03d}_{angle}_*.tiff", "P_1_001_0.00_2023_1_f.tiff", TiltName("P_1", 1, 0.0)),
        ("{angle}_{series}_{order}", "-12.5_a_b_7.mrc", TiltName("a_b", 7, -12.5)),
        ("tilt[{angle:.1f}]_of_{series}", "tilt[3.0]_of_X.eer", TiltName("X", None, 3.0)),
        ("{series}_???_{angle}", "TS_abc_9.0.tif", TiltName("TS", None, 9.0)),
        ("{series}_{order:02d}", "TS_01_07.tif", TiltName("TS_01", 7, None)),
    ],
)
def test_a_pattern_names_its_fields(pattern: str, name: str, expected: TiltName) -> None:
    assert NamePattern(pattern).read(name) == expected


def test_brackets_of_a_pattern_stand_for_themselves() -> None:
    assert NamePattern("{series}[{angle}]").read("TS3.0") is None


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{serie}_{angle}", "Did you mean {series}?"),
        ("{tilt}_{angle}", "Legal are {series}, {order} and {angle}"),
        ("{series", "'{' at character 1"),
        ("a}b{series}", "'}' at character 2"),
        ("{series}_{order}_{order}", "{order} twice"),
        ("{order}_{angle}", "no field {series}"),
        ("{series}{order}", "nothing between them"),
        ("*{series}_{angle}", "wildcard beside {series}"),
        ("{series}_{angle:x}", "{angle:x} that is not understood"),
        ("frames/{series}_{angle}", "source.pattern says where"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        NamePattern(pattern)
    assert said in str(caught.value)


def test_only_suffixes_of_images_are_taken_off() -> None:
    assert stem("TS_1_-3.0") == "TS_1_-3.0"
    assert stem("TS_1_-3.0.MRC") == "TS_1_-3.0"
    assert stem("TS_01.st") == "TS_01"


SERIES = st.text("abTS_-0123456789. ", min_size=1, max_size=12).filter(lambda s: not s.endswith("."))


@given(SERIES, st.integers(0, 9999), st.integers(-900, 900))
def test_what_is_written_by_a_pattern_is_read_by_it(series: str, order: int, tenths: int) -> None:
    angle = tenths / 10
    name = f"{series}_{order:04d}_{angle:.1f}.tif"
    assert read_name(name) == TiltName(series, order, angle)
    assert read_name(name, "{series}_{order:04d}_{angle:.1f}") == TiltName(series, order, angle)
