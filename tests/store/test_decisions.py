"""What people decide of tilts, and when they ask to process now: it lasts, and wakes whom it concerns."""

from tomofly.store import Database, intake, planning, requests, sessions
from tomofly.store import tables as t
from tomofly.store.intake import NewItem
from tomofly.store.sessions import NewSession

LEFT_OUT = {"": {"verdict": "left_out", "reason": "drift"}}


def _series(database: Database) -> tuple[int, int, int]:
    """Make a session with a series of one tilt; give (session, series, tilt)."""
    with database.begin() as connection:
        new = NewSession("s", "tomo", "/s", "", {}, ("series",))
        session = sessions.create_session(connection, new, 1.0)
        items = [NewItem("movie", "a", attributes={"series": "A"}), NewItem("tilt series", "A")]
        tilt, series = (each.id for each in intake.register_items(connection, session, items, 2.0))
        intake.add_members(connection, [(series, tilt, "compose")])
        planning.settle_items(connection, [(tilt, None, ""), (series, None, "")])
    return session, series, tilt


def test_a_decision_is_kept_apart_from_what_is_known_and_survives_that_more_becomes_known(
    any_database: Database,
) -> None:
    session, series, tilt = _series(any_database)
    with any_database.begin() as connection:
        requests.decide(connection, {tilt: LEFT_OUT}, 3.0)
        assert [row["id"] for row in planning.dirty_items(connection, session, 3.0, 9)] == [series]
        again = NewItem("movie", "a", attributes={"series": "A", "order": 4})
        intake.register_items(connection, session, [again], 4.0)
        (member,) = planning.members_of(connection, series)
    assert member["decisions"] == LEFT_OUT
    assert member["attributes"] == {"series": "A", "order": 4}


def test_a_decision_asks_again_for_a_series_that_was_made_and_for_no_other(any_database: Database) -> None:
    session, series, tilt = _series(any_database)
    with any_database.begin() as connection:
        requests.decide(connection, {tilt: LEFT_OUT}, 3.0)
        assert planning.items_by_id(connection, [series])[series]["requested_at"] == 0.0
        made = planning.QueuedTask(series, "compose", "f" * 8, 1, "", 0)
        planning.queue_tasks(connection, session, [made], 4.0)
        requests.decide(connection, {tilt: {}}, 5.0)
        row = planning.items_by_id(connection, [series, tilt])
    assert row[series]["requested_at"] == 5.0 and row[tilt]["requested_at"] == 0.0
    assert row[tilt]["decisions"] == {}


def test_a_provisional_series_is_not_taken_for_one_that_was_made(any_database: Database) -> None:
    session, series, tilt = _series(any_database)
    with any_database.begin() as connection:
        some = planning.QueuedTask(series, "compose", "f" * 8, 1, "provisional", 0)
        planning.queue_tasks(connection, session, [some], 4.0)
        requests.decide(connection, {tilt: LEFT_OUT}, 5.0)
        query = t.items.select().where(t.items.c.id == series)
        assert connection.execute(query).mappings().one()["requested_at"] == 0.0
