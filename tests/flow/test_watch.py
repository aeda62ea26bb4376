"""What the watcher finds, when, and what a look costs. Time is an argument: nothing here waits."""

import glob
import os
import shutil
from collections import Counter
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomofly.flow import watch
from tomofly.flow.watch import Arrival, Watcher
from tomofly.model import SourceParams

NOON = 1_700_000_000.0
SHAPE = (3, 13, 17)


def movie_bytes(tmp_path: Path, value: int = 1, shape: tuple[int, ...] = SHAPE) -> bytes:
    """The bytes of a whole movie."""
    path = tmp_path / "made.partial"
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.full(shape, value, np.int16))
    content = path.read_bytes()
    path.unlink()
    return content


def source(pattern: object, **changes: object) -> SourceParams:
    return SourceParams.model_validate({"pattern": str(pattern), **changes})


def write(path: Path, content: bytes, mtime: float = NOON - 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def keys(arrivals: list[Arrival]) -> list[str]:
    return [arrival.key for arrival in arrivals]


class Watched:
    """A watcher with a clock of its own, looked through once a second."""

    def __init__(self, source: SourceParams, *args: object, **kwargs: object) -> None:
        self.watcher = Watcher(source, *args, **kwargs)  # type: ignore[arg-type]
        self.now = NOON

    def poll(self, seconds: int = 0, *, impatient: bool = False) -> list[Arrival]:
        """Look now, and once more at the end of each second to come."""
        found = self.watcher.poll(self.now, impatient=impatient)
        for _ in range(seconds):
            self.now += 1.0
            found += self.watcher.poll(self.now, impatient=impatient)
        return found


@pytest.fixture
def movie(tmp_path: Path) -> bytes:
    return movie_bytes(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is watched."""
    made = tmp_path / "data"
    made.mkdir()
    return made


# What arrives


def test_a_whole_file_arrives_within_five_seconds_of_its_last_byte(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    assert watched.poll(2) == []
    path = write(folder / "a.mrc", movie)
    found = watched.poll(5)
    assert found == [
        Arrival(path, "a", f"{len(movie)}:{path.stat().st_mtime_ns}", path.stat().st_mtime, True, "")
    ]
    assert watched.poll(200) == []


def test_a_growing_file_does_not_arrive_before_its_last_byte(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    parts = [movie[: 100 * n] for n in range(1, len(movie) // 100 + 1)]
    for n, part in enumerate(parts):
        write(folder / "a.mrc", part, NOON + n)
        assert watched.poll(1) == []
    assert watched.watcher.pending == 1
    write(folder / "a.mrc", movie, NOON + 90)
    assert keys(watched.poll(4)) == ["a"]
    assert watched.watcher.pending == 0


def test_a_pause_in_the_middle_of_a_file_does_not_end_it(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    write(folder / "a.mrc", movie[:700])  # less than a header
    assert watched.poll(30) == []
    write(folder / "a.mrc", movie[:1200], NOON)
    assert watched.poll(30) == []
    write(folder / "a.mrc", movie, NOON + 60)
    assert [arrival.whole for arrival in watched.poll(4)] == [True]


def test_a_file_of_which_nothing_more_comes_is_given_up_with_the_reason(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc", give_up_s=20))
    write(folder / "a.mrc", movie[:-5])
    assert watched.poll(18) == []
    (found,) = watched.poll(4)
    assert not found.whole
    assert found.reason == f"5 of {len(movie)} bytes are missing"
    assert watched.watcher.pending == 0


def test_a_given_up_file_comes_again_when_it_grows(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc", give_up_s=5))
    write(folder / "a.mrc", movie[:-5])
    assert [arrival.whole for arrival in watched.poll(10)] == [False]
    write(folder / "a.mrc", movie, NOON)
    assert [arrival.whole for arrival in watched.poll(5)] == [True]


def test_an_impatient_look_gives_up_what_has_settled(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc", give_up_s=3600))
    write(folder / "a.mrc", movie[:-5])
    write(folder / "b.mrc", b"")
    write(folder / "c.mrc", movie)
    found = watched.poll(3, impatient=True)
    assert {arrival.key: arrival.whole for arrival in found} == {"a": False, "b": False, "c": True}
    assert all(arrival.reason for arrival in found if not arrival.whole)


def test_a_file_that_tells_nothing_of_its_length_arrives_when_it_has_settled(folder: Path) -> None:
    watched = Watched(source(folder / "*.dm4", settle_s=7))
    write(folder / "a.dm4", b"anything")
    assert watched.poll(6) == []
    assert keys(watched.poll(1)) == ["a"]


def test_unreadable_data_are_given_up_and_not_waited_for(folder: Path) -> None:
    watched = Watched(source(folder / "*.mrc", give_up_s=5))
    write(folder / "a.mrc", bytes(range(256)) * 20)
    assert [arrival.whole for arrival in watched.poll(6)] == [False]


def test_a_file_removed_before_it_was_whole_is_forgotten(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    path = write(folder / "a.mrc", movie)
    watched.poll()
    path.unlink()
    assert watched.poll(5) == []
    assert watched.watcher.pending == 0


def test_the_time_of_the_last_change_is_kept(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    assert watched.watcher.newest == 0.0
    watched.poll(3)
    write(folder / "a.mrc", movie[:-5])
    watched.poll(3)
    assert watched.watcher.newest == NOON + 3
    write(folder / "a.mrc", movie, NOON)
    watched.poll(30)
    assert watched.watcher.newest == NOON + 6


def test_the_oldest_of_a_backlog_comes_first(folder: Path, movie: bytes) -> None:
    for n in (5, 3, 9, 1):
        write(folder / f"{n}.mrc", movie, NOON - 1000 + n)
    assert keys(Watched(source(folder / "*.mrc")).poll(2)) == ["1", "3", "5", "9"]


def test_a_backlog_does_not_hold_up_what_arrives_now(
    folder: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOKS_PER_POLL", 10)
    for n in range(95):
        write(folder / f"old_{n:02}.mrc", movie, NOON - 5000 + n)
    watched = Watched(source(folder / "*.mrc"))
    watched.poll()
    write(folder / "live.mrc", movie, NOON)
    assert "live" in keys(watched.poll(4))
    assert len(watched.poll(9)) == 96 - 10 * 3  # what a limited number of looks had left over
    assert watched.watcher.pending == 0


def test_a_clock_set_back_delays_a_file_only_by_its_settling(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    write(folder / "a.mrc", movie)
    watched.poll()
    watched.now -= 3600
    assert keys(watched.poll(3)) == ["a"]


# Which files


@pytest.mark.parametrize(
    "name", [".a.mrc", "a.mrc.tmp", "a.mrc.part", "a.mrc.partial", "a.mrc.filepart", "a.mrc~", "my_Gain.mrc"]
)
def test_hidden_temporary_and_gain_files_are_never_taken(folder: Path, movie: bytes, name: str) -> None:
    write(folder / name, movie)
    watched = Watched(source(folder / "*"))
    assert watched.poll(5, impatient=True) == []
    assert watched.watcher.pending == 0


def test_a_file_renamed_to_its_final_name_arrives(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*"))
    temporary = write(folder / "a.mrc.partial", movie)
    assert watched.poll(10) == []
    temporary.rename(folder / "a.mrc")
    assert keys(watched.poll(4)) == ["a.mrc"]


def test_names_with_spaces_unicode_and_dots_make_their_own_keys(folder: Path, movie: bytes) -> None:
    names = ["grid 3/Grüße α.mrc", "grid 3/grid.1_0.50.mrc", "日本/a.mrc", "b/a.mrc"]
    for name in names:
        write(folder / name, movie)
    found = Watched(source(f"{folder}/*/*.mrc")).poll(2)
    assert sorted(keys(found)) == sorted(name.removesuffix(".mrc") for name in names)


def test_names_that_are_no_text_are_watched_as_well(folder: Path, movie: bytes) -> None:
    write(Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mrc")), movie)
    assert len(Watched(source(folder / "*.mrc")).poll(2)) == 1


@pytest.mark.parametrize("order", [("a.mrc", "a.tiff"), ("a.tiff", "a.mrc")])
def test_keys_do_not_depend_on_which_suffix_came_first(
    folder: Path, movie: bytes, order: tuple[str, str]
) -> None:
    watched = Watched(source(folder / "*", settle_s=0))
    found = []
    for name in order:
        write(folder / name, movie)
        found += watched.poll(1, impatient=True)
    assert sorted(keys(found)) == ["a.mrc", "a.tiff"]


def test_keys_leave_a_given_suffix_out(folder: Path, movie: bytes) -> None:
    write(folder / "x.1" / "a_Fractions.mrc", movie)
    assert keys(Watched(source(folder / "*" / "*_Fractions.mrc")).poll(2)) == ["x.1/a_Fractions"]
    assert keys(Watched(source(folder / "**" / "*.[mt]*")).poll(2)) == ["x.1/a_Fractions.mrc"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mrc", {"top"}),
        ("*/*.mrc", {"one", "two"}),
        ("**/*.mrc", {"top", "one", "two", "deep", "deeper"}),
        ("**/Data/*.mrc", {"deep"}),
        ("s?/Data/**/*.mrc", {"deep", "deeper"}),
        ("s1/*.mrc", {"one"}),
        ("s1/Data/**/x/*r.mrc", {"deeper"}),
        ("nothing/*.mrc", set()),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(
    folder: Path, movie: bytes, pattern: str, expected: set[str]
) -> None:
    for name in ("top", "s1/one", "s2/two", "s1/Data/deep", "s1/Data/x/deeper", "s1/.hidden/no"):
        write(folder / f"{name}.mrc", movie)
    found = Watched(source(f"{folder}/{pattern}")).poll(2)
    assert {str(arrival.path) for arrival in found} == set(glob.glob(f"{folder}/{pattern}", recursive=True))  # noqa: PTH207
    assert {Path(key).name for key in keys(found)} == expected


def test_a_new_folder_is_watched_as_soon_as_it_is_made(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "**" / "Data" / "*_Fractions.mrc"))
    watched.poll(100)
    square = folder / "Supervisor 1" / "Images-Disc1" / "GridSquare_1" / "Data"
    write(square / "FoilHole_1_Fractions.mrc", movie)
    write(square / "FoilHole_1.xml", b"<xml/>")
    assert keys(watched.poll(4)) == ["Supervisor 1/Images-Disc1/GridSquare_1/Data/FoilHole_1_Fractions"]


def test_a_whole_epu_session_is_found(real_data: Path, folder: Path, movie: bytes) -> None:
    movies = set()
    for path in epu_paths((real_data / "epu_session" / "bi37708-28_tree.txt").read_text()):
        if path.suffix == ".xml" and "Images-Disc1" in path.parts and "Data" in path.parts:
            movies.add(write(folder / path.with_name(f"{path.stem}_Fractions.mrc"), movie))
    assert len(movies) > 1000
    watched = Watched(source(folder / "**" / "GridSquare_*" / "Data" / "*_Fractions.mrc"))
    found = watched.poll(9)
    assert {arrival.path for arrival in found} == movies
    assert len(set(keys(found))) == len(movies)
    assert watched.poll(70) == []


def epu_paths(tree: str) -> list[Path]:
    """The paths of a listing as the program ``tree`` draws it."""
    paths, above = [], []
    for line in tree.splitlines():
        branch, mark, name = line.partition("── ")
        if mark:
            depth = len(branch) // 4
            above[depth:] = [name]
            paths.append(Path(*above))
    return paths


def test_the_sessions_own_folder_is_left_alone(folder: Path, movie: bytes) -> None:
    write(folder / "a.mrc", movie)
    write(folder / "out" / "transfer" / "a.mrc", movie)
    watched = Watched(source(folder / "**" / "*.mrc"), apart=[folder / "out"])
    assert keys(watched.poll(3)) == ["a"]


def test_links_are_followed_and_circles_are_not(folder: Path, movie: bytes, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "b.mrc", movie)
    (folder / "to_folder").symlink_to(tmp_path / "elsewhere")
    (folder / "a.mrc").symlink_to(tmp_path / "elsewhere" / "b.mrc")
    (folder / "broken.mrc").symlink_to(tmp_path / "nowhere.mrc")
    (folder / "itself").symlink_to("itself")
    (folder / "back").symlink_to(folder)
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    watched = Watched(source(folder / "**" / "*.mrc"))
    assert sorted(keys(watched.poll(3))) == ["a", "to_folder/b"]
    assert watched.watcher.problem == ""


def test_without_a_pattern_nothing_is_watched() -> None:
    assert Watched(SourceParams()).poll(3) == []


# What changes


def test_a_file_rewritten_in_place_comes_again(folder: Path, tmp_path: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    path = write(folder / "a.mrc", movie)
    (first,) = watched.poll(3)
    watched.poll(100)
    write(path, movie_bytes(tmp_path, value=2), NOON)
    (second,) = watched.poll(5)
    assert (second.key, second.whole) == (first.key, True)
    assert second.content != first.content


def test_a_file_renamed_over_another_comes_again(folder: Path, tmp_path: Path, movie: bytes) -> None:
    for n in range(300):
        write(folder / f"{n:03}.mrc", movie)
    watched = Watched(source(folder / "*.mrc"))
    watched.poll(100)
    write(tmp_path / "new.mrc", movie_bytes(tmp_path, value=2), NOON).rename(folder / "007.mrc")
    assert keys(watched.poll(4)) == ["007"]


def test_any_of_many_files_rewritten_in_place_is_noticed_in_time(
    folder: Path, tmp_path: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AUDITED_PER_POLL", 20)
    monkeypatch.setattr(watch, "RECENT", 0)
    for n in range(190):
        write(folder / f"{n:03}.mrc", movie)
    watched = Watched(source(folder / "*.mrc"))
    watched.poll(50)
    write(folder / "123.mrc", movie_bytes(tmp_path, value=2), NOON)
    assert keys(watched.poll(15)) == ["123"]


def test_a_file_that_reads_whole_between_two_pages_comes_again_at_once(
    folder: Path, tmp_path: Path, movie: bytes
) -> None:
    for n in range(300):
        write(folder / f"{n:03}.mrc", movie, NOON - 4000)
    watched = Watched(source(folder / "*.mrc"))
    watched.poll(10)
    path = write(folder / "new.mrc", movie, NOON)
    assert keys(watched.poll(4)) == ["new"]
    write(path, movie_bytes(tmp_path, shape=(5, 13, 17)), NOON + 20)
    assert keys(watched.poll(4)) == ["new"]


def test_a_file_removed_and_made_anew_comes_again(folder: Path, tmp_path: Path, movie: bytes) -> None:
    path = write(folder / "a.mrc", movie)
    watched = Watched(source(folder / "*.mrc"))
    watched.poll(10)
    path.unlink()
    assert watched.poll(10) == []
    write(path, movie_bytes(tmp_path, value=2), NOON)
    assert keys(watched.poll(5)) == ["a"]


def test_what_is_registered_does_not_come_again_after_a_restart(folder: Path, movie: bytes) -> None:
    for n in range(30):
        write(folder / "sub" / f"{n}.mrc", movie)
    before = Watched(source(folder / "**" / "*.mrc")).poll(3)
    after = Watched(source(folder / "**" / "*.mrc"), [(str(a.path), a.content) for a in before])
    assert len(before) == 30
    assert after.poll(100) == []


def test_what_changed_while_nobody_watched_comes_again(folder: Path, tmp_path: Path, movie: bytes) -> None:
    paths = [write(folder / f"{n}.mrc", movie) for n in range(30)]
    before = Watched(source(folder / "*.mrc")).poll(3)
    write(paths[17], movie_bytes(tmp_path, value=2), NOON)
    after = Watched(source(folder / "*.mrc"), [(str(a.path), a.content) for a in before])
    assert keys(after.poll(3)) == ["17"]


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
