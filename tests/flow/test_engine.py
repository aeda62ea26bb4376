"""The engine on a real database, with the three shapes of stages, stepped by hand."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.inline import Bench
from tomofly.flow.runner import run_task
from tomofly.store import Database


def _notes(bench: Bench, ledgers: str = "AB", count: int = 3) -> list:
    return [bench.write_note(f"{name}_{i:02d}", i + 1) for name in ledgers for i in range(count)]


def test_notes_become_ledgers_reports_and_a_balance(bench: Bench) -> None:
    bench.arrive(*_notes(bench))
    bench.settle()
    results = bench.results()
    assert results["ledger", "A", "ledger"][4] == {"total": 6.0, "notes": 3.0}
    assert results["ledger", "B", "report"][5] == {"report/B.txt": "B: 6"}
    assert results["balance", "balance", "balance"][4] == {"total": 12.0, "notes": 6.0}
    assert all(result[0] == "done" for result in results.values())


def test_a_finished_session_has_nothing_to_do_when_started_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench))
    bench.settle()
    ran = len(bench.ran)
    bench.engine = bench.new_engine()
    bench.engine.use_settings(bench.engine.settings)
    bench.settle()
    assert len(bench.ran) == ran


def test_a_changed_setting_redoes_just_what_depends_on_it(bench: Bench) -> None:
    bench.arrive(*_notes(bench))
    bench.settle()
    bench.ran.clear()
    bench.change(ledger={"silence_s": 31.0})
    bench.settle()
    assert sorted(bench.ran) == [("ledger", "A"), ("ledger", "B"), ("report", "A"), ("report", "B")]
    bench.ran.clear()
    bench.change(number={"pause_s": 0.0001})
    bench.settle()
    assert bench.ran == []


def test_a_failed_note_stops_neither_its_ledger_nor_the_balance(bench: Bench) -> None:
    bench.arrive(*_notes(bench, "A", 2), bench.write_note("A_09", "seven"))
    bench.settle()
    results = bench.results()
    state, _, _, reason, *_ = results["note", "A_09", "number"]
    assert state == "failed" and "A_09.note holds no number but 'seven'" in str(reason)
    assert results["ledger", "A", "ledger"][4] == {"total": 3.0, "notes": 2.0}
    assert results["balance", "balance", "balance"][4]["total"] == 3.0


def test_bad_input_is_tried_once_and_a_crash_again_up_to_the_limit(bench: Bench) -> None:
    bench.arrive(bench.write_note("A_01", "seven"), bench.write_note("A_02", "crash"))
    bench.settle()
    assert bench.ran.count(("number", "A_01")) == 1
    assert bench.ran.count(("number", "A_02")) == 3


def test_a_late_note_composes_its_ledger_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench, "A"))
    bench.settle()
    bench.arrive(bench.write_note("A_77", 100))
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 106.0, "notes": 4.0}


def test_ledger_1_is_not_ledger_10(bench: Bench) -> None:
    bench.arrive(bench.write_note("TS_1_01", 1), bench.write_note("TS_10_01", 2))
    bench.settle()
    assert bench.results()["ledger", "TS_1", "ledger"][4] == {"total": 1.0, "notes": 1.0}


def test_an_incomplete_ledger_says_what_it_waits_for_and_ends_by_silence(bench: Bench) -> None:
    bench.arrive(*_notes(bench, "A", 2))
    bench.settle(close=False)
    assert ("ledger", "A") not in bench.ran
    bench.now += 40.0
    bench.settle(close=False)
    assert ("ledger", "A") in bench.ran


def test_new_content_under_an_old_name_is_processed_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench, "A"))
    bench.settle()
    bench.arrive(bench.write_note("A_00", 1000))
    bench.settle()
    results = bench.results()
    assert results["ledger", "A", "ledger"][4]["total"] == 1005.0
    assert results["balance", "balance", "balance"][4]["total"] == 1005.0


def test_a_cleared_stage_leaves_no_files_and_is_made_again(bench: Bench) -> None:
    bench.arrive(*_notes(bench))
    bench.settle()
    before = bench.results()
    bench.engine.clear(["ledger", "report"])
    assert not list((bench.folder / "session" / "ledger").rglob("*.json"))
    bench.settle()
    assert bench.results() == before


def test_results_of_an_outdated_attempt_are_not_kept(bench: Bench) -> None:
    bench.arrive(bench.write_note("A_01", 5))
    bench.engine.plan(bench.now)
    orders = bench.engine.take_orders(["number"], 10, bench.now, 1)
    bench.change(number={"factor": 2.0})
    while bench.engine.plan(bench.now):
        pass
    bench.engine.commit([run_task(order) for order in orders], bench.now)
    bench.settle()
    assert bench.results()["note", "A_01", "number"][4] == {"value": 10.0}


ACTIONS = st.lists(
    st.sampled_from(["arrive", "step", "lose", "crash", "change", "rewrite", "move", "close"]),
    min_size=5,
    max_size=25,
)


@pytest.mark.timeout(300)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, seed=st.integers(0, 10_000))
def test_stream_equals_batch(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[Path], Database],
    actions: list[str],
    seed: int,
) -> None:
    """Law 1: whatever the order of arrivals, losses, crashes and changes, the end is that of one batch."""
    chance = random.Random(seed)
    folder: Path = tmp_path_factory.mktemp("law")
    database = new_database(folder)
    stream = Bench(database, folder / "stream", name="stream")
    contents: dict[str, object] = {
        f"{ledger}_{i:02d}": chance.choice([i, i + 0.5, "crash" if i == 3 else i])
        for ledger in "ABC"
        for i in range(4)
    }
    moved: dict[str, dict[str, object]] = {}
    stream.change(ledger={"notes": 4, "provisional_every": chance.randint(0, 3)})
    pending = list(contents)
    chance.shuffle(pending)
    for action in actions:
        if action == "arrive" and pending:
            keys = [pending.pop() for _ in range(min(len(pending), chance.randint(1, 4)))]
            stream.arrive(*(stream.write_note(key, contents[key]) for key in keys))
        elif action == "step":
            stream.step(chance.randint(1, 6))
        elif action == "lose":
            stream.step(chance.randint(1, 6), lambda orders: [o for o in orders if chance.random() < 0.5])
            stream.engine = stream.new_engine()
        elif action == "crash":
            stream.engine = stream.new_engine()
        elif action == "change":
            stream.change(number={"factor": float(chance.randint(1, 3))})
        elif action == "rewrite":
            arrived = sorted(set(contents) - set(pending))
            if arrived:
                key = chance.choice(arrived)
                contents[key] = chance.randint(10, 20)
                note = stream.write_note(key, contents[key])
                stream.arrive(replace(note, attributes=moved.get(key, {})))
        elif action == "move":
            arrived = sorted(set(contents) - set(pending))
            if arrived:
                key = chance.choice(arrived)
                moved[key] = {"ledger": chance.choice("ABCD"), "times": chance.randint(1, 2)}
                stream.arrive(replace(stream.write_note(key, contents[key]), attributes=moved[key]))
        elif action == "close":
            stream.engine.set_closed(chance.random() < 0.5)
    stream.arrive(*(stream.write_note(key, contents[key]) for key in pending))
    stream.settle()

    batch = Bench(database, folder / "batch", name="batch", document=stream.document)
    batch.arrive(*(replace(batch.write_note(k, v), attributes=moved.get(k, {})) for k, v in contents.items()))
    batch.settle()
    assert stream.results() == batch.results()
    assert not [p for p in (stream.folder / "session" / ".work").glob("*") if p.is_file()]
    database.close()


def test_a_ledger_is_added_up_provisionally_until_it_is_complete(bench: Bench) -> None:
    bench.change(ledger={"notes": 5, "provisional_every": 2})
    totals = []
    for note in _notes(bench, "A", 5):
        bench.arrive(note)
        bench.settle(close=False)
        made = bench.results().get(("ledger", "A", "ledger"))
        totals.append(made[4]["total"] if made else None)
    assert totals == [None, 3.0, 3.0, 10.0, 15.0]
    assert bench.ran.count(("ledger", "A")) == 3 and bench.ran.count(("report", "A")) == 3
    assert bench.results()["ledger", "A", "report"][5] == {"report/A.txt": "A: 15"}


def test_a_provisional_ledger_says_what_it_waits_for_and_ends_by_silence(bench: Bench) -> None:
    bench.change(ledger={"notes": 5, "provisional_every": 2})
    bench.arrive(*_notes(bench, "A", 3))
    bench.settle(close=False)
    assert bench.waiting_for("ledger", "A") == "3 of 5 notes"
    bench.now += 40.0
    bench.settle(close=False)
    assert bench.results()["ledger", "A", "ledger"][4]["total"] == 6.0


def test_a_complete_ledger_is_not_replaced_by_a_provisional_one(bench: Bench) -> None:
    bench.change(ledger={"provisional_every": 2})
    bench.arrive(*_notes(bench, "A", 3))
    bench.settle(close=False)
    bench.change(ledger={"notes": 5})
    bench.settle(close=False)
    assert bench.results()["ledger", "A", "ledger"][4]["total"] == 6.0


def test_what_a_note_is_known_to_be_may_change_later(bench: Bench) -> None:
    notes = _notes(bench, "A")
    bench.arrive(*(replace(note, attributes={"ledger": ""}) for note in notes))
    bench.settle()
    assert ("ledger", "A", "ledger") not in bench.results()
    bench.ran.clear()
    bench.arrive(*(replace(note, attributes={"ledger": "B", "times": 2}) for note in notes))
    bench.settle()
    assert bench.results()["ledger", "B", "ledger"][4]["total"] == 12.0
    assert ("number", "A_00") not in bench.ran
    bench.arrive(*(replace(note, attributes={"ledger": "C", "times": 1, "page": 7}) for note in notes))
    bench.settle()
    assert bench.results()["ledger", "C", "ledger"][4]["total"] == 6.0
    assert ("ledger", "B", "ledger") not in bench.results()
    assert not (bench.folder / "session" / "ledger" / "B.json").exists()
    bench.ran.clear()
    bench.arrive(*(replace(note, attributes={"ledger": "C", "times": 1, "page": 8}) for note in notes))
    bench.settle()
    assert bench.ran == []
