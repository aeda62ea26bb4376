"""The conductor as a process of its own, with real workers, killed and disturbed in every way."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from tests.flow.inline import Bench
from tomofly.store import Database, sessions
from tomofly.store import tables as t

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Running:
    """Notes in a watched folder and a conductor that works on them."""

    database: Database
    folder: Path
    document: dict[str, dict[str, object]] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes.mkdir(parents=True)
        self.document.setdefault("source", {}).update(
            pattern=str(self.notes / "*.note"), settle_s=0.2, poll_s=0.1, give_up_s=1.0
        )
        self.document.setdefault("resources", {}).update(minimum_free_gb=0.0, workers=2)
        self.bench = Bench(self.database, self.folder, document=self.document, name=self.folder.name)
        with self.database.begin() as connection:
            sessions.update_session(connection, self.bench.session_id, folder=str(self.folder / "session"))

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    def write(self, key: str, text: object) -> None:
        """Write a note as an instrument does: whole under its name."""
        temporary = self.notes / f".{key}"
        temporary.write_text(str(text))
        temporary.rename(self.notes / f"{key}.note")

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tomofly.flow.process", str(self.bench.session_id)]
        environment = {**os.environ, "TOMOFLY_DATABASE": self.database.url}
        log = (self.folder / "conductor.log").open("ab")
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment)
        log.close()
        self.processes.append(process)
        return process

    def run(self, *options: str) -> None:
        process = self.start(*(options or ("--once",)))
        assert process.wait(timeout=120) == 0, (self.folder / "conductor.log").read_text()[-3000:]

    def count(self, state: str = "done", stage: str = "number") -> int:
        query = select(func.count()).select_from(t.tasks)
        mine = (t.tasks.c.session_id == self.bench.session_id, t.tasks.c.state == state)
        with self.database.read() as connection:
            return int(connection.scalar(query.where(*mine, t.tasks.c.stage == stage)) or 0)

    def session(self) -> sessions.SessionRow:
        with self.database.read() as connection:
            return sessions.find_session(connection, self.bench.session_id)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
        end = time.monotonic() + timeout_s
        pause = random.Random(0)
        while not condition():
            assert time.monotonic() < end, (self.folder / "conductor.log").read_text()[-3000:]
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[-1].wait(timeout=pause.uniform(0.02, 0.05))

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def running(tmp_path: Path, new_database: Callable[[Path], Database]) -> Iterator[Running]:
    database = new_database(tmp_path)
    made = Running(database, tmp_path / "stream")
    yield made
    made.end()
    database.close()


def _batch(running: Running, contents: dict[str, object]) -> dict[tuple[str, str, str], tuple[object, ...]]:
    """The same notes in one undisturbed batch, without any conductor."""
    document = {k: v for k, v in running.bench.document.items() if k not in ("source", "resources")}
    batch = Bench(running.database, running.folder.parent / "batch", document=document, name="batch")
    batch.arrive(*(batch.write_note(key, value) for key, value in contents.items()))
    batch.settle()
    return batch.results()


def _comparable(results: dict[tuple[str, str, str], tuple[object, ...]]) -> dict[object, object]:
    """Results without their names: the content of a real file is known by its time, too."""
    comparable: dict[object, object] = {}
    for key, (state, _, _, reason, metrics, files) in results.items():
        assert isinstance(files, dict)
        comparable[key] = (state, reason, metrics, {Path(path).name: text for path, text in files.items()})
    return comparable


def test_kill_9_of_conductor_and_workers_changes_no_result(running: Running) -> None:
    chance = random.Random(4)
    contents: dict[str, object] = {f"{ledger}_{i}": i + 0.25 for ledger in "ABCD" for i in range(5)}
    contents["D_4"] = "not a number"
    running.bench.change(number={"pause_s": 0.1})
    _save_settings(running)
    for key, value in contents.items():
        running.write(key, value)
    for done in (2, 6, 11, 15):
        process = running.start()
        running.wait(lambda done=done: running.count() >= done)  # type: ignore[misc]
        workers = psutil.Process(process.pid).children(recursive=True)
        victims = [process.pid] if chance.random() < 0.6 or not workers else [chance.choice(workers).pid]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        psutil.wait_procs(workers, timeout=20)
    running.run("--once")
    assert running.session().state == "finished"
    assert _comparable(running.bench.results()) == _comparable(_batch(running, contents))


def _save_settings(running: Running, *, restart: bool = True) -> None:
    document = running.bench.workflow.settings(running.bench.document).document()
    with running.database.begin() as connection:
        revision = sessions.save_settings(connection, running.bench.session_id, document, time.time())
        if restart:
            sessions.update_tracks(connection, running.bench.session_id, revision=revision)


def test_a_worker_killed_by_the_system_is_replaced_and_its_task_done(running: Running) -> None:
    running.bench.change(number={"pause_s": 0.5})
    _save_settings(running)
    for i in range(6):
        running.write(f"A_{i}", i)
    process = running.start("--once")
    running.wait(lambda: running.count() >= 1)
    workers = [
        p for p in psutil.Process(process.pid).children(recursive=True) if "spawn" in " ".join(p.cmdline())
    ]
    os.kill(workers[-1].pid, signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert running.count() == 6 and running.count("failed") == 0


def test_a_setting_changed_while_running_redoes_what_depends_on_it(running: Running) -> None:
    for i in range(6):
        running.write(f"A_{i}", i)
    running.start()
    running.wait(lambda: running.count() == 6)
    running.bench.change(number={"factor": 10.0})
    _save_settings(running, restart=False)
    running.write("A_6", 6)
    running.wait(lambda: running.count() == 7)
    values = {
        key[1]: result[4]["value"] for key, result in running.bench.results().items() if key[2] == "number"
    }
    assert values["A_6"] == 6.0, "saved settings wait for the restart of their track"
    with running.database.begin() as connection:
        sessions.update_tracks(
            connection, running.bench.session_id, ["reading"], revision=running.session().revision
        )
    total = lambda: running.bench.results()["note", "A_6", "number"][4].get("value") == 60.0  # noqa: E731
    running.wait(total)


def test_stop_is_obeyed_and_the_session_goes_on_later(running: Running) -> None:
    running.bench.change(number={"pause_s": 0.2})
    _save_settings(running)
    for i in range(12):
        running.write(f"A_{i:02d}", i)
    process = running.start()
    running.wait(lambda: running.count() >= 2)
    with running.database.begin() as connection:
        sessions.update_session(connection, running.bench.session_id, desired="stopped")
    assert process.wait(timeout=60) == 0
    assert running.session().state == "stopped"
    assert running.count() < 12
    running.run("--once")
    assert running.count() == 12


def test_a_stop_that_is_asked_for_while_the_session_starts_is_obeyed(running: Running) -> None:
    running.write("A_1", 1)
    with running.database.begin() as connection:
        sessions.update_session(connection, running.bench.session_id, desired="stopped")
    running.run("--if-wanted")
    assert running.session().state == "stopped"
    assert running.count() == 0
    running.run("--once")
    assert running.count() == 1


def test_a_second_conductor_is_refused_while_the_first_lives(running: Running) -> None:
    running.write("A_1", 1)
    running.start()
    running.wait(lambda: running.count() == 1)
    second = running.start("--once")
    assert second.wait(timeout=60) == 1
    assert "is being run already by" in (running.folder / "conductor.log").read_text()


def test_the_source_may_vanish_and_come_back(running: Running) -> None:
    running.write("A_1", 1)
    process = running.start()
    running.wait(lambda: running.count() == 1)
    away = running.folder / "away"
    running.notes.rename(away)
    running.wait(lambda: bool(running.session().vitals.get("watch_problem")))
    away.rename(running.notes)
    running.write("A_2", 2)
    running.wait(lambda: running.count() == 2)
    assert process.poll() is None
    running.wait(lambda: not running.session().vitals.get("watch_problem"))


def test_a_locked_database_only_delays(running: Running) -> None:
    running.write("A_1", 1)
    running.start()
    running.wait(lambda: running.count() == 1)
    with contextlib.closing(sqlite3.connect(running.database.url.removeprefix("sqlite:///"))) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        running.write("A_2", 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.processes[-1].wait(timeout=3)
        other.execute("COMMIT")
    running.wait(lambda: running.count() == 2)
