"""Corners of the engine: crashes between two steps, losses with neighbours, folds and groups that change."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT

from tests.flow.inline import Bench
from tomofly.flow.graph import build_workflow
from tomofly.flow.runner import TaskOrder, TaskReport, run_task
from tomofly.model import FoldStage, Outcome
from tomofly.store import Database, requests
from tomofly.store import tables as t

LIMIT_OF_VARIABLES = 70_000
"""More than a statement takes in most builds of SQLite."""


def _notes(bench: Bench, count: int, ledger: str = "A", start: int = 0) -> list:
    return [bench.write_note(f"{ledger}_{i:02d}", i + 1) for i in range(start, start + count)]


def _orders(bench: Bench, *stages: str) -> list[TaskOrder]:
    bench.now += 1.0
    while bench.engine.plan(bench.now):
        pass
    return bench.engine.take_orders(stages, 1000, bench.now, 1)


def _lost(order: TaskOrder, *, begun: bool) -> TaskReport:
    if begun:
        order.work.mkdir(parents=True)
    return TaskReport(order, 0.0, 0.0, "", reason="The worker process died", lost=True)


def _state(bench: Bench, kind: str, key: str, stage: str) -> tuple[str, str]:
    found = bench.results()[kind, key, stage]
    return str(found[0]), str(found[3])


def _files(bench: Bench) -> set[str]:
    folder = bench.folder / "session"
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "logs" not in p.parts}


def _fold(bench: Bench) -> dict[str, float]:
    metrics = bench.results()["balance", "balance", "balance"][4]
    assert isinstance(metrics, dict)
    return metrics


def test_a_crash_between_files_and_database_counts_no_element_twice(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle(close=False)
    assert _fold(bench) == {"total": 10.0, "notes": 4.0}
    bench.arrive(*_notes(bench, 4, start=4))
    while orders := _orders(bench, "number"):
        bench.engine.commit([run_task(order) for order in orders], bench.now)
    (fold,) = _orders(bench, "balance")
    bench.engine._committer.place_files([run_task(fold)])
    bench.engine = bench.new_engine()
    bench.settle(close=False)
    assert _fold(bench) == {"total": 36.0, "notes": 8.0}


def test_a_crash_between_files_and_database_is_made_good_for_every_stage(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 3))
    for stage in ("number", "ledger", "report"):
        orders = _orders(bench, stage)
        assert orders
        bench.engine._committer.place_files([run_task(order) for order in orders])
        bench.engine = bench.new_engine()
        again = _orders(bench, stage)
        assert [order.wanted for order in again] == [order.wanted for order in orders]
        bench.engine.commit([run_task(order) for order in again], bench.now)
    bench.settle()
    assert bench.results()["ledger", "A", "report"][5] == {"report/A.txt": "A: 6"}


def test_a_fold_that_failed_goes_on_from_its_checkpoint(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle(close=False)
    bench.arrive(*_notes(bench, 4, start=4))
    while orders := _orders(bench, "number"):
        bench.engine.commit([run_task(order) for order in orders], bench.now)
    (fold,) = _orders(bench, "balance")
    bench.engine.commit([TaskReport(fold, 0.0, 1.0, "", reason="out of luck")], bench.now)
    bench.settle(close=False)
    assert _fold(bench) == {"total": 36.0, "notes": 8.0}


def test_a_checkpoint_is_named_after_the_settings_that_made_it(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    for stage in ("number",):
        bench.engine.commit([run_task(order) for order in _orders(bench, stage)], bench.now)
    (fold,) = _orders(bench, "balance")
    report = run_task(fold)
    stage = replace(bench.workflow["balance"], version="2")
    bench.workflow = build_workflow("notes", [NUMBER, LEDGER, REPORT, stage])
    bench.engine = bench.new_engine()
    with bench.database.begin() as connection:
        connection.execute(t.tasks.update().where(t.tasks.c.id == fold.task_id).values(state="running"))
    bench.engine.commit([report], bench.now)
    bench.engine.use_settings(bench.engine.settings)
    bench.ran.clear()
    bench.settle(close=False)
    assert ("balance", "balance") in bench.ran


def test_a_fold_begins_anew_once_when_all_its_elements_change(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 9))
    bench.settle(close=False)
    bench.ran.clear()
    bench.change(number={"factor": 2.0})
    for _ in range(60):
        bench.step(limit=1)
    assert bench.ran.count(("balance", "balance")) == 1
    assert _fold(bench)["total"] == 90.0


def test_a_changed_element_is_taken_out_of_an_open_fold(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle(close=False)
    bench.arrive(bench.write_note("A_00", "seven"))
    bench.settle(close=False)
    assert _fold(bench) == {"total": 9.0, "notes": 3.0}


def test_an_element_that_changes_while_its_fold_runs_is_not_lost(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.engine.commit([run_task(order) for order in _orders(bench, "number")], bench.now)
    (fold,) = _orders(bench, "balance")
    report = run_task(fold)
    bench.arrive(bench.write_note("A_00", 1001))
    bench.engine.commit([run_task(order) for order in _orders(bench, "number")], bench.now)
    bench.engine.commit([report], bench.now)
    bench.settle(close=False)
    assert _fold(bench) == {"total": 1010.0, "notes": 4.0}


def test_a_fold_can_be_fed_by_groups(any_database: Database, tmp_path: Path) -> None:
    total = FoldStage(
        name="sum", version="1", summary="", session_kinds=("notes",), track="adding", consumes="ledger",
        produces="sum", params=BALANCE.params, needs=("ledger",), every=2,
        run=lambda members, _params, ctx: _sum_ledgers(members, ctx),
    )  # fmt: skip
    bench = Bench(any_database, tmp_path / "bench", build_workflow("notes", [NUMBER, LEDGER, total]))
    bench.arrive(*_notes(bench, 3, "A"), *_notes(bench, 3, "B"))
    bench.settle()
    bench.arrive(*_notes(bench, 3, "C"))
    bench.settle()
    assert bench.results()["sum", "sum", "sum"][4] == {"total": 18.0}


def _sum_ledgers(members: object, ctx: object) -> Outcome:
    path = ctx.new_file(".json")  # type: ignore[attr-defined]
    before = 0.0 if ctx.checkpoint is None else json.loads(ctx.checkpoint.read_text())  # type: ignore[attr-defined]
    total = before + sum(member.result.metrics["total"] for member in members)  # type: ignore[attr-defined]
    path.write_text(json.dumps(total))
    return Outcome({"checkpoint": path}, {"total": total})


def test_a_stage_that_is_switched_off_leaves_nothing_and_comes_back(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 5))
    bench.settle()
    before, files = bench.results(), _files(bench)
    bench.change(report={"enabled": False}, balance={"enabled": False})
    bench.settle()
    for kind, key, stage in (("ledger", "A", "report"), ("balance", "balance", "balance")):
        state, _, _, reason, metrics, left = bench.results()[kind, key, stage]
        assert (state, metrics, left) == ("skipped", {}, {})
        assert reason == f"{stage} is switched off in the settings"
    assert not [file for file in _files(bench) if file.startswith(("report/", "balance/"))]
    bench.change(report={"enabled": True}, balance={"enabled": True})
    bench.settle()
    assert bench.results() == before and _files(bench) == files


def test_an_item_that_turns_bad_leaves_no_files_of_its_better_days(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 4))
    bench.settle()
    bench.arrive(bench.write_note("A_00", "seven"))
    bench.settle()
    assert "number/A_00.txt" not in _files(bench)
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 9.0, "notes": 3.0}


def test_when_all_members_fail_their_group_is_skipped_with_a_reason(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 2))
    bench.settle()
    bench.arrive(*(bench.write_note(f"A_0{i}", "bad") for i in range(2)))
    bench.settle()
    assert _state(bench, "ledger", "A", "ledger") == ("skipped", "no member has a result")
    assert _state(bench, "ledger", "A", "report")[0] == "skipped"
    assert not [file for file in _files(bench) if file.startswith(("ledger/", "report/"))]


def test_a_note_that_comes_while_its_ledger_is_made_is_in_the_ledger(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 3))
    bench.engine.commit([run_task(order) for order in _orders(bench, "number")], bench.now)
    (running,) = _orders(bench, "ledger")
    report = run_task(running)
    bench.arrive(*_notes(bench, 1, start=3))
    bench.engine.commit([run_task(order) for order in _orders(bench, "number")], bench.now)
    bench.engine.commit([report], bench.now)
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 10.0, "notes": 4.0}


def test_a_person_may_ask_for_a_ledger_now_and_the_rule_holds_again_for_a_late_note(bench: Bench) -> None:
    bench.change(ledger={"notes": 5, "silence_s": 1000.0})
    bench.arrive(*_notes(bench, 2))
    bench.settle(close=False)
    assert ("ledger", "A") not in bench.ran
    with bench.database.begin() as connection:
        asked = requests.find_items(connection, bench.session_id, ["A"])["A"]
        requests.request_now(connection, asked, bench.now)
    bench.settle(close=False)
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 3.0, "notes": 2.0}
    bench.arrive(*_notes(bench, 1, start=2))
    bench.settle(close=False)
    assert bench.ran.count(("ledger", "A")) == 1
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 6.0, "notes": 3.0}


def test_a_group_that_waits_for_more_does_not_keep_a_stream_from_closing(bench: Bench) -> None:
    bench.change(ledger={"silence_s": 1e6})
    bench.arrive(*_notes(bench, 2))
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 3.0, "notes": 2.0}


def test_a_failed_member_that_is_tried_again_is_waited_for(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 2), bench.write_note("A_02", "crash"))
    bench.settle()
    bench.write_note("A_02", 3)
    with bench.database.begin() as connection:
        assert requests.retry_failed(connection, bench.session_id) == 1
    bench.settle()
    assert bench.results()["ledger", "A", "ledger"][4] == {"total": 6.0, "notes": 3.0}


def test_tasks_that_a_dying_worker_had_not_begun_are_not_blamed(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 6))
    killer = "A_05"
    for _ in range(30):
        orders = _orders(bench, "number")
        if not orders:
            break
        deadly = [o for o in orders if o.item.key == killer]
        reports = [_lost(o, begun=o in deadly) for o in orders] if deadly else [run_task(o) for o in orders]
        bench.engine.commit(reports, bench.now)
    bench.settle()
    states = {key: _state(bench, "note", key, "number") for key in (f"A_0{i}" for i in range(6))}
    assert states.pop(killer) == ("failed", "The worker process died. Given up after 4 times")
    assert set(states.values()) == {("done", "")}


def test_tasks_that_run_beside_a_killer_are_done_in_the_end(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 6))
    killer = "A_05"
    for _ in range(60):
        orders = _orders(bench, "number")[:3]
        bench.engine.recover()
        orders = bench.engine.take_orders(["number"], 3, bench.now, 1)
        if not orders:
            break
        deadly = any(o.item.key == killer for o in orders)
        reports = [_lost(o, begun=True) if deadly else run_task(o) for o in orders]
        bench.engine.commit(reports, bench.now)
    bench.settle()
    failed = [key for (_, key, _), result in bench.results().items() if result[0] == "failed"]
    assert failed == [killer]


def test_losses_of_old_content_do_not_count_against_the_new(bench: Bench) -> None:
    bench.arrive(bench.write_note("A_00", 1))
    while orders := _orders(bench, "number"):
        bench.engine.commit([_lost(order, begun=True) for order in orders], bench.now)
    assert _state(bench, "note", "A_00", "number")[0] == "failed"
    bench.arrive(bench.write_note("A_00", 2))
    (order,) = _orders(bench, "number")
    bench.engine.commit([_lost(order, begun=True)], bench.now)
    bench.settle()
    assert _state(bench, "note", "A_00", "number") == ("done", "")


def test_a_product_that_cannot_be_placed_for_its_own_reasons_fails_its_task(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 2))
    (bench.folder / "session" / "number" / "A_00.txt" / "in the way").mkdir(parents=True)
    bench.settle()
    state, reason = _state(bench, "note", "A_00", "number")
    assert state == "failed" and "could not be put in place" in reason
    assert _state(bench, "note", "A_01", "number") == ("done", "")


def test_a_full_disk_costs_no_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.arrive(*_notes(bench, 1))
    move = Path.replace

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(Path, "replace", full)
    for _ in range(8):
        bench.engine.commit([run_task(order) for order in _orders(bench, "number")], bench.now)
    monkeypatch.setattr(Path, "replace", move)
    bench.settle()
    assert _state(bench, "note", "A_00", "number") == ("done", "")


def test_the_report_of_a_cleared_task_is_dropped_with_its_files(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 1))
    reports = [run_task(order) for order in _orders(bench, "number")]
    bench.engine.clear(["number"])
    bench.engine.commit(reports, bench.now)
    assert _files(bench) <= {"number/A_00.txt"} and not any(r.order.work.exists() for r in reports)
    assert "number/A_00.txt" not in _files(bench)
    bench.settle()
    assert _state(bench, "note", "A_00", "number") == ("done", "")


def test_a_result_that_the_database_refuses_is_the_problem_of_its_item(bench: Bench) -> None:
    bench.arrive(*_notes(bench, 3))
    good, bad, *_ = reports = [run_task(order) for order in _orders(bench, "number")]
    assert bad.outcome is not None and good.outcome is not None
    twice = replace(bad, outcome=replace(bad.outcome, metrics={"value": {"no": "number"}}))  # type: ignore[dict-item]
    bench.engine.commit([good, twice, *reports[2:]], bench.now)
    bench.settle()
    states = {key: result[0] for (_, key, stage), result in bench.results().items() if stage == "number"}
    assert states.pop(bad.order.item.key) == "failed" and set(states.values()) == {"done"}


@pytest.mark.slow
def test_any_number_of_items_may_arrive_at_once(bench: Bench) -> None:
    from tomofly.store.intake import NewItem

    count = LIMIT_OF_VARIABLES if bench.database.url.startswith("sqlite") else 5_000
    notes = [NewItem("note", f"A_{i}", f"/no/{i}", str(i)) for i in range(count)]
    bench.engine.register(notes, bench.now)
    with bench.database.read() as connection:
        parents = connection.scalars(select(t.members.c.parent_id).limit(5)).all()
    assert len(parents) == 5
