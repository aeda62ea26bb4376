"""Mdoc files of SerialEM, PACEtomo and Tomography 5, whole, strange and half-written."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.formats.errors import BadFile
from tomofly.formats.mdoc import Mdoc, read_mdoc
from tomofly.formats.mdoc_axis import AxisSource, wrapped
from tomofly.formats.mdoc_dates import parse_date

HEADER = """PixelSpacing = 1.63
Voltage = 300
ImageFile = Position_1.mrc
ImageSize = 4092 5760
DataMode = 1

[T = SerialEM: Acquired on a Krios 30-Nov-15  15:14:20 ]

[T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 0]
"""


def section(z: int | str, angle: float, name: str | None = None, time: str = "30-Nov-15  15:21:38") -> str:
    name = name or f"D:\\DATA\\frames\\TS_01_{z}_{angle:.1f}.tif"
    return (
        f"\n[ZValue = {z}]\nTiltAngle = {angle}\nStagePosition = 20.7 155.3\nPixelSpacing = 1.63\n"
        f"Binning = 1\nExposureDose = 3.1\nRotationAngle = 175.3\nTargetDefocus = -4\nSubFramePath = {name}\n"
        f"NumSubFrames = 8\nDateTime = {time}\n"
    )


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str | bytes, name: str = "TS_01.mrc.mdoc") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


@pytest.fixture
def read(write):
    def result(text: str | bytes) -> Mdoc:
        return read_mdoc(write(text))

    return result


# --- what files say


def test_sections_have_what_the_file_says(read):
    mdoc = read(HEADER + section(0, 0.01) + section(1, 3.0))
    assert mdoc.complete
    assert mdoc.unfinished is None
    assert mdoc.image_size_xy == (4092, 5760)
    assert (mdoc.pixel_spacing_angstrom, mdoc.voltage_kv) == (1.63, 300)
    first, second = mdoc.sections
    assert (first.kind, first.z_value, second.z_value) == ("ZValue", 0, 1)
    assert (first.tilt_angle_deg, second.tilt_angle_deg) == (0.01, 3.0)
    assert second.frame_name == "TS_01_1_3.0.tif"
    assert second.sub_frame_path == "D:\\DATA\\frames\\TS_01_1_3.0.tif"
    assert (second.num_sub_frames, second.binning, second.target_defocus_um) == (8, 1.0, -4.0)
    assert second.date_time == datetime(2015, 11, 30, 15, 21, 38)
    assert second.stage_xy_um == (20.7, 155.3)
    assert second.values["TargetDefocus"] == "-4"


@pytest.mark.parametrize(
    "path",
    [
        "X:\\grid 2\\frames\\a b_001_[3.0].tif",
        "\\\\192.168.10.81\\Offload\\\\Tem\\a b_001_[3.0].tif",
        "/mnt/k3/frames/a b_001_[3.0].tif",
        "C:/mixed\\frames/a b_001_[3.0].tif",
        "a b_001_[3.0].tif",
        '"X:\\a b_001_[3.0].tif"',
    ],
)
def test_movie_name_is_the_last_part_of_any_systems_path(read, path):
    assert read(HEADER + section(0, 3.0, name=path)).sections[0].frame_name == "a b_001_[3.0].tif"


def test_missing_and_repeated_section_numbers_cost_nothing(read):
    mdoc = read(HEADER + section(0, 0) + section(2, 3) + section(2, 3) + section("", -3) + section("x", 6))
    assert [s.z_value for s in mdoc.sections] == [0, 2, 2, None, None]
    assert [s.tilt_angle_deg for s in mdoc.sections] == [0, 3, 3, -3, 6]


def test_value_with_an_equals_sign_and_a_strange_line_cost_nothing(read):
    mdoc = read(HEADER + section(0, 0) + "Note = a = b\n???\n" + section(1, 3))
    assert mdoc.sections[0].values["Note"] == "a = b"
    assert len(mdoc.sections) == 2
    assert len(mdoc.strange_lines) == 1


def test_unreadable_values_are_none(read):
    text = section(0, 0).replace("TiltAngle = 0", "TiltAngle = nan").replace("Binning = 1", "Binning = ?")
    only = read(HEADER + text.replace("15:21:38", "late")).sections[0]
    assert only.tilt_angle_deg is None
    assert only.binning is None
    assert only.date_time is None


def test_frame_sets_without_zvalue_are_tilts(read):
    mdoc = read(
        "T = SerialEM: Krios   08-Oct-21\nVoltage = 300\n" + section(0, 33).replace("ZValue", "FrameSet")
    )
    assert mdoc.titles == ("SerialEM: Krios   08-Oct-21",)
    assert [(s.kind, s.z_value, s.name) for s in mdoc.tilts] == [("FrameSet", None, "0")]
    assert mdoc.axis_angle_deg == 85.3
    assert mdoc.axis_source is AxisSource.ROTATION


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
    ],
    ids=["bom", "latin-1", "utf-16", "crlf", "cr"],
)
def test_encodings_and_line_ends(read, encode):
    mdoc = read(encode(HEADER.replace("Krios", "Mikroskop Köln") + section(0, 0) + section(1, 3)))
    assert "Köln" in mdoc.titles[0]
    assert [s.tilt_angle_deg for s in mdoc.sections] == [0, 3]
    assert mdoc.complete


# --- dose


def test_dose_prefers_exposure_dose_then_frames_then_rate(read):
    def dose(*lines: str):
        return read(HEADER + section(0, 0).replace("ExposureDose = 3.1", "\n".join(lines))).sections[0].dose

    assert dose("ExposureDose = 3.1", "FrameDosesAndNumber = 1 2") == (3.1, "ExposureDose")
    frames = dose(
        "ExposureDose = 0", "FrameDosesAndNumber = 0.25 4 0.5 2", "DoseRate = 9", "ExposureTime = 1"
    )
    assert frames == (2.0, "FrameDosesAndNumber")
    rate = dose("ExposureDose = 0", "FrameDosesAndNumber = 0 8", "DoseRate = 5.3138", "ExposureTime = 1.5")
    assert rate == (pytest.approx(3.0), "DoseRate x ExposureTime")
    assert dose("ExposureDose = 0") is None


# --- the tilt axis


def tomo5(axis: str, rotation: float | None, time: str = "20-Feb-2026 16:58:06") -> str:
    header = (
        "DataMode = 6\nImageSize = 4096 4096\nImageFile = Position_1.mrc\nPixelSpacing = 1.54\n"
        f"Voltage = 300.00\n\n[T = Tomography: KRIOS-1234    {time}]\n\n"
        f"[T =   TiltAxisAngle = {axis}  Binning = 1  SpotSize = 6]\n"
    )
    turned = "" if rotation is None else f"RotationAngle = {rotation}"
    return header + section(0, 0, time=time).replace("RotationAngle = 175.3", turned)


@pytest.mark.parametrize(
    ("axis", "rotation", "angle", "source"),
    [
        ("-175.6", 85.6, 85.6, AxisSource.TOMO5_ROTATION),
        ("-86.68", -3.3, -3.3, AxisSource.TOMO5_ROTATION),
        ("85.6", 175.6, 85.6, AxisSource.TOMO5_TITLE),
        ("-85.6", 175.6, 85.6, AxisSource.TOMO5_NEGATED),
        ("-175.6", None, 85.6, AxisSource.TOMO5_ASSUMED),
        ("-175.6", 12.0, 85.6, AxisSource.TOMO5_ASSUMED),
        ("84.2", 185.8, -174.2, AxisSource.TOMO5_ROTATION),
    ],
)
def test_tilt_axis_of_tomography_5_is_turned_into_ours(read, axis, rotation, angle, source):
    mdoc = read(tomo5(axis, rotation))
    assert mdoc.axis_angle_deg == pytest.approx(angle)
    assert mdoc.axis_source is source


def test_two_digit_years_come_first_in_older_files_of_tomography_5(read):
    older = read(tomo5("-91.81", 1.81, time="21-Nov-30  17:42:06")).sections[0]
    assert older.date_time == datetime(2021, 11, 30, 17, 42, 6)
    assert read(tomo5("-91.81", 1.81)).sections[0].date_time == datetime(2026, 2, 20, 16, 58, 6)


def test_letters_of_other_encodings_end_no_line(read):
    mdoc = read((HEADER + section(0, 0, name="D:\\a\x85b.tif") + section(1, 3)).encode("latin-1"))
    assert mdoc.sections[0].frame_name == "a\x85b.tif"
    assert len(mdoc.sections) == 2


@pytest.mark.parametrize(
    ("written", "angle"), [("84", 84), ("-96.0", -96), ("264", -96), ("0.0", 0), ("-180", 180)]
)
def test_axes_that_differ_by_a_whole_turn_are_one_and_zero_is_an_axis(read, written, angle):
    mdoc = read(HEADER.replace("85.3", written) + section(0, 0))
    assert mdoc.axis_angle_deg == angle
    assert mdoc.axis_source is AxisSource.TITLE


def test_axis_is_none_where_nothing_says_it(read):
    mdoc = read("Voltage = 300\n" + section(0, 0).replace("RotationAngle = 175.3\n", ""))
    assert mdoc.axis_angle_deg is None
    assert mdoc.axis_source is AxisSource.NOTHING


@given(st.floats(-1e4, 1e4))
def test_wrapped_angles_differ_by_whole_turns(angle):
    turned = wrapped(angle)
    assert -180 < turned <= 180
    assert (turned - angle) / 360 == pytest.approx(round((turned - angle) / 360), abs=1e-9)


# --- dates


@pytest.mark.parametrize(
    "text",
    [
        "01-May-23  14:05:09",
        "01-May-2023  14:05:09",
        "1-may-2023 14:05:09",
        "01-Mai-23  14:05:09",
        "01-mei-23  14:05:09",
        "01-mag-23  14:05:09",
        "01-maj-23  14:05:09",
        "2023-05-01 14:05:09",
        "2023-May-01 14:05:09",
        "2023-05-01T14:05:09.000Z",
        "2023/05/01 14:05:09",
        "01.05.2023 14:05:09",
        "1.5.2023 14:05:09",
        "01/05/2023 14:05:09",
        "5/1/2023 2:05:09 PM",
        "2023年5月1日 14:05:09",
        "01-5月-23 14:05:09",
    ],
)
def test_every_known_form_of_a_date(text):
    assert parse_date(text) == datetime(2023, 5, 1, 14, 5, 9)


@pytest.mark.parametrize(
    ("word", "month"),
    [
        *(("Mrz", 3), ("mär", 3), ("Okt", 10), ("Dez", 12)),
        *(("févr.", 2), ("juin", 6), ("juil.", 7), ("août", 8), ("déc.", 12)),
        *(("ene", 1), ("ago", 8), ("dic", 12), ("gen", 1), ("giu", 6), ("lug", 7), ("ott", 10)),
        *(("fev", 2), ("out", 10), ("mrt", 3), ("paź", 10), ("gru", 12), ("úno", 2)),
        *(("August", 8), ("SEP", 9)),
    ],
)
def test_months_of_the_microscopes_language(word, month):
    assert parse_date(f"17-{word}-24  01:02:03") == datetime(2024, month, 17, 1, 2, 3)


@pytest.mark.parametrize(
    "text", ["", "soon", "31-Feb-23 10:00:00", "01-May-23", "12 13:61:00", "01-Xyz-23 10:00:00"]
)
def test_other_dates_are_none(text):
    assert parse_date(text) is None


@given(st.datetimes(datetime(1971, 1, 1), datetime(2068, 12, 31)).map(lambda t: t.replace(microsecond=0)))
def test_dates_come_back(moment):
    for form in ("%d-%b-%y  %H:%M:%S", "%d-%b-%Y  %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S"):
        assert parse_date(moment.strftime(form)) == moment
    assert parse_date(moment.strftime("%m/%d/%Y %I:%M:%S %p")) == moment


# --- half-written files


def test_mdoc_rewritten_while_read_is_incomplete_and_gives_its_whole_sections(read):
    whole = HEADER + section(0, 0) + section(1, 3) + section(2, -3)
    begins = whole.index("[ZValue = 2]")
    for end in range(begins + len("[ZValue = 2]"), len(whole) - 1):
        mdoc = read(whole[:end])
        assert not mdoc.complete or end == len(whole) - 1, whole[begins:end]
        assert [s.z_value for s in mdoc.sections] == [0, 1]
        assert mdoc.unfinished is not None
    assert read(whole).complete


def test_a_cut_last_header_is_not_a_tilt(read):
    whole = HEADER + section(0, 0) + section(1, 3)
    for end in range(whole.index("[ZValue = 1]") + 1, whole.index("[ZValue = 1]") + len("[ZValue = 1]")):
        mdoc = read(whole[:end])
        assert [s.z_value for s in mdoc.sections] == [0]
        assert not mdoc.complete


def test_only_a_header_is_incomplete(read):
    mdoc = read(HEADER)
    assert mdoc.sections == ()
    assert not mdoc.complete
    assert mdoc.axis_angle_deg == 85.3


def test_a_whole_file_may_lack_its_last_line_break(read):
    assert read((HEADER + section(0, 0) + section(1, 3)).rstrip("\n")).complete


def test_space_set_aside_for_a_file_being_copied_is_no_content(read):
    whole = (HEADER + section(0, 0) + section(1, 3)).encode()
    mdoc = read(whole[:-40] + bytes(40))
    assert not mdoc.complete
    assert len(mdoc.sections) == 1


def test_values_that_only_some_sections_have_are_not_missed(read):
    mdoc = read(HEADER + section(0, 0) + "NavigatorLabel = 7\nCtfFind = -4.6\n" + section(1, 3))
    assert mdoc.complete


# --- what is refused


def test_montage_is_refused_with_the_reason(write):
    pieces = "".join(f"{section(n, 0)}PieceCoordinates = 0 {3400 * n} 0\n" for n in range(3))
    with pytest.raises(BadFile, match="montage of 3 pieces") as refused:
        read_mdoc(write(HEADER + "Montage = 1\n" + pieces))
    assert "one image per tilt" in refused.value.do
    with pytest.raises(BadFile, match="2 montages"):
        read_mdoc(write(HEADER + (section(0, 0) + section(1, 3)).replace("ZValue", "MontSection")))


def test_montage_of_one_piece_is_a_tilt_series(read):
    tilts = "".join(f"{section(n, 3 * n)}PieceCoordinates = 0 0 {n}\n" for n in range(3))
    assert len(read(HEADER.replace("DataMode", "Montage = 1\nDataMode") + tilts).tilts) == 3


@pytest.mark.parametrize("content", [b"", b"\r\n \n", bytes(500)], ids=["nothing", "blank", "zeros"])
def test_empty_file_is_refused_with_the_reason(write, content):
    with pytest.raises(BadFile, match="empty"):
        read_mdoc(write(content))


@pytest.mark.parametrize("content", [b"II*\0\x10\0\0\0", b"Dear all,\nthe grid is bad\n", b"<xml></xml>\n"])
def test_other_files_are_refused(write, content):
    with pytest.raises(BadFile, match="not"):
        read_mdoc(write(content))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        read_mdoc(tmp_path / "TS_1.mdoc")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_bad_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.mdoc"
    path.write_bytes(b"PixelSpacing = 1\n[ZValue = 0]\n" + content)
    try:
        read_mdoc(path)
    except BadFile as refused:
        assert refused.what


# --- real files


@pytest.mark.real_data
def test_every_real_mdoc_is_read(real_data):
    found = {path.name: read_mdoc(path) for path in real_data.rglob("*.mdoc")}
    assert len(found) >= 4
    for mdoc in found.values():
        assert mdoc.complete
        assert not mdoc.strange_lines
        for tilt in mdoc.tilts:
            assert None not in (tilt.tilt_angle_deg, tilt.frame_name, tilt.date_time, tilt.num_sub_frames)
            assert "\\" not in (tilt.frame_name or "")
    sizes = {name: (len(mdoc.tilts), mdoc.axis_angle_deg) for name, mdoc in found.items()}
    assert sizes["TS_01.mrc.mdoc"] == (41, 85.3)
    assert sizes["L1_ts_001.mrc.mdoc"] == (41, 94.0)
    assert sizes["murfey_chrom_07_ts_010.mdoc"] == (11, 83.8)
    assert sizes["teamtomo_frame_set_single.mdoc"] == (1, 88.414)


@pytest.mark.real_data
def test_axis_of_real_titles_is_rotation_angle_less_90(real_data):
    for path in real_data.rglob("*.mdoc"):
        mdoc = read_mdoc(path)
        rotation = mdoc.tilts[0].rotation_angle_deg
        assert rotation is not None
        assert wrapped(rotation - 90 - mdoc.axis_angle_deg) == pytest.approx(0, abs=0.1)


@pytest.mark.real_data
def test_order_of_empiar_10164_by_date_is_that_of_its_names(real_data):
    tilts = read_mdoc(real_data / "tomo_empiar10164" / "TS_01.mrc.mdoc").tilts
    by_date = sorted(tilts, key=lambda tilt: tilt.date_time)
    assert [tilt.frame_name for tilt in by_date] == sorted(tilt.frame_name for tilt in tilts)
