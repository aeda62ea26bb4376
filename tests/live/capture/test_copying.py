"""Copies after a capture: whole and verified or not there at all, and no program is told anything else."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.live.capture.copy_queue import ENDED, Copy, CopyQueue
from tomofly.live.capture.copying import command, copy_capture, copy_into, parse_target, run
from tomofly.live.control.copying import CopyControl
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.status import _of_copies
from tomofly.model import BadInput
from tomofly.stages import verified_copy

SECONDS = 20
BYTES = os.urandom(300_001)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_copy, "CHUNK_BYTES", 65_536)
    monkeypatch.setattr(verified_copy, "CHECKPOINT_BYTES", 65_536)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "captures" / "scan_001.h5"
    path.parent.mkdir()
    path.write_bytes(BYTES)
    path.with_suffix(".config").write_text("{}")
    return path


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of that name before all others."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("text", "host", "folder"),
    [
        ("/data/analysis", "", "/data/analysis"),
        ("/data/a:b c", "", "/data/a:b c"),
        ("tomo1:/data", "tomo1", "/data"),
        ("user2bmb@tomo1.xray.aps:~/in", "user2bmb@tomo1.xray.aps", "~/in"),
    ],
)
def test_what_a_target_means(text: str, host: str, folder: str) -> None:
    target = parse_target(text)
    assert (target.host, target.folder) == (host, folder)


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=x:/data", "a@-b:/data", "tomo1:-rf", "tomo1:/data;rm", "tomo1:$(x)", "tomo1:/a b",
        ":/data", "tomo1:", "data/here", "", "/da\nta", "tomo1:/da\tta", "a b:/data", "tomo1:/`",
        "[fe80::1]:/data",
    ],
)  # fmt: skip
def test_what_a_program_could_take_for_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_target(text)


@given(st.text())
def test_whatever_is_written_no_argument_begins_with_a_dash(text: str) -> None:
    try:
        target = parse_target(text)
    except BadInput:
        return
    if target.host:
        *_, dashes, file, there = command("scp", [Path("-x.h5")], target)
        assert dashes == "--"
        assert file.startswith("/")
        assert not there.startswith("-")
        assert there.isprintable()


def test_a_copy_is_equal_and_appears_when_it_is_whole(capture: Path, tmp_path: Path) -> None:
    there = tmp_path / "analysis"
    copy_capture("scp", capture, parse_target(str(there)), SECONDS, str)
    assert sorted(path.name for path in there.iterdir()) == ["scan_001.config", "scan_001.h5"]
    assert (there / capture.name).read_bytes() == BYTES
    assert (there / capture.name).stat().st_mtime == pytest.approx(capture.stat().st_mtime)
    copy_capture("scp", capture, parse_target(str(there)), SECONDS, str)  # it is there: nothing to do


def test_a_copy_that_was_cut_off_goes_on_where_it_agrees(capture: Path, tmp_path: Path) -> None:
    looked = iter(["", "", "cut off"])
    with pytest.raises(OSError, match="cut off"):
        copy_into(capture, tmp_path, lambda: next(looked))
    part = tmp_path / ".scan_001.h5.copying"
    assert part.read_bytes() == BYTES[: 2 * 65_536]
    spoiled = bytearray(part.read_bytes() + bytes(400_000))
    spoiled[70_000] ^= 1
    part.write_bytes(spoiled)  # and what is wrong in it is put right
    assert copy_into(capture, tmp_path).read_bytes() == BYTES
    assert not part.exists()


def test_another_file_of_the_name_is_left_alone(capture: Path, tmp_path: Path) -> None:
    (tmp_path / capture.name).write_text("another")
    with pytest.raises(BadInput, match="another file"):
        copy_into(capture, tmp_path)
    assert (tmp_path / capture.name).read_text() == "another"
    with pytest.raises(BadInput, match="already"):
        copy_into(capture, capture.parent)


def test_a_disk_that_spoils_data_is_found_out(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_copy, "_hash_range", lambda _, digest, *more: digest.update(b"else"))
    with pytest.raises(OSError, match="differs from what was read"):
        copy_into(capture, tmp_path)
    assert list(tmp_path.glob("*scan*")) == []


def test_a_disk_that_is_not_mounted_is_not_filled(capture: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        copy_capture("scp", capture, parse_target(str(tmp_path / "mount" / "in")), SECONDS, str)


def test_scp_is_given_arguments_and_no_shell(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "scp", f'printf "%s\\n" "$@" > {tmp_path}/told', monkeypatch)
    copy_capture("scp", capture, parse_target("ann@tomo1:/data/in/"), SECONDS, str)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[-4:] == ["--", str(capture), str(capture.with_suffix(".config")), "ann@tomo1:/data/in/"]
    assert "BatchMode=yes" in told


def test_what_a_program_complains_of_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "scp", "echo 'Host key  verification failed.' >&2; exit 255", monkeypatch)
    with pytest.raises(OSError, match=r"^Host key verification failed\.$"):
        run(["scp"], str)


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "scp", "exec sleep 600", monkeypatch)
    target = parse_target("tomo1:/data")
    with pytest.raises(OSError, match=r"longer than 0\.3 s"):
        copy_capture("scp", tmp_path / "scan.h5", target, 0.3, str)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.queue = CopyQueue(folder / "copies.json", SECONDS, self.told.append)
        self.values = PVValues("s:", SCAN_TABLE)
        self.values.on_refusal(self.told.append)
        self.control = CopyControl(self.values, self.queue)
        self.control.connect()

    def until(self, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """Wait for a status of the queue."""
        with self.queue._changed:
            assert self.queue._changed.wait_for(lambda: wanted(self.queue.status()), SECONDS)
        return self.control.publish()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.queue.close()


def test_after_a_capture_its_file_is_copied(bench: Bench, capture: Path, tmp_path: Path) -> None:
    bench.control.captured(capture)
    assert bench.queue.status()["state"] == "Idle"  # nobody wants copies
    assert bench.values.take("RemoteAnalysisDir", str(tmp_path / "analysis"))
    assert bench.values.take("CopyToAnalysisDir", "scp")
    bench.control.captured(capture)
    bench.until(lambda status: status["copied"] == 1)
    assert (tmp_path / "analysis" / capture.name).read_bytes() == BYTES
    assert bench.values.text("StreamCopyState") == "Idle"
    assert bench.values["StreamCopied"] == 1


def test_a_failure_is_told_and_tried_again_when_asked_for(
    bench: Bench, capture: Path, tmp_path: Path
) -> None:
    bench.values.set("FullFileName", str(capture))
    bench.values.take("RemoteAnalysisDir", str(tmp_path / "disk" / "in"))
    bench.values.take("CopyToAnalysisDir", "scp")
    bench.control.captured(capture)
    status = bench.until(lambda status: status["state"] == "Failed")
    assert bench.values.text("StreamCopyState") == "Failed"
    (alert,) = _of_copies(status)
    assert alert.level == "problem"
    assert "No such file" in alert.what
    (tmp_path / "disk").mkdir()
    assert bench.values.take("StreamCopyFile", "")
    bench.until(lambda status: status["copied"] == 1 and not status["failed"])
    assert not bench.values.take("StreamCopyFile", "")
    assert "No copy has failed" in bench.told[-1]
    assert bench.values.take("StreamCopyFile", capture.name)
    bench.until(lambda status: status["copied"] == 2)


def test_what_failed_is_known_after_a_restart(bench: Bench, capture: Path, tmp_path: Path) -> None:
    bench.queue.put(Copy(str(capture), "scp", "nowhere"))
    bench.until(lambda status: bool(status["failed"]))
    bench.queue.close()
    bench.queue._failed.clear()
    again = Bench(tmp_path)
    (failed,) = again.queue.failed
    assert failed.file == str(capture)
    assert "whole path" in failed.problem
    again.queue.close()


def test_what_was_under_way_at_the_end_is_known_too(
    bench: Bench, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "scp", "exec sleep 600", monkeypatch)
    bench.queue.put(Copy(str(capture), "scp", "tomo1:/data"))
    bench.until(lambda status: bool(status["copying"]))
    bench.queue.close()
    assert [copy.problem for copy in CopyQueue(tmp_path / "copies.json", 1, print).failed] == [ENDED]


def test_nobody_copies_what_is_no_capture(bench: Bench, capture: Path, tmp_path: Path) -> None:
    bench.values.set("FullFileName", str(capture))
    bench.values.take("RemoteAnalysisDir", str(tmp_path / "analysis"))
    secret = tmp_path / "secret.h5"
    secret.write_text("")
    for text in ("/etc/passwd", str(secret), "../secret.h5", "scan_001.config", "scan_999.h5"):
        assert not bench.values.take("StreamCopyFile", text), text
        assert "no captured file" in bench.told[-1]


def test_fdt_is_refused_where_it_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not bench.values.take("CopyToAnalysisDir", "fdt")
    assert "no program fdt" in bench.told[-1]
    assert bench.values.text("CopyToAnalysisDir") == "None"
    assert not bench.values.take("RemoteAnalysisDir", "-x:/data")
