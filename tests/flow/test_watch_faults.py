"""What a watcher does in trouble, and what a look costs."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.flow.watching import Watched, keys, movie_bytes, source, write
from tomofly.flow import watch


@pytest.fixture
def movie(tmp_path: Path) -> bytes:
    return movie_bytes(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is watched."""
    made = tmp_path / "data"
    made.mkdir()
    return made


# Trouble


def test_a_source_that_vanishes_is_said_and_goes_on_when_it_is_back(
    folder: Path, tmp_path: Path, movie: bytes
) -> None:
    write(folder / "a.mrc", movie)
    watched = Watched(source(folder / "*.mrc"))
    assert keys(watched.poll(3)) == ["a"]
    away = folder.rename(tmp_path / "away")
    assert watched.poll(10) == []
    assert str(folder) in watched.watcher.problem
    assert "No such file" in watched.watcher.problem
    write(away / "b.mrc", movie)
    away.rename(folder)
    assert keys(watched.poll(4)) == ["b"]
    assert watched.watcher.problem == ""


def test_a_restored_folder_brings_nothing_that_was_known(folder: Path, tmp_path: Path, movie: bytes) -> None:
    for n in range(20):
        write(folder / "sub" / f"{n}.mrc", movie)
    watched = Watched(source(folder / "**" / "*.mrc"))
    assert len(watched.poll(3)) == 20
    shutil.copytree(folder, tmp_path / "backup")
    shutil.rmtree(folder)
    watched.poll(10)
    shutil.copytree(tmp_path / "backup", folder)
    assert watched.poll(10) == []


def test_files_that_were_arriving_when_the_source_vanished_arrive_afterwards(
    folder: Path, tmp_path: Path, movie: bytes
) -> None:
    watched = Watched(source(folder / "*.mrc"))
    write(folder / "a.mrc", movie)
    watched.poll()
    away = folder.rename(tmp_path / "away")
    watched.poll(10)
    away.rename(folder)
    assert keys(watched.poll(4)) == ["a"]


def test_a_folder_that_may_not_be_read_does_not_stop_the_others(
    folder: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "open" / "a.mrc", movie)
    write(folder / "shut" / "b.mrc", movie)
    listing = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", guarded)
    watched = Watched(source(folder / "*" / "*.mrc"))
    assert keys(watched.poll(30)) == ["open/a"]
    assert watched.watcher.problem == f"The folder {folder}/shut cannot be watched: Permission denied."
    monkeypatch.undo()
    assert keys(watched.poll(4)) == ["shut/b"]
    assert watched.watcher.problem == ""


def test_a_source_that_is_no_folder_is_said(folder: Path, movie: bytes) -> None:
    write(folder / "a.mrc", movie)
    watched = Watched(source(folder / "a.mrc" / "*.mrc"))
    assert watched.poll(3) == []
    assert "Not a directory" in watched.watcher.problem


# Cost


class Calls:
    """Counts the calls into the file system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count: Counter[str] = Counter()
        for name in ("stat", "scandir"):
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, call: object) -> object:
        def counted(*args: object, **kwargs: object) -> object:
            self.count[name] += 1
            return call(*args, **kwargs)  # type: ignore[operator]

        return counted


def test_a_look_at_ten_thousand_known_files_costs_no_more_than_at_few(
    folder: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10_000):
        (folder / f"{n:05}.mrc").touch()
    status = (folder / "00000.mrc").stat()
    for n in range(10_000):
        os.utime(folder / f"{n:05}.mrc", ns=(status.st_atime_ns, status.st_mtime_ns))
    known = [(f"{folder}/{n:05}.mrc", f"0:{status.st_mtime_ns}") for n in range(10_000)]
    watched = Watched(source(folder / "*.mrc"), known)
    assert watched.poll(10) == []

    calls = Calls(monkeypatch)
    watched.poll(1)  # two looks
    assert calls.count["scandir"] == 0
    assert calls.count["stat"] <= 2 * (1 + watch.AUDITED_PER_POLL + watch.RECENT)

    calls.count.clear()
    write(folder / "new.mrc", movie)
    assert keys(watched.poll(4)) == ["new"]
    assert calls.count["scandir"] <= 4
    assert calls.count["stat"] <= 5 * (2 + watch.AUDITED_PER_POLL + watch.RECENT) + 5


def test_every_folder_is_listed_now_and_then_whatever_its_times_say(
    folder: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(source(folder / "*.mrc"))
    watched.poll(10)
    before = folder.stat()
    write(folder / "a.mrc", movie)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a cache of attributes shows it
    assert keys(watched.poll(70)) == ["a"]
