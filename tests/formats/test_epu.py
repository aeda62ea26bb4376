"""EPU's XML and names."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.formats.epu import additional_files, companion_names, parse_epu_name, read_epu_xml
from tomofly.formats.errors import BadFile

MOVIE = "FoilHole_30374210_Data_30372956_7_20250129_141502_Fractions.tiff"


@pytest.mark.real_data
def test_a_real_acquisition(real_data: Path) -> None:
    epu = read_epu_xml(real_data / "epu_session/Example1.xml")
    assert epu.acquired_at == datetime(2023, 10, 18, 19, 27, 6, 334225, tzinfo=UTC)
    assert epu.pixel_size_angstrom == pytest.approx(0.74912562)
    assert epu.voltage_kv == 200
    assert epu.magnification == 190000
    assert epu.exposure_time_s == 3.52
    assert epu.stage_xyz_um == pytest.approx((686.26854, -326.01448, -63.76455))
    assert epu.tilt_deg == pytest.approx(2.01276e-4, rel=1e-4)
    assert epu.beam_shift_xy == pytest.approx((-0.0902162865, 0.0547844097))
    assert epu.beam_tilt_xy == pytest.approx((-0.1360385418, -0.000270772754))
    assert epu.image_shift_xy == (0, 0)
    assert epu.applied_defocus_angstrom == pytest.approx(11000)
    assert epu.dose_e_per_angstrom2 == pytest.approx(42.02, abs=0.01)
    assert epu.doses_agree is True
    assert (epu.detector, epu.instrument, epu.software) == ("Falcon 4i", "GLACIOS-9960164", "EPU 3.5.1.6034")


@pytest.mark.real_data
def test_the_names_of_a_real_session(real_data: Path) -> None:
    names = [
        line.split("── ")[1]
        for line in (real_data / "epu_session/bi37708-28_tree.txt").read_text().splitlines()
        if "── FoilHole_" in line and "_Data_" in line
    ]
    assert len(names) > 8000
    assert all(parse_epu_name(name) for name in names)


def test_a_name_with_its_folders() -> None:
    name = parse_epu_name(f"Images-Disc1/GridSquare_30372938/Data/{MOVIE}")
    assert name is not None
    assert (name.grid_square, name.foil_hole, name.data_id, name.position) == (
        "30372938",
        "30374210",
        "30372956",
        7,
    )
    assert name.named_at == datetime(2025, 1, 29, 14, 15, 2)


def test_an_older_name_has_one_more_number() -> None:
    name = parse_epu_name("FoilHole_1_Data_2_3_4_20190131_235959-1234.mrc")
    assert name is not None
    assert name.named_at == datetime(2019, 1, 31, 23, 59, 59)
    assert name.grid_square is None


@pytest.mark.parametrize(
    "name", ["TS_01_000_0.0.mrc", "FoilHole_1_20250129_141502.xml", "", MOVIE.replace("2025", "0000")]
)
def test_other_names_say_nothing(name: str) -> None:
    assert parse_epu_name(name) is None


def test_the_xml_and_mdoc_beside_a_movie_belong_to_it() -> None:
    stem = "FoilHole_30374210_Data_30372956_7_20250129_141502"
    beside = {f"{stem}.xml", f"{stem}.jpg", f"{MOVIE}.mdoc", "FoilHole_30374210_Data_30372956_70.xml"}
    assert [path.name for path in additional_files(f"/data/{MOVIE}", beside)] == [
        f"{stem}.xml",
        f"{MOVIE}.mdoc",
    ]
    assert "TS_10.xml" not in companion_names("TS_1.tif")


def test_the_disk_is_asked_where_no_names_are_given(tmp_path: Path) -> None:
    (tmp_path / "a b.xml").touch()
    (tmp_path / "a b_EER.mdoc").touch()
    assert additional_files(tmp_path / "a b_EER.eer") == [tmp_path / "a b.xml", tmp_path / "a b_EER.mdoc"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"<MicroscopeImage><x>", "not well-formed"),
        (b"<Other/>", "describes a Other"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><MicroscopeImage>&b;</MicroscopeImage>', "not safe"),
        (b"<?xml version='1.0' encoding='no-such'?><MicroscopeImage/>", "not well-formed"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(BadFile, match=reason):
        read_epu_xml(tmp_path / "a.xml")


def test_an_acquisition_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<MicroscopeImage/>")
    epu = read_epu_xml(tmp_path / "a.xml")
    assert epu.pixel_size_angstrom is None
    assert epu.dose_e_per_angstrom2 is None
    assert epu.doses_agree is None


@given(
    value=st.sampled_from(["NaN", "-1", "1e999", "x", "", "0", "INF"]),
    place=st.sampled_from(
        ["acquisition/acquisitionDateTime", "gun/AccelerationVoltage", "acquisition/camera/ExposureTime"]
    ),
)
@settings(deadline=None)
def test_a_value_that_makes_no_sense_is_none(
    tmp_path_factory: pytest.TempPathFactory, value: str, place: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.xml"
    tags = ["MicroscopeImage", "microscopeData", *place.split("/")]
    opening, closing = "".join(f"<{tag}>" for tag in tags), "".join(f"</{tag}>" for tag in reversed(tags))
    path.write_text(f"{opening}{value}{closing}")
    epu = read_epu_xml(path)
    assert (epu.acquired_at, epu.voltage_kv, epu.exposure_time_s) == (None, None, None)
