"""The PVs as clients of tomoScanStream and tomoStream meet them, over Channel Access and PVAccess."""

import threading

import aioca
import numpy as np
import pytest
from p4p.client.thread import Context

from tests.live.conftest import ChannelAccess, Serve, Server
from tomofly.live.records.pv import TEXT_BYTES, Record
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE

P, R = "t1:TomoScanStream:", "t1:TomoStream:"
ALL = [(P, pv) for pv in SCAN_TABLE] + [(R, pv) for pv in STREAM_TABLE]
RECORD_TYPES = {Record.BUSY: "bo"}


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return serve("-m", "tests.live.records_server", P, R, tmp_path_factory.mktemp("saved") / "autosave.json")


def test_every_pv_answers_over_both_protocols_as_its_record(
    server: Server, ca: ChannelAccess, pva: Context
) -> None:
    names = [prefix + pv.name for prefix, pv in ALL]
    kinds = ca.get([f"{name}.RTYP" for name in names])
    assert [str(kind) for kind in kinds] == [RECORD_TYPES.get(pv.record, str(pv.record)) for _, pv in ALL]
    for (_, pv), over_ca, over_pva in zip(ALL, ca.get(names), pva.get(names), strict=True):
        assert over_ca.ok, pv.name
        assert over_pva is not None, pv.name
        if pv.record is Record.TEXT:
            assert len(over_ca) <= TEXT_BYTES
            assert bytes(over_pva).rstrip(b"\0").decode() == pv.default


def test_choices_units_and_limits_are_served(server: Server, ca: ChannelAccess) -> None:
    ctrl = aioca.FORMAT_CTRL
    assert list(ca.get(R + "FilterType", format=ctrl).enums)[:4] == [
        "Parzen", "Shepp-logan", "Ramp", "Butterworth",
    ]  # fmt: skip
    assert list(ca.get(P + "FrameType", format=ctrl).enums) == ["DarkField", "FlatField", "Projection"]
    assert [ca.get(f"{R}Dezinger.{field}VL") for field in ("ZR", "ON", "TW", "TH")] == [0, 2, 3, 4]
    capture = ca.get(P + "StreamPreCount", format=ctrl)
    assert (capture.lower_disp_limit, capture.upper_disp_limit) == (0, 20_000)
    assert ca.get(P + "ExposureTime", format=ctrl).units == "s"
    assert ca.get(R + "Center", format=ctrl).precision == 3


def test_text_is_readable_and_writable_as_by_caget_with_s(server: Server, ca: ChannelAccess) -> None:
    assert ca.text(P + "StreamMessage") == "Done"
    ca.put(P + "FileName", np.frombuffer(b"rock_\xc3\xa4\0", dtype=np.uint8))
    assert ca.text(P + "FileName") == "rock_ä"


def test_computed_records_compute(server: Server, ca: ChannelAccess) -> None:
    for name, value in (("RotationStart", 10), ("RotationStep", 0.25), ("NumAngles", 721)):
        ca.put(P + name, value)
    assert ca.until(P + "RotationStop", lambda v: v == 190.0) == 190.0
    ca.put(R + "Center", 500)
    ca.put(R + "CenterTweak", 0.5)
    ca.put(R + "CenterTweakUp.PROC", 1)
    server.line("centre 500.5")
    ca.put(R + "CenterTweakDown.PROC", 1)
    assert ca.get(R + "Center") == 500.0


def test_a_busy_pv_completes_when_the_work_is_done(server: Server, ca: ChannelAccess) -> None:
    done = threading.Event()

    def move() -> None:
        ca.put(P + "MoveSampleIn", 1, timeout=20)
        done.set()

    thread = threading.Thread(target=move)
    thread.start()
    ca.until(P + "MoveSampleIn", lambda v: v == 1)
    assert not done.is_set()
    ca.put(P + "MoveSampleOut", 1, wait=False)
    thread.join(10)
    assert done.is_set()
    assert ca.get(P + "MoveSampleIn") == 0
    ca.put(P + "MoveSampleOut", 0)


def test_a_busy_pv_is_ended_by_0(server: Server, ca: ChannelAccess) -> None:
    ca.put(P + "StreamCapture", 1, wait=False)
    value = ca.until(P + "StreamCapture", lambda v: v == 1)
    assert value.severity == 1  # MINOR while capturing
    ca.put(P + "StreamCapture", 0, wait=False)
    assert ca.until(P + "StreamCapture", lambda v: v == 0).severity == 0


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        (R + "Center", float("nan"), "nan"),
        (R + "Center", float("inf"), "inf"),
        (R + "OrthoX", 99_999, "from 0 to 2448"),
        (P + "ExposureTime", -1.0, "from 1e-06 to 3600 s"),
        (P + "StreamNumCaptured", 3, "written by the program"),
        (R + "FilterType", 7, "Legal are"),
    ],
)
def test_a_bad_value_is_refused_and_the_notice_says_why(
    server: Server, ca: ChannelAccess, name: str, value: float, why: str
) -> None:
    before = ca.get(name)
    prefix, short = name[: name.rindex(":") + 1], name[name.rindex(":") + 1 :]
    ca.put(name, value, wait=False)
    ca.until(prefix + "StreamNotice", lambda text: all(w.encode() in bytes(text) for w in (why, short)))
    assert ca.get(name) == before


def test_two_writers_agree_in_the_end(server: Server, ca: ChannelAccess, pva: Context) -> None:
    """Whoever writes last wins: the record and the program hold the same value."""
    ca.put(R + "Center", 1)

    def over_pva() -> None:
        for value in range(100, 150):
            pva.put(R + "Center", float(value))

    other = threading.Thread(target=over_pva)
    other.start()
    for value in range(200, 250):
        ca.put(R + "Center", float(value))
    other.join(20)
    last = ca.get(R + "Center")
    assert last in (149, 249)
    ca.put(R + "Center", last + 0.5)  # a mark behind all that was written before
    server.line(f"centre {last + 0.5}")
    said = [line for line in server._lines if line.startswith("centre")]
    assert said[-2] == f"centre {last}"


def test_the_watchdog_counts_down_to_a_major_alarm(server: Server, ca: ChannelAccess) -> None:
    """Fed once at the start with 5, and never again."""
    stopped = ca.until(P + "ServerRunning", lambda v: v == 0, timeout=15)
    assert stopped.severity == 2
    assert ca.get(P + "Watchdog") == 0


def test_a_second_server_of_the_prefix_is_refused(server: Server, serve: Serve) -> None:
    second = serve("-m", "tests.live.records_server", P, R, ready="refused")
    assert f"{P}ServerRunning is already served over Channel Access, by localhost:" in second.line("refused")


def test_names_fit_into_epics(server: Server) -> None:
    assert max(len("2bmb:TomoScanStream:" + pv.name + "_Hold") for _, pv in ALL) <= 60


def test_settings_outlive_a_restart(
    serve: Serve, ca: ChannelAccess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    saved = tmp_path_factory.mktemp("kept") / "autosave.json"
    first = serve("-m", "tests.live.records_server", "t2:S:", "t2:R:", saved)
    ca.put("t2:S:StreamPreCount", 123)
    ca.put("t2:R:FilterType", "Ramp")
    assert first.end() == 0
    ca.forget()
    serve("-m", "tests.live.records_server", "t2:S:", "t2:R:", saved)
    assert ca.until("t2:S:StreamPreCount", lambda v: v == 123) == 123
    assert ca.get("t2:R:FilterType") == 2
