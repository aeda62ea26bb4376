"""The status in words, the pages, and the view on a terminal."""

import asyncio
import copy
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.conftest import REPOSITORY
from tomofly.cli.live_view import PlainLines, drawn, picture, status_lines
from tomofly.cli.main import app
from tomofly.live.records.page import pv_page
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.settings import LiveSettings, checked_settings
from tomofly.live.status import alerts
from tomofly.model import TomoflyError
from tomofly.services.live import ENDING, STARTING, run

PAGE = REPOSITORY / "docs" / "reference" / "live-pvs.md"

WELL: dict[str, Any] = {
    "program": {"troubles": {}},
    "collection": {
        "phase": "Streaming", "message": "Done", "notice": "", "fault": "", "elapsed": "00:01:00",
        "scan_type": "continuous",
    },
    "camera": {
        "channel": "c:Image", "connected": True, "problem": "", "frames_per_s": 50.0, "shape_yx": (9, 16),
        "dtype": "uint16",
    },
    "frames": {"received": 10_000, "missing": 0, "lost": {}},
    "reconstruction": {
        "alive": True, "trouble": "", "state": "Running", "backend": "cpu", "latency_p50_s": 0.03,
        "latency_p95_s": 0.1, "updates_per_s": 12.0, "coverage_percent": 100.0, "projections": 360,
        "centre": 7.5, "losses": {}, "sharpness": {"x": 0.1, "y": 0.1, "z": 0.1},
    },
    "fields": {
        "dark": {"version": 1, "age_s": 60.0}, "flat": {"version": 2, "age_s": 30.0}, "refusals": [],
    },
    "capture": {
        "state": "Idle", "file": "/data/scan_001.h5", "captured": 10, "wanted": 10, "problem": "",
        "ring_frames": 50, "ring_s": 1.0, "folder": "/data", "free_gb": 500.0, "minimum_free_gb": 5.0,
    },
    "triggers": [],
    "alerts": [],
}  # fmt: skip


def ill(place: str, value: Any) -> dict[str, Any]:
    status = copy.deepcopy(WELL)
    section, name = place.split(".")
    status[section][name] = value
    return status


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert alerts(WELL) == []


@pytest.mark.parametrize(
    ("place", "value", "level", "words"),
    [
        ("camera.connected", False, "problem", "c:Image is not there"),
        ("camera.problem", "unknown codec zip", "problem", "unknown codec zip"),
        ("camera.frames_per_s", 0.0, "problem", "No frames come"),
        ("collection.phase", "Fault", "problem", "Collection has stopped"),
        ("frames.missing", 100, "warning", "100 of 10100 frames never came"),
        ("frames.lost", {"capture queue full": 3}, "warning", "3 frames lost: capture queue full"),
        ("reconstruction.losses", {"queue_full": 500}, "warning", "too many for reconstruction"),
        ("reconstruction.losses", {"thinned_out": 500}, "warning", "too many for reconstruction"),
        ("reconstruction.alive", False, "problem", "Reconstruction does not work"),
        ("reconstruction.latency_p95_s", 5.0, "warning", "5.0 s behind"),
        ("fields.flat", {"version": 1, "age_s": 6 * 3600.0}, "warning", "6 hours old"),
        ("fields.fit", False, "problem", "No dark and flat field fit the frames"),
        ("reconstruction.losses", {"no_angle": 50}, "warning", "50 projections have no angle"),
        ("fields.refusals", ["dark brighter than flat"], "warning", "dark brighter than flat"),
        ("capture.free_gb", 7.0, "problem", "Only 7.0 GB are free"),
        ("capture.state", "Failed", "problem", "The last capture failed"),
        ("program.troubles", {"capture": "no folder"}, "problem", "capture failed: no folder"),
    ],
)
def test_what_is_wrong_is_said(place: str, value: Any, level: str, words: str) -> None:
    found = alerts(ill(place, value))
    assert [(alert.level, words in alert.what) for alert in found] == [(level, True)]


def test_missing_fields_matter_once_projections_come() -> None:
    status = ill("fields.flat", {"version": 0, "age_s": None})
    assert alerts(status) == []
    status["reconstruction"]["losses"] = {"no_fields": 5}
    assert alerts(status)[0].do == "tomofly live retake flat"


def test_a_fault_is_told_by_what_caused_it_and_not_by_the_last_notice() -> None:
    status = ill("collection.phase", "Fault")
    status["collection"] |= {"fault": "RotationStep is 0. Set the angle.", "notice": "12:00:00 other"}
    line = next(status_lines(status | {"alerts": [alert.document() for alert in alerts(status)]}))
    assert line == (
        "PROBLEM: Collection has stopped: RotationStep is 0. Set the angle. Then: tomofly live start."
    )


def test_a_capture_that_waits_in_vain_is_told() -> None:
    status = ill("capture.state", "Capturing")
    status["collection"]["phase"], status["camera"]["frames_per_s"] = "Idle", 0.0
    assert ["--stop" in alert.do for alert in alerts(status)] == [True]


def test_a_line_for_each_thing_that_is_wrong_and_not_for_each_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainLines()
    for count in (100, 120, 140):
        status = ill("frames.missing", count)
        view.show(status | {"alerts": [alert.document() for alert in alerts(status)]}, None)
    assert capsys.readouterr().err.count("never came") == 1


def test_captures_of_a_dry_run_are_told_as_such() -> None:
    trigger = {"name": "crack", "state": "would have fired", "captures": 2, "dry_run": True}
    assert (
        "crack: would have fired, 2 captures, all as a dry run"
        in list(status_lines(WELL | {"triggers": [trigger]}))[-1]
    )


def test_a_capture_that_ended_early_is_told_with_its_file() -> None:
    lines = "\n".join(status_lines(ill("capture.problem", "scan_002.h5 ended early: the disk was full")))
    assert "scan_002.h5 ended early" in lines
    assert "0.031 GB free" in "\n".join(status_lines(ill("capture.free_gb", 0.0312)))


def test_problems_stand_before_warnings() -> None:
    status = ill("frames.missing", 100)
    status["camera"]["connected"] = False
    assert [alert.level for alert in alerts(status)] == ["problem", "warning"]


def test_the_lines_say_what_matters() -> None:
    status = WELL | {"alerts": [alert.document() for alert in alerts(ill("camera.connected", False))]}
    lines = list(status_lines(status))
    assert lines[0].startswith("PROBLEM: The camera's channel c:Image is not there.")
    text = "\n".join(lines)
    for words in ("9×16 uint16", "10000 in, 0 missing", "p95 100 ms", "flat version 2", "/data/scan_001.h5"):
        assert words in text


def test_a_slice_becomes_half_blocks() -> None:
    """Two rows to a line; bright above dark shows in the colours; what is not finite harms nothing."""
    image = np.zeros((4, 6), np.float32)
    image[0] = 1
    image[3, 3] = np.nan
    lines = picture(image).plain.splitlines()
    assert [len(line) for line in lines] == [6, 6]
    spans = picture(image).spans
    assert str(spans[0].style) == "rgb(255,255,255) on rgb(0,0,0)"
    assert len(picture(np.zeros((70, 90), np.float32)).plain.splitlines()[0]) == 30


def test_the_beginning_and_the_end_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def at_work(_settings: object, ended: asyncio.Event, _watch: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await ended.wait()

    monkeypatch.setattr("tomofly.live.process.run_live", at_work)
    service = {"state_folder": tmp_path, "log": str(tmp_path / "live.log")}
    run(checked_settings({"service": service, "capture": {"folder": tmp_path}}), PlainLines())
    assert capsys.readouterr().err.splitlines() == [STARTING, ENDING]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    service = {"state_folder": tmp_path, "log": str(tmp_path / "none" / "live.log")}
    with pytest.raises(TomoflyError, match=r"none/live\.log cannot be written.*service\.log"):
        run(checked_settings({"service": service, "capture": {"folder": tmp_path}}))


def test_what_libraries_print_goes_aside_and_not_into_the_view(tmp_path: Path) -> None:
    work = """
import os, sys
from pathlib import Path
from tomofly.cli.live_view import TerminalView
with TerminalView(Path(sys.argv[1])) as view:
    os.write(1, b"banner ")
    os.write(2, b"warning")
    view.say("shown")
os.write(2, b"after")
"""
    ran = subprocess.run(
        [sys.executable, "-c", work, tmp_path / "live.err"], capture_output=True, check=True, timeout=60
    )
    assert (tmp_path / "live.err").read_bytes() == b"banner warning"
    assert b"shown" in ran.stderr
    assert ran.stderr.endswith(b"after")
    assert b"warning" not in ran.stderr + ran.stdout


def test_the_whole_is_drawn_without_slices() -> None:
    console = Console(record=True, width=100, file=None, quiet=True)
    with console.capture() as said:
        console.print(drawn(WELL, None))
    assert "Streaming" in said.get() or console.quiet


def test_the_page_of_pvs_is_that_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8").rstrip() == pv_page().rstrip()
    for pv in (*SCAN_TABLE, *STREAM_TABLE):
        assert f"| `{pv.name}` |" in pv_page()


def test_settings_in_the_how_to_are_legal() -> None:
    import tomllib

    text = (REPOSITORY / "docs" / "howto" / "live.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert checked_settings(tomllib.loads(first)).rotation.record == "2bmb:m1"
    for block in others:
        checked_settings(tomllib.loads(block))
    for section, name in re.findall(r"`(\w+)\.(\w+)(?: = [^`]*)?`", text):
        if section in LiveSettings.model_fields:
            annotation: Any = LiveSettings.model_fields[section].annotation
            assert name in annotation.model_fields, f"{section}.{name}"


def test_the_commands_print_settings_and_pvs() -> None:
    runner = CliRunner()
    config = runner.invoke(app, ["live", "config"])
    assert "[camera]" in config.stdout
    assert "StreamRetakeFlat" in runner.invoke(app, ["live", "pvs"]).stdout
