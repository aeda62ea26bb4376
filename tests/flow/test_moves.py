"""What was moved is deleted at its source, and nothing else ever is; no only copy is replaced."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.flow.inline import Bench
from tests.stages.test_transfer import make_movie
from tomofly.flow.graph import build_workflow
from tomofly.flow.moves import Moves, delete_spent
from tomofly.flow.runner import run_task
from tomofly.flow.superseded import keep_earlier
from tomofly.model import Spent
from tomofly.model.content import companion_tag, with_companions
from tomofly.stages.transfer import STAGE
from tomofly.store import Database
from tomofly.store.intake import NewItem


@pytest.fixture
def bench(any_database: Database, tmp_path: Path) -> Bench:
    """A session that moves movies and does nothing else."""
    document: dict[str, dict[str, object]] = {"transfer": {"mode": "move"}}
    return Bench(any_database, tmp_path / "bench", build_workflow("spa", [STAGE]), document)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return make_movie(tmp_path / "camera" / "a.mrc")


def found(movie: Path) -> NewItem:
    status = movie.stat()
    return NewItem("movie", "a", str(movie), f"{status.st_size}:{status.st_mtime_ns}")


def transferred(bench: Bench) -> Path:
    return bench.folder / "session" / "transfer" / "a.mrc"


def flags(bench: Bench) -> list[tuple[str, str]]:
    from sqlalchemy import select

    from tomofly.store import tables as t

    with bench.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(t.flags.c.code, t.flags.c.message))]


def test_a_moved_movie_is_gone_from_its_source_when_its_copy_is_committed(bench: Bench, movie: Path) -> None:
    raw = movie.read_bytes()
    bench.arrive(found(movie))
    bench.settle()
    assert not movie.exists()
    assert transferred(bench).read_bytes() == raw
    assert list(Moves(bench.folder / "session").noted()) == []


def test_raw_data_written_after_the_copy_are_never_deleted(bench: Bench, movie: Path) -> None:
    bench.arrive(found(movie))

    def rewritten_meanwhile(orders: list) -> list:
        reports = [run_task(order) for order in orders]
        make_movie(movie, frames=7)
        bench.engine.commit(reports, bench.now)
        return []

    bench.step(choose=rewritten_meanwhile)
    assert movie.stat().st_size > transferred(bench).stat().st_size


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_source_that_is_not_what_was_copied_stays(movie: Path, change: str) -> None:
    status = movie.stat()
    spent = Spent(movie, status.st_size, status.st_mtime_ns, status.st_ino)
    if change == "size":
        with movie.open("ab") as opened:
            opened.write(b"1")
        os.utime(movie, ns=(status.st_mtime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(movie)
    else:
        other = movie.with_name("other")
        other.write_bytes(movie.read_bytes())
        os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
        other.replace(movie)
    assert delete_spent(spent)
    assert movie.exists()


def test_a_move_that_was_cut_off_before_the_deletion_is_finished_at_the_next_start(
    bench: Bench, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.arrive(found(movie))
    with monkeypatch.context() as patched:
        patched.setattr(Moves, "finish", lambda *given: None)  # as if it died after the commit
        bench.settle()
    assert movie.exists()
    bench.new_engine()
    assert not movie.exists()
    assert list(Moves(bench.folder / "session").noted()) == []


def test_a_move_that_was_cut_off_deletes_nothing_without_its_copy(
    bench: Bench, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.arrive(found(movie))
    with monkeypatch.context() as patched:
        patched.setattr(Moves, "finish", lambda *given: None)
        bench.settle()
    os.truncate(transferred(bench), 1000)
    bench.new_engine()
    assert movie.exists()


def test_a_move_that_was_not_committed_deletes_nothing(
    bench: Bench, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.arrive(found(movie))
    with monkeypatch.context() as patched:
        patched.setattr(bench.engine, "_commit", lambda *given: None)  # as if it died before the commit
        bench.step()
    bench.engine = bench.new_engine()
    assert movie.exists()
    assert list(Moves(bench.folder / "session").noted()) == []
    bench.settle()
    assert not movie.exists()


def test_a_different_movie_of_the_same_name_leaves_the_first_one_there(bench: Bench, movie: Path) -> None:
    contents = []
    for frames in (5, 6, 7):
        make_movie(movie, frames)
        contents.append(movie.read_bytes())
        bench.arrive(found(movie))
        bench.settle()
        assert not movie.exists()
    assert transferred(bench).read_bytes() == contents[2]
    kept = sorted(transferred(bench).parent.glob("a.mrc.*.superseded"))
    assert sorted(path.read_bytes() for path in kept) == sorted(contents[:2])
    ((code, message),) = flags(bench)
    assert code == "superseded_data_kept"
    assert all(f"transfer/{path.name}" in message for path in kept)


def test_the_same_movie_again_is_not_kept_twice(bench: Bench, movie: Path) -> None:
    for _ in range(2):
        make_movie(movie)
        os.utime(movie)
        bench.arrive(found(movie))
        bench.settle()
    assert list(transferred(bench).parent.iterdir()) == [transferred(bench)]
    assert flags(bench) == []


def test_a_link_never_takes_the_place_of_a_copy(tmp_path: Path) -> None:
    final, new = tmp_path / "a.mrc", tmp_path / "new"
    final.write_bytes(b"same")
    (tmp_path / "source").write_bytes(b"same")
    new.symlink_to(tmp_path / "source")
    (kept,) = keep_earlier(new, final)
    new.replace(final)
    assert kept.read_bytes() == b"same"
    assert not kept.is_symlink()


@pytest.mark.parametrize("mode", ["link", "copy", "move"])
def test_metadata_that_come_late_join_their_movie_wherever_it_is_by_now(
    any_database: Database, tmp_path: Path, movie: Path, mode: str
) -> None:
    document: dict[str, dict[str, object]] = {"transfer": {"mode": mode}}
    bench = Bench(any_database, tmp_path / "late", build_workflow("spa", [STAGE]), document)
    item, raw = found(movie), movie.read_bytes()
    bench.arrive(item)
    bench.settle()
    tags = {}
    for name in ("a.xml", "a.mrc.mdoc"):
        path = movie.with_name(name)
        path.write_text(name)
        tags.update([companion_tag(name, path.stat().st_size, path.stat().st_mtime_ns)])
        bench.arrive(replace(item, content=with_companions(item.content, tags)))
        bench.settle()
    place = transferred(bench).parent
    assert (place / "a.mrc").read_bytes() == raw
    assert (place / "a.xml").read_text() == "a.xml"
    assert (place / "a.mdoc").read_text() == "a.mrc.mdoc"
    assert movie.exists() == (mode != "move")
    assert sorted(path.name for path in place.iterdir()) == ["a.mdoc", "a.mrc", "a.xml"]
