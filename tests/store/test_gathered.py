"""Groups in the table: what belongs to them, and that a provisional result is not an end."""

import pytest
from sqlalchemy import Connection

from tests.store.gathering import add_item, add_member, add_task, new_session
from tomofly.store import Database, browse, statistics
from tomofly.store import tables as t
from tomofly.store.browse import ITEM_STATES, BrowsedItem, Gathered, ItemFilter

FINAL = ("report",)
ALL = ItemFilter("ledger", FINAL)


def fill(connection: Connection) -> int:
    """Ledger A of five notes is complete, B has a provisional report, C waits for its first note."""
    session = new_session(connection)
    ledgers = {key: add_item(connection, session, "ledger", key) for key in "ABC"}
    for number in range(5):
        note = add_item(
            connection, session, "note", f"A_{number}", acquired_at=200.0 + number, live=number != 3,
            detected_at=300.0 if number == 3 else 201.0 + number,
        )  # fmt: skip
        state = "failed" if number == 1 else "done"
        add_member(connection, ledgers["A"], note, "ledger", state, excluded=number == 4)
        add_task(connection, session, note, "number", state, done_at=310.0)
    note = add_item(connection, session, "note", "B_0", acquired_at=250.0)
    add_member(connection, ledgers["B"], note, "ledger", "done")
    for key, mode in (("A", ""), ("B", "provisional")):
        add_task(connection, session, ledgers[key], "ledger", mode=mode, done_at=320.0)
        add_task(connection, session, ledgers[key], "report", done_at=325.0)
    return session


def ledgers(connection: Connection, session: int, wanted: ItemFilter = ALL) -> dict[str, BrowsedItem]:
    return {item.key: item for item in browse.browse_items(connection, session, wanted)}


def test_a_group_sums_up_its_members_and_was_whole_with_the_last_that_counts(any_database: Database) -> None:
    with any_database.begin() as connection:
        session = fill(connection)
        found = ledgers(connection, session)
    # Note 4 is left out by hand; note 3 lay there before, and counts from when it was found.
    assert found["A"].gathered == Gathered("ledger", 5, 1, 1, acquired_at=203.0, whole_at=300.0)
    assert found["A"].latency_s(FINAL) == pytest.approx(25.0)
    assert found["C"].gathered is None and found["C"].latency_s(FINAL) is None


def test_a_provisional_result_is_no_end(any_database: Database) -> None:
    with any_database.begin() as connection:
        session = fill(connection)
        found = ledgers(connection, session)
        assert {key: item.state(FINAL) for key, item in found.items()} == {
            "A": "done", "B": "waiting", "C": "waiting",
        }  # fmt: skip
        assert found["B"].done_at(FINAL) is None
        for state in ITEM_STATES:
            listed = ledgers(connection, session, ItemFilter("ledger", FINAL, states=(state,)))
            assert {item.state(FINAL) for item in listed.values()} <= {state}
        assert statistics.count_done(connection, session, FINAL, of_groups=True) == 1
        assert statistics.latencies(connection, session, FINAL, of_groups=True) == [25.0]


def test_results_of_fewer_members_are_void_while_all_are_brought_together(any_database: Database) -> None:
    with any_database.begin() as connection:
        session = fill(connection)
        mine = t.tasks.c.item_id == ledgers(connection, session)["A"].id, t.tasks.c.stage == "ledger"
        for values in ({"state": "running", "done_at": None}, {"state": "done", "done_at": 330.0}):
            connection.execute(t.tasks.update().where(*mine).values(**values))
            assert ledgers(connection, session)["A"].done_at(FINAL) is None
            assert statistics.count_done(connection, session, FINAL, of_groups=True) == 0
            assert statistics.latencies(connection, session, FINAL, of_groups=True) == []


def test_failed_items_are_counted_by_kind(any_database: Database) -> None:
    with any_database.begin() as connection:
        session = fill(connection)
        assert statistics.count_failed_items(connection, session) == {"note": 1}
