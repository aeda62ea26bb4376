"""What the watcher finds, and when; time is an argument."""

from pathlib import Path

import pytest

from tests.flow.watching import NOON, Watched, keys, movie_bytes, source, write
from tomofly.flow import watch
from tomofly.flow.watch import Arrival
from tomofly.flow.workflows import workflow_of


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


def test_a_file_that_breaks_the_reader_is_its_own_problem(
    folder: Path, movie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = watch.probe

    def fragile(path: str) -> object:
        if path.endswith("a.mrc"):
            raise ZeroDivisionError("rows")
        return judge(path)

    monkeypatch.setattr(watch, "probe", fragile)
    for name in ("a", "b"):
        write(folder / f"{name}.mrc", movie)
    found = {arrival.key: arrival for arrival in Watched(source(folder / "*.mrc", give_up_s=5)).poll(7)}
    assert found["b"].whole
    assert not found["a"].whole
    assert "rows" in found["a"].reason


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


def test_a_movie_comes_again_when_its_metadata_come_later_and_not_after_a_restart(
    folder: Path, movie: bytes
) -> None:
    watched = Watched(source(folder / "*.mrc"))
    path = write(folder / "a_Fractions.mrc", movie)
    (first,) = watched.poll(5)
    write(folder / "a.xml", b"<xml/>")
    (second,) = watched.poll(5)
    assert (second.path, second.key) == (path, first.key)
    assert second.content.startswith(f"{first.content}+")
    assert watched.poll(70) == []
    after = Watched(source(folder / "*.mrc"), [(str(path), second.content)])
    assert after.poll(5) == []
    assert after.watcher.pending == 0


def test_metadata_that_were_there_first_give_the_same_content(folder: Path, movie: bytes) -> None:
    late, early = Watched(source(folder / "late" / "*.mrc")), Watched(source(folder / "early" / "*.mrc"))
    write(folder / "late" / "a.mrc", movie)
    late.poll(5)
    for name in ("late", "early"):
        write(folder / name / "a.xml", b"<xml/>")
        write(folder / name / "a.mrc.mdoc", b"mdoc")
    early.poll(5)
    write(folder / "early" / "a.mrc", movie)
    assert late.poll(5)[-1].content == early.poll(5)[-1].content


def test_metadata_of_another_movie_bring_nothing(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    write(folder / "TS_1.mrc", movie)
    watched.poll(5)
    write(folder / "TS_10.xml", b"<xml/>")
    assert watched.poll(5) == []


@pytest.mark.parametrize("name", ["a.star", "a_Fractions.star", "a_Fractions.mrc.star", "a.meta.json"])
def test_a_movie_comes_again_with_files_of_the_suffixes_that_the_settings_name(
    folder: Path, movie: bytes, name: str
) -> None:
    plain = Watched(source(folder / "*.mrc"))
    watched = Watched(source(folder / "*.mrc"), companion_suffixes=(".star", ".meta.json"))
    path = write(folder / "a_Fractions.mrc", movie)
    (first,) = watched.poll(5)
    write(folder / name, b"data_")
    (second,) = watched.poll(5)
    assert (second.key, second.content[: len(first.content)]) == (first.key, first.content)
    assert watched.poll(70) == []
    assert [arrival.content for arrival in plain.poll(5)] == [first.content]
    known = [(str(path), first.content)]
    later = Watched(source(folder / "*.mrc"), known, companion_suffixes=(".star", ".meta.json"))
    assert later.poll(5) == [second], "a suffix that is named later counts from then on"


def test_the_suffixes_are_those_that_transfer_brings() -> None:
    settings = workflow_of("spa").settings({"transfer": {"additional_suffixes": ["star", ".meta.json"]}})
    assert watch.companion_suffixes(settings) == (".star", ".meta.json")


def test_a_movie_is_not_taken_for_a_file_that_belongs_to_one(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"), companion_suffixes=(".mrc",))
    for name in ("a.mrc", "a_Fractions.mrc"):
        write(folder / name, movie)
    assert sorted(keys(watched.poll(8))) == ["a", "a_Fractions"]


def test_metadata_that_are_written_with_their_movie_come_together_with_it(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*.mrc"))
    write(folder / "a.mrc", movie)
    watched.poll(1)
    write(folder / "a.xml", b"<xml/>")
    assert len(watched.poll(8)) == 1
