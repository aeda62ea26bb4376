"""What a person sees of a session: everything that matters, nothing that markup could break."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tomofly.cli.demo_camera import Camera
from tomofly.cli.output import duration_text, fitting_columns, size_text, write_table
from tomofly.cli.view import PlainView, drawn, line_of
from tomofly.model import TomoflyError
from tomofly.services.progress import Progress, TrackProgress, Trouble
from tomofly.store.browse import BrowsedItem

TRACK = TrackProgress(
    name="preprocess", state="running", waiting=3, queued=2, running=1, done=41, failed=1, skipped=0,
    backlog=6, rate_per_hour=312.4, eta_s=69.1, latency_p50_s=11.2, latency_p95_s=75.0, paused="",
    revision=1, stages={},
)  # fmt: skip
ITEM = BrowsedItem(
    1, "square[1]/hole_7", "movie", "", {}, None, 0.0, True, "", "",
    metrics={("ctf", "defocus_angstrom"): 15321.7, ("ctf", "fit_resolution_angstrom"): 4.217},
    flags=[("ctf", "aliasing", "too narrow")],
)  # fmt: skip
PROGRESS = Progress(
    name="krios [1]", kind="spa", folder="/data/krios", status="running", note="", items=48, done=41,
    failed=1, tracks=(TRACK,), latency_p50_s=11.2, latency_p95_s=75.0,
    errors=(Trouble("hole_3", "import", "All pixels are zero.", 5.0),),
    alerts=({"message": "The source has vanished", "code": "source"},),
    vitals={"free_bytes": 2.5e12, "transfer_mb_per_s": 118.2, "pending_files": 2}, latest=(ITEM,),
)  # fmt: skip


def picture(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    console.print(drawn(progress, "1.5 Å/px"))
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_the_live_view_shows_all_that_matters() -> None:
    shown = picture(PROGRESS)
    for part in (
        "krios [1]", "at work", "/data/krios", "1.5 Å/px", "48 items, 41 done, 1 failed", "2.5 TB free",
        "118.2 MB/s", "2 files arriving", "preprocess", "312", "1 min 09 s", "11 s", "1 min 15 s",
        "square[1]/hole_7", "defocus 15322 Å", "rings to 4.22 Å", "aliasing", "All pixels are zero.",
        "The source has vanished",
    ):  # fmt: skip
        assert part in shown


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_a_narrow_terminal_shows_fewer_columns_but_whole_words(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(drawn(PROGRESS, ""))
    text = console.file
    assert isinstance(text, io.StringIO)
    header = next(line for line in text.getvalue().splitlines() if line.startswith("track"))
    assert "…" not in text.getvalue()
    whole = "track state wait queue run done fail skip per h backlog ETA p50 p95"
    assert set(header.split()) <= set(whole.split())
    assert {"track", "state", "done", "fail", "ETA"} <= set(header.split())


def test_the_demonstration_ends_when_its_microscope_dies(tmp_path: Path) -> None:
    log = tmp_path / "microscope.log"
    with log.open("wb") as file:
        program = "import sys; sys.exit('No room for a movie')"
        process = subprocess.Popen([sys.executable, "-c", program], stderr=file)
    process.wait(timeout=30)
    camera = Camera(process, log, 3)
    with pytest.raises(TomoflyError, match="microscope has died: No room for a movie"):
        camera.is_at_work()


def test_without_a_terminal_each_change_and_each_trouble_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView()
    view.show(PROGRESS)
    view.show(PROGRESS)
    view.show(replace(PROGRESS, done=42))
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "failed: hole_3, import: All pixels are zero."
    assert lines[1] == line_of(PROGRESS)
    assert lines[2].startswith("running: 42 of 48 done")
    assert len(lines) == 3


def test_quantities_are_written_for_people() -> None:
    assert [duration_text(s) for s in (None, 0.04, 9.96, 59, 61, 3600, 90061)] == [
        "-", "0.0 s", "10.0 s", "59 s", "1 min 01 s", "1 h 00 min", "25 h 01 min",
    ]  # fmt: skip
    assert [size_text(n) for n in (None, 0, 999, 1000, 2.5e9, 3e15)] == [
        "-", "0 B", "999 B", "1.0 kB", "2.5 GB", "3000.0 TB",
    ]  # fmt: skip


def test_a_table_leaves_out_columns_that_a_terminal_has_no_room_for() -> None:
    columns = ["key", "state", "total_motion_angstrom", "defocus_angstrom", "flags"]
    rows = [{"key": "square/hole_7", "state": "done", "flags": "ice"}, {"key": "a", "defocus_angstrom": 1.0}]
    assert fitting_columns(columns, rows, 80) == columns
    assert fitting_columns(columns, rows, 60) == ["key", "state", "total_motion_angstrom", "flags"]
    assert fitting_columns(columns, rows, 10) == ["key", "state", "flags"]
    assert fitting_columns(columns, rows) == columns, "all of them where it is no terminal"


def test_a_table_lines_up_and_ends_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("key", "value"), [("a", 1.0), ("long name", None), ("b", 123.456789)])
    assert capsys.readouterr().out.splitlines() == [
        "key         value", "a               1", "long name       -", "b          123.46",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_demonstration_ends_by_itself_with_everything_done(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tomofly.cli", "demo", "spa", "--items", "2", "--detector", "512x640",
        "--pace", "1", "--out", str(tmp_path / "demo"), "--home", str(tmp_path / "home"), "--json", "--set",
        "resources.minimum_free_gb=0",
    ]  # fmt: skip
    plain = {name: value for name, value in os.environ.items() if name != "TOMOFLY_DATABASE"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110, env=plain)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["items"], summary["done"], summary["failed"]) == (2, 2, 0)
    assert summary["accuracy"]["micrographs"] == 2
    assert summary["accuracy"]["shift_rms_px"] < 1.0
    assert summary["exports"][0]["items"] == 2
    assert (tmp_path / "demo" / "relion" / "micrographs_ctf.star").is_file()
    assert summary["metrics"]["ctf.defocus_angstrom"]["unit"] == "Å"
    assert set(summary) >= {"wall_s", "throughput_per_hour", "latency_p50_s", "latency_p95_s"}
