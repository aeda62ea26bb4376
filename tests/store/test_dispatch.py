"""Tasks and items on both kinds of database: order, replacement, recovery, and sessions side by side."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Table, func, select

from tomofly.model import TomoflyError
from tomofly.store import Database, dispatch, intake, planning, requests, results, sessions
from tomofly.store import tables as t
from tomofly.store.dispatch import BEGUN_LOSS, Failed
from tomofly.store.intake import NewItem
from tomofly.store.planning import QueuedTask
from tomofly.store.results import Done, StoredProduct
from tomofly.store.sessions import NewSession

STAGES = ["motion", "ctf"]


@dataclass
class Stock:
    """A session with items and tasks, filled by hand."""

    database: Database
    session_id: int

    def items(self, *keys: str, content: str = "") -> list[int]:
        offered = [NewItem("movie", key, f"/data/{key}.mrc", content) for key in keys]
        with self.database.begin() as connection:
            return [r.id for r in intake.register_items(connection, self.session_id, offered, 5.0)]

    def queue(self, item: int, stage: str = "motion", priority: int = 0, attempt: int = 1) -> int:
        queued = QueuedTask(item, stage, f"wanted {item}", attempt, "", priority)
        with self.database.begin() as connection:
            planning.queue_tasks(connection, self.session_id, [queued], 6.0)
            query = select(t.tasks.c.id).where(t.tasks.c.item_id == item, t.tasks.c.stage == stage)
            return int(connection.scalar(query) or 0)

    def take(self, limit: int = 100) -> list[int]:
        with self.database.begin() as connection:
            rows = dispatch.next_tasks(connection, self.session_id, STAGES, limit)
            dispatch.mark_running(connection, [row["id"] for row in rows], 7.0)
        return [row["id"] for row in rows]

    def fail(self, task: int, *, lost: bool = False, begun: bool = True) -> bool:
        """Fail a task; say whether it was given up."""
        failure = Failed(task, 0, "motion", "", "bad luck", False, lost, 8.0, begun=begun)
        with self.database.begin() as connection:
            return bool(dispatch.commit_failed(connection, [failure], 4, {"motion": 2}).given_up)

    def finish(self, task: int, item: int, **values: object) -> None:
        done = Done(task, item, "motion", "fp", "id", 7.0, 8.0, "w", **values)  # type: ignore[arg-type]
        with self.database.begin() as connection:
            dispatch.commit_done(connection, self.session_id, [done])

    def row(self, task: int) -> dict[str, object]:
        with self.database.read() as connection:
            return dict(dispatch.wanted_now(connection, [task])[task])

    def count(self, table: Table) -> int:
        with self.database.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def _stock(database: Database, name: str) -> Stock:
    with database.begin() as connection:
        new = NewSession(name, "spa", f"/sessions/{name}", "", {"motion": {}}, ("transfer",))
        return Stock(database, sessions.create_session(connection, new, 1.0))


@pytest.fixture
def stock(any_database: Database) -> Stock:
    return _stock(any_database, "one")


def test_an_item_offered_twice_is_registered_once(stock: Stock) -> None:
    first = stock.items("a", "b", "a")
    assert first[0] == first[2] != first[1]
    assert stock.items("b", "a") == [first[1], first[0]]
    assert stock.count(t.items) == 2


def test_changed_content_is_noted_and_the_same_is_not(stock: Stock) -> None:
    stock.items("a", content="1:1")
    with stock.database.begin() as connection:
        planning.settle_items(connection, [(1, None, "")])
        same, new = (NewItem("movie", "a", content=c) for c in ("1:1", "2:2"))
        assert [r.changed for r in intake.register_items(connection, stock.session_id, [same], 9.0)] == [
            False
        ]
        (changed,) = intake.register_items(connection, stock.session_id, [new], 9.0)
        assert (changed.new, changed.changed) == (False, True)
        assert [r["content"] for r in planning.dirty_items(connection, stock.session_id, 9.0, 5)] == ["2:2"]


def test_items_of_one_key_and_two_kinds_are_two(stock: Stock) -> None:
    with stock.database.begin() as connection:
        offered = [NewItem(kind, "TS_1") for kind in ("tilt", "tilt series")]
        ids = [r.id for r in intake.register_items(connection, stock.session_id, offered, 1.0)]
    assert len(set(ids)) == 2


def test_the_same_items_registered_by_two_at_once_are_there_once(stock: Stock) -> None:
    keys = [f"movie_{i}" for i in range(300)]
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(stock.items(*keys))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(ids == found[0] for ids in found)
    assert stock.count(t.items) == 300


def test_memberships_are_added_once_and_wake_the_parent(stock: Stock) -> None:
    parent, child = stock.items("parent", "child")
    with stock.database.begin() as connection:
        for _ in range(2):
            planning.settle_items(connection, [(parent, None, ""), (child, None, "")])
            intake.add_members(connection, [(parent, child, "ledger"), (parent, child, "ledger")])
            dirty = planning.dirty_items(connection, stock.session_id, 0.0, 9)
            assert [row["id"] for row in dirty] == [parent]
    assert stock.count(t.members) == 1


def test_the_most_urgent_tasks_come_first_and_no_more_than_asked(stock: Stock) -> None:
    items = stock.items("a", "b", "c")
    low, high, middle = (stock.queue(i, priority=p) for i, p in zip(items, (1, 9, 5), strict=True))
    assert stock.take(2) == [high, middle]
    assert stock.take(2) == [low] and stock.take(2) == []


def test_tasks_of_other_stages_stay_in_the_queue(stock: Stock) -> None:
    (item,) = stock.items("a")
    stock.queue(item, "picks")
    assert stock.take() == []


def test_what_was_running_is_queued_again_and_counts_as_no_attempt(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    stock.take()
    with stock.database.begin() as connection:
        assert dispatch.recover_running(connection, stock.session_id) == 1
        assert dispatch.recover_running(connection, stock.session_id) == 0
    assert (stock.row(task)["state"], stock.row(task)["attempts"]) == ("queued", 0)


def test_a_result_replaces_all_of_the_earlier_one(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    products = [StoredProduct("average", "motion/a.mrc", 13), StoredProduct("plot", "motion/a.webp", 17)]
    stock.finish(task, item, products=products, metrics={"total": 3.0, "early": 1.0}, flags=[("dark", "x")])
    stock.finish(task, item, products=products[:1], metrics={"total": 4.0})
    with stock.database.read() as connection:
        result = results.results_of(connection, [item], ["motion"])[item, "motion"]
    assert result == results.StoredResult("id", {"average": "motion/a.mrc"}, {"total": 4.0}, ())


def test_a_task_is_given_up_after_its_retries(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    assert [stock.fail(task), stock.fail(task), stock.fail(task)] == [False, False, True]
    assert (stock.row(task)["state"], stock.row(task)["attempts"]) == ("failed", 3)


def test_a_lost_worker_costs_no_attempt_until_it_was_lost_too_often(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    assert [stock.fail(task, lost=True) for _ in range(4)] == [False, False, False, True]
    assert "bad luck. Given up after 4 times" in str(stock.row(task)["reason"])


def test_a_task_that_was_only_waiting_on_a_dead_worker_is_hardly_suspected(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    assert not any(stock.fail(task, lost=True, begun=False) for _ in range(4 * BEGUN_LOSS - 1))
    assert stock.fail(task, lost=True, begun=False)


def test_of_the_suspects_one_runs_at_a_time(stock: Stock) -> None:
    tasks = [stock.queue(item, priority=i) for i, item in enumerate(stock.items("a", "b", "c", "d"))]
    stock.take()
    for task in tasks[:2]:
        stock.fail(task, lost=True)
    with stock.database.begin() as connection:
        dispatch.requeue(connection, tasks[2:], "")
    assert stock.take() == [tasks[1], tasks[3], tasks[2]]
    assert stock.take() == []
    stock.finish(tasks[1], 2)
    assert stock.take() == [tasks[0]]


def test_wishes_for_single_items(stock: Stock) -> None:
    items = stock.items("a", "b")
    tasks = [stock.queue(item) for item in items]
    for task in tasks:
        for _ in range(3):
            stock.fail(task)
    with stock.database.begin() as connection:
        assert requests.retry_failed(connection, stock.session_id, [items[0]]) == 1
    assert [stock.row(task)["state"] for task in tasks] == ["waiting", "failed"]
    assert stock.row(tasks[0])["attempts"] == 0


def test_a_withdrawn_task_is_planned_again(stock: Stock) -> None:
    (item,) = stock.items("a")
    task = stock.queue(item)
    with stock.database.begin() as connection:
        planning.settle_items(connection, [(item, None, "")])
        dispatch.withdraw(connection, [task])
        assert [r["id"] for r in planning.dirty_items(connection, stock.session_id, 0.0, 5)] == [item]
    assert (stock.row(task)["state"], stock.row(task)["wanted"]) == ("waiting", None)


def test_an_item_wakes_when_its_time_has_come(stock: Stock) -> None:
    (item,) = stock.items("a")
    with stock.database.begin() as connection:
        planning.settle_items(connection, [(item, 100.0, "waits")])
        assert planning.dirty_items(connection, stock.session_id, 99.0, 5) == []
        assert len(planning.dirty_items(connection, stock.session_id, 100.0, 5)) == 1
        assert planning.next_wake(connection, stock.session_id) == 100.0
        assert planning.unsettled(connection, stock.session_id, closed=True)
        assert not planning.unsettled(connection, stock.session_id, closed=False)


def test_two_sessions_in_one_database_do_not_see_each_other(any_database: Database) -> None:
    one, two = _stock(any_database, "one"), _stock(any_database, "two")
    (mine,), (other,) = one.items("a"), two.items("a")
    assert mine != other
    task = one.queue(mine)
    assert two.take() == []
    with any_database.begin() as connection:
        assert dispatch.recover_running(connection, two.session_id) == 0
        assert [r["id"] for r in planning.dirty_items(connection, two.session_id, 9.0, 9)] == [other]
        assert planning.drop_results(connection, two.session_id, ["motion"], []) == []
        planning.touch_kinds(connection, two.session_id, ["movie"])
    assert one.take() == [task]


def test_a_deleted_session_takes_everything_with_it_and_nothing_of_others(any_database: Database) -> None:
    stocks = [_stock(any_database, name) for name in ("one", "two")]
    for stock in stocks:
        parent, child = stock.items("parent", "child")
        task = stock.queue(child)
        product = StoredProduct("average", "motion/a.mrc", 13)
        stock.finish(task, child, products=[product], metrics={"total": 3.0}, flags=[("dark", "x")])
        with any_database.begin() as connection:
            intake.add_members(connection, [(parent, child, "group")])
            sessions.raise_alert(connection, stock.session_id, "disk", "full", 1.0)
    before = {name: stocks[0].count(table) for name, table in t.metadata.tables.items()}
    with any_database.begin() as connection:
        sessions.delete_session(connection, stocks[0].session_id)
    after = {name: stocks[0].count(table) for name, table in t.metadata.tables.items()}
    assert all(count > 0 for count in after.values())
    assert {name: 2 * count for name, count in after.items()} == before


def test_a_name_or_folder_that_is_taken_is_refused_with_what_to_do(any_database: Database) -> None:
    _stock(any_database, "one")
    with pytest.raises(
        TomoflyError, match=r"already a session 'one' with the name 'one'\. Choose another name"
    ):
        _stock(any_database, "one")


def test_an_unknown_session_is_told_of_with_those_there_are(stock: Stock) -> None:
    with (
        stock.database.read() as connection,
        pytest.raises(TomoflyError, match=r"no session 'two'. There are: one"),
    ):
        sessions.find_session(connection, "two")


def test_settings_are_kept_in_revisions(stock: Stock) -> None:
    with stock.database.begin() as connection:
        assert sessions.save_settings(connection, stock.session_id, {"motion": {"bin": 2}}, 2.0) == 2
        assert sessions.settings_document(connection, stock.session_id, 1) == {"motion": {}}
        assert sessions.settings_document(connection, stock.session_id, 2) == {"motion": {"bin": 2}}
        assert sessions.list_tracks(connection, stock.session_id)[0].revision == 1


def test_an_alert_stands_once_until_its_cause_is_gone(stock: Stock) -> None:
    with stock.database.begin() as connection:
        for at in (1.0, 2.0):
            sessions.raise_alert(connection, stock.session_id, "disk", "full", at)
        sessions.end_alert(connection, stock.session_id, "disk", 3.0)
        sessions.raise_alert(connection, stock.session_id, "disk", "full again", 4.0)
        alerts = sessions.list_alerts(connection, stock.session_id)
    assert [(a["at"], a["ended_at"]) for a in alerts] == [(4.0, None), (1.0, 3.0)]


def test_a_cost_per_event_does_not_grow_with_the_fold(new_database, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    database = new_database(tmp_path)
    with database.read() as connection:
        m = t.members.c
        for condition in (m.consumed == "", m.consumed >= ""):
            mine = (m.parent_id == 1, m.excluded.is_(False), m.state.in_(["waiting", "done"]))
            query = select(m.child_id).where(*mine, condition)
            plan = connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {query.compile(connection, compile_kwargs={'literal_binds': True})}"
            ).all()
            assert "parent_id=? AND excluded=? AND state=? AND consumed" in plan[0][3]
        query = select(m.child_id).where(m.parent_id == 1, m.excluded.is_(True), m.consumed.is_not(None))
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {query.compile(connection, compile_kwargs={'literal_binds': True})}"
        ).all()
        assert "parent_id=? AND excluded=?" in plan[0][3], "only what is left out is looked at"
    database.close()
