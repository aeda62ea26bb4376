"""Faults on a real conductor: full and read-only disks, deadly items, shared sources."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.flow.test_conductor import Running, _batch, _comparable, _save_settings
from tomofly.store import Database, sessions
from tomofly.store import tables as t

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def running(tmp_path: Path, new_database: Callable[[Path], Database]) -> Iterator[Running]:
    database = new_database(tmp_path)
    made = Running(database, tmp_path / "stream")
    yield made
    made.end()
    database.close()


@pytest.fixture
def small_disk(running: Running) -> Iterator[Path]:
    """The session's folder on a disk of 24 MB."""
    folder = running.folder / "session"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    running.end()
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _alerts(running: Running, code: str) -> list[tuple[str, bool]]:
    with running.database.read() as connection:
        rows = sessions.list_alerts(connection, running.bench.session_id)
    return [(row["message"], row["ended_at"] is not None) for row in rows if row["code"] == code]


def test_an_item_that_kills_its_worker_each_time_fails_and_all_others_are_done(running: Running) -> None:
    contents: dict[str, object] = {f"A_{i:02d}": i for i in range(12)}
    contents["A_05"] = "kill"
    for key, value in contents.items():
        running.write(key, value)
    running.run("--once")
    assert running.count("done") == 11 and running.count("failed") == 1
    state, _, _, reason, *_ = running.bench.results()["note", "A_05", "number"]
    assert state == "failed" and "The worker process died" in str(reason) and "4 times" in str(reason)
    assert running.bench.results()["ledger", "A", "ledger"][4]["notes"] == 11.0  # type: ignore[index]


def test_a_full_disk_pauses_the_session_until_there_is_room(running: Running, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    running.write("A_0", 0)
    running.start()
    running.wait(lambda: running.count() == 1)
    with ballast.open("wb") as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(100_000))
            file.flush()
    for i in range(1, 4):
        running.write(f"A_{i}", i)
    running.wait(lambda: bool(_alerts(running, "disk")))
    assert running.count("failed") == 0
    ballast.unlink()
    running.wait(lambda: running.count() == 4)
    running.wait(lambda: all(ended for _, ended in _alerts(running, "disk")))
    assert running.count("failed") == 0 and running.processes[-1].poll() is None


def test_a_read_only_destination_is_refused_in_clear_words(running: Running, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    running.write("A_0", 0)
    assert running.start("--once").wait(timeout=60) == 1
    said = (running.folder / "conductor.log").read_text()
    assert "cannot be written: Read-only file system. Choose another folder." in said
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    running.run("--once")
    assert running.count() == 1


def test_two_sessions_on_one_folder_both_finish(
    running: Running, tmp_path: Path, new_database: Callable[[Path], Database]
) -> None:
    second = Running(running.database, tmp_path / "second")
    second.bench.change(source={"pattern": str(running.notes / "*.note")})
    _save_settings(second)
    for i in range(8):
        running.write(f"A_{i}", i)
    processes = [running.start("--once"), second.start("--once")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert _comparable(running.bench.results()) == _comparable(second.bench.results())
    assert running.count() == second.count() == 8


def test_no_group_or_fold_is_lost_when_the_conductor_is_killed_while_they_run(running: Running) -> None:
    contents: dict[str, object] = {f"{ledger}_{i}": i + 1 for ledger in "ABC" for i in range(3)}
    for key, value in contents.items():
        running.write(key, value)
    for stage in ("number", "balance", "ledger"):
        process = running.start()
        running.wait(lambda stage=stage: running.count(stage=stage) >= 1)  # type: ignore[misc]
        process.kill()
        process.wait()
    running.run("--once")
    assert _comparable(running.bench.results()) == _comparable(_batch(running, contents))
    with running.database.read() as connection:
        known = set(connection.scalars(select(t.products.c.path)))
    folder = running.folder / "session" / "balance"
    assert {f"balance/{p.relative_to(folder)}" for p in folder.rglob("*.json")} <= known
