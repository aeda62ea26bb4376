"""What a person leaves out, and whose files are whose: folds, groups and products on both databases."""

from dataclasses import replace
from pathlib import Path

from tomofly_example import NUMBER

from tests.flow.inline import Bench
from tomofly.flow.graph import build_workflow
from tomofly.model import ItemRef, Outcome, StageContext, StageParams
from tomofly.store import Database, planning, requests
from tomofly.store.intake import NewItem


def _notes(bench: Bench, count: int, start: int = 0) -> list[NewItem]:
    return [bench.write_note(f"A_{i:02d}", i + 1) for i in range(start, start + count)]


def _mark(bench: Bench, key: str, reason: str) -> None:
    with bench.database.begin() as connection:
        ids = requests.find_items(connection, bench.session_id, [key])[key]
        requests.set_excluded(connection, ids, reason)


def _fold(bench: Bench) -> dict[str, float]:
    metrics = bench.results()["balance", "balance", "balance"][4]
    assert isinstance(metrics, dict)
    return metrics


def test_what_is_left_out_leaves_an_open_fold_and_comes_back(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle(close=False)
    assert _fold(bench) == {"total": 10.0, "notes": 4.0}
    _mark(bench, "A_01", "too round")
    bench.settle(close=False)
    assert _fold(bench) == {"total": 8.0, "notes": 3.0}
    _mark(bench, "A_01", "")
    bench.arrive(*_notes(bench, 3, start=4))
    bench.settle(close=False)
    assert _fold(bench) == {"total": 28.0, "notes": 7.0}
    bench.settle()
    assert _fold(bench) == {"total": 28.0, "notes": 7.0}


def test_what_is_left_out_leaves_a_final_fold_and_survives_that_it_is_made_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 5))
    bench.settle()
    assert _fold(bench) == {"total": 15.0, "notes": 5.0}
    _mark(bench, "A_04", "too round")
    bench.settle()
    assert _fold(bench) == {"total": 10.0, "notes": 4.0}
    bench.change(number={"factor": 2.0})
    bench.settle()
    assert _fold(bench) == {"total": 20.0, "notes": 4.0}
    _mark(bench, "A_04", "")
    bench.settle()
    assert _fold(bench) == {"total": 30.0, "notes": 5.0}


def test_a_note_left_out_and_taken_in_again_before_anybody_looked_changes_nothing(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle(close=False)
    ran = len(bench.ran)
    _mark(bench, "A_01", "too round")
    _mark(bench, "A_01", "")
    bench.settle(close=False)
    assert len(bench.ran) == ran


def test_a_note_left_out_before_it_came_to_the_fold_never_enters_nor_holds_it_up(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 5))
    _mark(bench, "A_04", "out of focus")
    with bench.database.read() as connection:
        (fold,) = requests.find_items(connection, bench.session_id, ["balance"])["balance"]
        assert planning.fold_counts(connection, fold, 4).unsettled
    bench.settle()
    assert _fold(bench) == {"total": 10.0, "notes": 4.0}


def test_a_fold_of_which_everything_is_left_out_is_empty_and_comes_to_rest(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle()
    for i in range(4):
        _mark(bench, f"A_{i:02d}", "wrong grid")
    bench.settle()
    assert _fold(bench) == {"total": 0.0, "notes": 0.0}
    assert bench.engine.settled()


def test_a_ledger_without_what_is_left_out_is_made_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 3))
    bench.settle()
    _mark(bench, "A_00", "too round")
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 5.0, "notes": 2.0}


def _write_two(item: ItemRef, params: StageParams, ctx: StageContext) -> Outcome:
    first, second = ctx.new_file(".txt"), ctx.new_file("_DW.txt")
    first.write_text(f"{item.key}")
    second.write_text(f"{item.key} weighted")
    return Outcome({"plain": first, "weighted": second})


def test_no_item_overwrites_what_another_has_made(any_database: Database, tmp_path: Path) -> None:
    bench = Bench(any_database, tmp_path, workflow=build_workflow("notes", [replace(NUMBER, run=_write_two)]))
    bench.arrive(bench.write_note("m", 1))
    bench.settle(close=False)
    bench.arrive(bench.write_note("m_DW", 2), bench.write_note("n", 3))
    bench.settle()
    states = {key: (row[0], str(row[3])) for (_, key, _), row in bench.results().items()}
    assert states["m"][0] == states["n"][0] == "done"
    assert states["m_DW"][0] == "failed"
    assert "number/m_DW.txt would overwrite that of item 'm'" in states["m_DW"][1]
    assert (tmp_path / "session" / "number" / "m_DW.txt").read_text() == "m weighted"
    assert not (tmp_path / "session" / "number" / "m_DW_DW.txt").exists()


def test_of_two_that_come_together_one_has_the_file_and_one_is_told(
    any_database: Database, tmp_path: Path
) -> None:
    bench = Bench(any_database, tmp_path, workflow=build_workflow("notes", [replace(NUMBER, run=_write_two)]))
    bench.arrive(bench.write_note("m", 1), bench.write_note("m_DW", 2))
    bench.settle()
    assert sorted(str(row[0]) for row in bench.results().values()) == ["done", "failed"]
    bench.arrive(bench.write_note("m", 7))
    bench.settle()
    assert sorted(str(row[0]) for row in bench.results().values()) == ["done", "failed"], (
        "its own it replaces"
    )
