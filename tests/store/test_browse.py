"""The table is filtered, sorted and paged by the database, and says what the rows say."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from tomofly.store import Database, browse, requests, sessions, statistics
from tomofly.store import tables as t
from tomofly.store.browse import ItemFilter, MetricRange, Order

ALL = ItemFilter("movie", ("ctf",))


def ctf_of(number: int) -> float | None:
    """Every fourth movie has no CTF; the others a resolution that does not follow their order."""
    return None if number % 4 == 3 else 3.0 + (number * 7 % 17) / 2


def fill(database: Database, count: int, name: str = "grid") -> int:
    """Write a session of movies: motion done on all, CTF done on most and failed on every fourth."""
    with database.begin() as connection:
        new = sessions.NewSession(name, "spa", f"/data/{name}", "", {}, ("preprocess",))
        session = sessions.create_session(connection, new, 100.0)
        items = [
            {
                "session_id": session, "kind": "movie", "key": f"a/m{n:06d}", "source": "", "content": "",
                "attributes": {}, "detected_at": 100.0 + n, "acquired_at": 99.0 + n,
            }
            for n in range(count)
        ]  # fmt: skip
        connection.execute(insert(t.items), items)
        ids = list(
            connection.scalars(
                select(t.items.c.id).where(t.items.c.session_id == session).order_by(t.items.c.key)
            )
        )
        tasks = []
        for n, item in enumerate(ids):
            for stage in ("motion", "ctf"):
                state = "failed" if stage == "ctf" and ctf_of(n) is None else "done"
                tasks.append(
                    {
                        "session_id": session, "item_id": item, "stage": stage, "state": state,
                        "queued_at": 100.0 + n, "started_at": 101.0 + n, "done_at": 105.0 + n,
                        "reason": "no rings" if state == "failed" else "",
                    }
                )  # fmt: skip
        connection.execute(insert(t.tasks), tasks)
        rows = connection.execute(
            select(t.tasks.c.id, t.tasks.c.item_id, t.tasks.c.stage).where(t.tasks.c.session_id == session)
        ).all()
        place = {item: n for n, item in enumerate(ids)}
        metrics = []
        for task, item, stage in rows:
            value = float(place[item] % 13) if stage == "motion" else ctf_of(place[item])
            if value is not None:
                name_ = "motion_angstrom" if stage == "motion" else "resolution_angstrom"
                metrics.append(
                    {
                        "task_id": task, "session_id": session, "item_id": item, "stage": stage,
                        "name": name_, "value": value,
                    }
                )  # fmt: skip
        connection.execute(insert(t.metrics), metrics)
    return session


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An empty database of each kind."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'tomofly.db'}"
    opened = Database(url if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    with opened.begin() as connection:
        connection.execute(delete(t.sessions))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def session(database: Database) -> int:
    return fill(database, 53)


def keys(database: Database, session: int, wanted: ItemFilter = ALL, order: Order | None = None) -> list[int]:
    with database.read() as connection:
        items = browse.browse_items(connection, session, wanted, order, limit=1000)
        assert browse.count_items(connection, session, wanted) == len(items)
    return [int(item.key.removeprefix("a/m")) for item in items]


@hypothesis_settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    low=st.one_of(st.none(), st.integers(0, 24).map(lambda n: n / 2)),
    high=st.one_of(st.none(), st.integers(0, 24).map(lambda n: n / 2)),
    low_open=st.booleans(),
    high_open=st.booleans(),
)
def test_a_range_takes_exactly_the_items_in_it(
    database: Database, session: int, low: float | None, high: float | None, low_open: bool, high_open: bool
) -> None:
    limits = MetricRange("ctf", "resolution_angstrom", low, high, low_open, high_open)

    def inside(value: float | None) -> bool:
        if value is None:
            return False
        above = low is None or (value > low if low_open else value >= low)
        below = high is None or (value < high if high_open else value <= high)
        return above and below

    wanted = ItemFilter("movie", ("ctf",), ranges=(limits,))
    assert keys(database, session, wanted) == [n for n in range(53) if inside(ctf_of(n))]


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_by_a_metric_puts_items_without_it_last(
    database: Database, session: int, descending: bool
) -> None:
    order = Order(("ctf", "resolution_angstrom"), descending)
    values = [ctf_of(n) for n in keys(database, session, order=order)]
    measured = [value for value in values if value is not None]
    assert measured == sorted(measured, reverse=descending)
    assert values[len(measured) :] == [None] * (len(values) - len(measured))
    assert len(values) == 53


@pytest.mark.parametrize(
    "by", ["arrival", "key", ("ctf", "resolution_angstrom"), ("motion", "motion_angstrom")]
)
def test_pages_laid_end_to_end_are_the_whole_table(
    database: Database, session: int, by: str | tuple[str, str]
) -> None:
    order = Order(by)  # type: ignore[arg-type]
    whole = keys(database, session, order=order)
    paged: list[int] = []
    with database.read() as connection:
        for offset in range(0, 60, 7):
            page = browse.browse_items(connection, session, ALL, order, limit=7, offset=offset)
            paged += [int(item.key.removeprefix("a/m")) for item in page]
    assert paged == whole
    assert sorted(paged) == list(range(53))


def test_the_states_part_the_table_and_agree_with_each_line(database: Database, session: int) -> None:
    seen: list[int] = []
    for state in browse.ITEM_STATES:
        wanted = ItemFilter("movie", ("ctf",), states=(state,))
        with database.read() as connection:
            items = browse.browse_items(connection, session, wanted, limit=100)
        assert {item.state(("ctf",)) for item in items} <= {state}
        seen += [item.id for item in items]
    assert len(seen) == len(set(seen)) == 53


def test_an_item_of_which_everything_was_skipped_has_failed(database: Database) -> None:
    session = fill(database, 2, "skipped")
    with database.begin() as connection:
        first = connection.scalar(select(t.items.c.id).where(t.items.c.session_id == session).limit(1))
        connection.execute(update(t.tasks).where(t.tasks.c.item_id == first).values(state="skipped"))
    found = {}
    for state in browse.ITEM_STATES:
        wanted = ItemFilter("movie", ("ctf",), states=(state,))
        with database.read() as connection:
            found[state] = [i.id for i in browse.browse_items(connection, session, wanted)]
            assert all(i.state(("ctf",)) == state for i in browse.items_by_id(connection, found[state]))
    assert found["failed"] == [first] and len(found["done"]) == 1


def test_an_excluded_item_is_named_with_its_reason_and_can_come_back(
    database: Database, session: int
) -> None:
    with database.begin() as connection:
        found = requests.find_items(connection, session, ["a/m000002", "a/m000005", "a/none"])
        assert sorted(found) == ["a/m000002", "a/m000005"]
        ids = [item for items in found.values() for item in items]
        requests.set_excluded(connection, ids, "crystalline ice")
    excluded = ItemFilter("movie", ("ctf",), excluded=True)
    assert keys(database, session, excluded) == [2, 5]
    assert len(keys(database, session, ItemFilter("movie", ("ctf",), excluded=False))) == 51
    with database.begin() as connection:
        requests.set_excluded(connection, ids, "")
    assert keys(database, session, excluded) == []


def test_text_with_wildcards_is_taken_literally(database: Database, session: int) -> None:
    assert keys(database, session, ItemFilter("movie", ("ctf",), text="m00000")) == list(range(10))
    assert keys(database, session, ItemFilter("movie", ("ctf",), text="%")) == []
    assert keys(database, session, ItemFilter("movie", ("ctf",), text="_")) == []


def test_numbers_of_the_session_are_those_of_its_rows(database: Database, session: int) -> None:
    with database.read() as connection:
        counts = statistics.count_tasks(connection, session)
        spread = {s.name: s for s in statistics.summarise_metrics(connection, session)}
        failures = statistics.list_failures(connection, session, limit=3)
        latencies = statistics.latencies(connection, session, ("motion", "ctf"))
        assert statistics.count_done(connection, session, ("motion", "ctf")) == 40
        count, first = statistics.done_since(connection, session, "motion", 105.0 + 50)
    assert counts == {("motion", "done"): 53, ("ctf", "done"): 40, ("ctf", "failed"): 13}
    values = sorted(v for n in range(53) if (v := ctf_of(n)) is not None)
    assert spread["resolution_angstrom"].median == (values[19] + values[20]) / 2
    assert (spread["resolution_angstrom"].minimum, spread["resolution_angstrom"].maximum) == (
        values[0], values[-1],
    )  # fmt: skip
    assert [f["key"] for f in failures] == ["a/m000051", "a/m000047", "a/m000043"]
    assert latencies == [6.0] * 40
    assert (count, first) == (3, 150.0)


def test_retrying_takes_back_failures_and_wakes_their_items(database: Database) -> None:
    session = fill(database, 9, "retried")
    with database.begin() as connection:
        connection.execute(t.items.update().values(dirty=False))
        assert requests.retry_failed(connection, session) == 2
        assert requests.retry_failed(connection, session) == 0
        woken = connection.scalars(
            select(t.items.c.key).where(t.items.c.session_id == session, t.items.c.dirty.is_(True))
        )
        assert sorted(woken) == ["a/m000003", "a/m000007"]


@pytest.mark.slow
def test_a_hundred_thousand_items_are_paged_and_counted_quickly(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'large.db'}")
    session = fill(database, 100_000)
    order = Order(("ctf", "resolution_angstrom"))
    wanted = ItemFilter("movie", ("ctf",), ranges=(MetricRange("motion", "motion_angstrom", high=6),))
    with database.read() as connection:
        begin = time.perf_counter()
        assert len(browse.browse_items(connection, session, wanted, order, limit=50)) == 50
        page_s = time.perf_counter() - begin
        begin = time.perf_counter()
        assert statistics.count_tasks(connection, session)["motion", "done"] == 100_000
        statistics.latencies(connection, session, ("motion", "ctf"))
        counts_s = time.perf_counter() - begin
    database.close()
    # Ten times what a quiet machine takes: this looks for queries that read the whole table for each line.
    assert page_s < 3.0
    assert counts_s < 3.0
