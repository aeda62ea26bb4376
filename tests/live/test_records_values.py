"""Tables of PVs and their values, without any EPICS."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.live.records.pv import COMPUTED, ENUMERATED, PV, TEXTS, Record
from tomofly.live.records.saving import Autosave, configuration, configure
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput, TomoflyError

BOTH = [*SCAN_TABLE, *STREAM_TABLE]
SETTABLE = [pv for pv in BOTH if pv.record not in COMPUTED]

NAMES_OF_TOMOSCANSTREAM = """StreamCapture StreamNumCapture StreamNumCaptured StreamNumTotalCaptured
StreamRetakeFlat StreamRetakeDark StreamPreCount StreamPreCounted StreamBinning StreamMessage
StreamCBStatusMessage StreamFileName PvaStreamPVPrefix StreamSync FirstProjid StreamScanType"""
NAMES_OF_TOMOSTREAM = """TomoScanPVPrefix ImagePVAPName DarkPVAName FlatPVAName ThetaPVAName ReconPVAName
BufferSize Center CenterTweak CenterTweakUp CenterTweakDown FilterType Dezinger RingRemoval OrthoX OrthoY
OrthoZ RotX RotY RotZ Energy Distance Alpha PixelSize ReconStatus ReconTime Watchdog ServerRunning StartRecon
AbortRecon LensChangeSync"""


def scan() -> PVValues:
    return PVValues("s:", SCAN_TABLE)


def test_all_known_names_are_there() -> None:
    assert not set(NAMES_OF_TOMOSCANSTREAM.split()) - {pv.name for pv in SCAN_TABLE}
    assert not set(NAMES_OF_TOMOSTREAM.split()) - {pv.name for pv in STREAM_TABLE}


@pytest.mark.parametrize("table", [SCAN_TABLE, STREAM_TABLE], ids=["scan", "stream"])
def test_a_name_stands_once_and_what_is_computed_has_its_inputs(table: tuple[PV, ...]) -> None:
    names = [pv.name for pv in table]
    assert len(names) == len(set(names))
    for pv in table:
        assert pv.record in COMPUTED or pv.checked(pv.default) == pv.default, pv.name
        assert set(pv.inputs) <= set(names)
        assert pv.meaning
        assert bool(pv.choices) == (pv.record in ENUMERATED), pv.name
        assert not (pv.saved and pv.readback), pv.name


@pytest.mark.parametrize("pv", SETTABLE, ids=lambda pv: pv.name)
def test_no_nan_gets_in(pv: PV) -> None:
    if pv.record not in TEXTS:
        with pytest.raises(BadInput, match=pv.name):
            pv.checked(math.nan)


@given(st.sampled_from([pv for pv in SETTABLE if pv.low is not None and pv.high is not None]), st.floats())
def test_a_number_is_inside_its_limits_or_refused(pv: PV, value: float) -> None:
    try:
        kept = pv.checked(value)
    except BadInput as refusal:
        assert pv.name in str(refusal)
    else:
        assert pv.low <= kept <= pv.high  # type: ignore[operator]
        assert kept == value


@given(st.text(max_size=400))
def test_a_text_is_kept_whole_or_refused(text: str) -> None:
    pv = PV("T", Record.TEXT, "a text")
    try:
        assert pv.checked(text) == text
    except BadInput:
        assert len(text.encode()) > 255


def test_choices_are_taken_by_word_and_number() -> None:
    values = scan()
    for put in ("backforth", "BackForth", 0):
        values.set("StreamScanType", "continuous")
        assert values.take("StreamScanType", put)
        assert values.text("StreamScanType") == "backforth"


def test_what_is_refused_changes_nothing_and_is_told() -> None:
    values, told, seen = scan(), [], []
    values.on_refusal(told.append)
    values.watch("StreamPreCount", seen.append)
    assert not values.take("StreamPreCount", 20_001)
    assert not values.take("StreamNumCaptured", 5)
    assert values["StreamPreCount"] == 0
    assert seen == []
    assert "from 0 to 20000" in told[0]
    assert "written by the program" in told[1]


def test_limits_follow_the_detector() -> None:
    values = PVValues("r:", STREAM_TABLE)
    values.limit("OrthoX", 0, 511)
    assert not values.take("OrthoX", 512)
    assert values.take("OrthoX", 511)
    assert values.take("OrthoY", 512)


def test_a_text_that_is_too_long_loses_its_end_when_the_program_says_it() -> None:
    values = scan()
    values.set("StreamNotice", "ä" * 300)
    assert values.text("StreamNotice") == "ä" * 127


def test_a_configuration_sets_what_it_names() -> None:
    values, other = scan(), PVValues("r:", STREAM_TABLE)
    document = {"s:": {"StreamPreCount": 7, "StreamScanType": "backforth", "ExposureTime": -1}, "x:": {}}
    troubles = configure([values, other], document)
    assert values["StreamPreCount"] == 7
    assert values.text("StreamScanType") == "backforth"
    assert len(troubles) == 1
    assert "ExposureTime" in troubles[0]


def test_a_flat_configuration_is_taken_as_well() -> None:
    values = scan()
    assert configure([values], {"NumAngles": 300, "s:RotationStep": 0.6, "Unknown": 1}) == []
    assert (values["NumAngles"], values["RotationStep"]) == (300, 0.6)


def test_a_configuration_comes_back_as_it_was() -> None:
    values, again = scan(), scan()
    values.take("RotationStep", 0.123456789)
    values.take("SampleName", "Gestein ä")
    configure([again], json.loads(json.dumps(configuration([values]))))
    assert again.saved() == values.saved()


def test_an_unreadable_file_is_put_aside(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "saved.json"
    path.write_text("{ half a file")
    values = scan()
    autosave = Autosave(path, [values], told.append)
    autosave.restore()
    assert "no JSON" in told[0]
    assert (tmp_path / "saved.json.unreadable").exists()
    values.take("NumAngles", 77)
    assert autosave.save()
    assert json.loads(path.read_text())["s:"]["NumAngles"] == 77


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").write_text("")
    values = scan()
    autosave = Autosave(tmp_path / "file" / "saved.json", [values], told.append)
    autosave.restore()
    values.take("NumAngles", 77)
    assert not autosave.save()
    assert "cannot be saved" in told[0]


def test_an_unknown_name_is_an_error_of_the_program() -> None:
    with pytest.raises(TomoflyError, match="NoSuch"):
        scan()["NoSuch"]
