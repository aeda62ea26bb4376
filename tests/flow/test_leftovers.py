"""What an earlier run left behind goes, and what the next one goes on from stays."""

from pathlib import Path

from tests.flow.inline import Bench
from tomofly.flow.runner import run_task


def _partial(bench: Bench) -> Path:
    return bench.folder / "session" / ".work" / "partial"


def test_partial_files_stay_for_what_is_wanted_and_go_with_what_is_not(bench: Bench) -> None:
    bench.arrive(bench.write_note("A_1", 1), bench.write_note("A_3", 3))
    bench.settle(close=False)
    bench.arrive(bench.write_note("A_3", 4))
    bench.now += 1
    while bench.engine.plan(bench.now):
        pass
    (running,) = bench.engine.take_orders(["number"], 10, bench.now, 1)
    stale = [_partial(bench) / f"{running.item_id}-outdated", _partial(bench) / "999-gone"]
    for folder in (running.partial, *stale):
        folder.mkdir(parents=True)
        (folder / "movie.part").write_text("half")
    (_partial(bench) / "moves").mkdir()
    bench.engine = bench.new_engine()
    assert {path.name for path in _partial(bench).iterdir()} == {running.partial.name, "moves"}
    bench.settle()
    bench.engine = bench.new_engine()
    assert bench.results()["note", "A_3", "number"][0] == "done"
    assert not running.partial.exists()


def test_checkpoints_that_were_never_written_down_go_and_the_one_in_use_stays(bench: Bench) -> None:
    bench.arrive(*(bench.write_note(f"A_{i}", i) for i in range(4)))
    bench.settle(close=False)
    folder = bench.folder / "session" / "balance" / "checkpoints"
    (kept,) = (path for path in folder.rglob("*") if path.is_file())
    bench.arrive(*(bench.write_note(f"B_{i}", i) for i in range(4)))
    bench.now += 1
    for stage in ("number", "balance"):
        while bench.engine.plan(bench.now):
            pass
        reports = [run_task(order) for order in bench.engine.take_orders([stage], 10, bench.now, 1)]
        if stage == "number":
            bench.engine.commit(reports, bench.now)
        else:
            bench.engine._committer.place_files(reports)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2
    bench.engine = bench.new_engine()
    assert [path for path in folder.rglob("*") if path.is_file()] == [kept]
    assert list(folder.iterdir()) == [kept.parent]
    bench.settle()
    assert bench.results()["balance", "balance", "balance"][4] == {"total": 12.0, "notes": 8.0}
