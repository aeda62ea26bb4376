"""A session whose stages bring items together is told of in what they make, and in its members on request."""

import dataclasses

import pytest
from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT

from tests.store.gathering import add_item, add_member, add_task
from tomofly.flow.graph import build_workflow
from tomofly.model import TomoflyError
from tomofly.services import sessions
from tomofly.services.home import Home
from tomofly.services.progress import session_progress
from tomofly.services.summary import summarise_session
from tomofly.services.table import data_frame, find_item, table_columns, table_page
from tomofly.stages.registry import Installed
from tomofly.stages.tilts.compose import STAGE as COMPOSE
from tomofly.store import sessions as rows

MAIN = (BALANCE, dataclasses.replace(LEDGER, main=True), NUMBER, REPORT)


@pytest.fixture
def session(home: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two ledgers: A is complete, B waits and has a note that failed."""
    installed = tuple(Installed(stage, "tomofly-example") for stage in MAIN)
    monkeypatch.setattr("tomofly.flow.workflows.installed_stages", lambda: installed)
    sessions.create_session(home, "books", kind="notes")
    with home.database.begin() as connection:
        at = rows.find_session(connection, "books").id
        for key, states in (("A", ("done", "done")), ("B", ("done", "failed"))):
            waiting = "" if key == "A" else "1 of 3 notes; 2 have not come"
            ledger = add_item(connection, at, "ledger", key, waiting_for=waiting)
            for number, state in enumerate(states):
                note = add_item(connection, at, "note", f"{key}_{number}", acquired_at=150.0 + number)
                add_member(connection, ledger, note, "ledger", state)
                add_task(connection, at, note, "number", state, {"value": 2.0 * number}, done_at=152.0)
            if key == "A":
                add_task(connection, at, ledger, "ledger", metrics={"total": 3.0}, done_at=160.0)
                add_task(connection, at, ledger, "report", metrics={"length": 4.0}, done_at=161.0)
    return "books"


def test_the_main_kind_is_what_a_main_group_makes() -> None:
    assert build_workflow("notes", MAIN).main_kind == "ledger"
    assert build_workflow("notes", [NUMBER, LEDGER, REPORT, BALANCE]).main_kind == "note"
    assert COMPOSE.main and COMPOSE.produces == "tilt series"


def test_the_table_is_of_groups_with_their_members_and_the_time_from_the_last(
    home: Home, session: str
) -> None:
    page = table_page(home, session, sort="key")
    first, second = page.rows
    assert (page.total, first["key"], first["state"], first["total"]) == (2, "A", "done", 3.0)
    assert (first["members"], first["failed_members"], first["latency_s"]) == (2, 0, 10.0)
    assert (second["state"], second["failed_members"], second["latency_s"]) == ("waiting", 1, None)
    assert second["waiting_for"] == "1 of 3 notes; 2 have not come"
    assert set(first) == {column.name for column in table_columns(build_workflow("notes", MAIN))}
    assert [row["key"] for row in table_page(home, session, filters=["total>2"]).rows] == ["A"]


def test_the_other_kind_is_shown_on_request(home: Home, session: str) -> None:
    page = table_page(home, session, kind="note", sort="-value", filters=["value>1"])
    assert sorted(row["key"] for row in page.rows) == ["A_1", "B_1"]
    assert "members" not in page.rows[0] and "total" not in page.rows[0]
    assert list(data_frame(home, session, ["state=failed"], kind="note")["key"]) == ["B_1"]
    with pytest.raises(TomoflyError, match="Legal are: note, balance, ledger"):
        table_page(home, session, kind="page")
    with pytest.raises(TomoflyError, match="no metric 'value'"):
        table_page(home, session, filters=["value>1"])


def test_an_item_is_found_whatever_its_kind(home: Home, session: str) -> None:
    assert find_item(home, session, "B_1")[0].kind == "note"
    assert find_item(home, session, "A")[1].metrics["ledger", "total"] == 3.0
    with pytest.raises(TomoflyError, match="no item 'A_1'"):
        find_item(home, session, "A_1", "ledger")


def test_progress_counts_groups_first_and_their_members_beside(home: Home, session: str) -> None:
    progress = session_progress(home, session)
    assert (progress.items, progress.done, progress.failed) == (2, 1, 0)
    assert list(progress.kinds) == ["ledger", "note", "balance"]
    notes = progress.kinds["note"]
    assert (notes.items, notes.done, notes.failed) == (4, 3, 1)
    assert progress.latency_p50_s == 10.0
    tracks = {track.name: track for track in progress.tracks}
    assert (tracks["reading"].done, tracks["adding"].done, tracks["adding"].waiting) == (3, 1, 1)
    summary = summarise_session(home, session)
    assert summary["kinds"]["note"] == {"items": 4, "done": 3, "failed": 1}
