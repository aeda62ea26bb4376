"""Items and their memberships as they come in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tomofly.store import tables as t


@dataclass(frozen=True)
class NewItem:
    """An item to be registered, or one whose content has changed."""

    kind: str
    key: str
    source: str = ""
    content: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    acquired_at: float | None = None
    live: bool = True


@dataclass(frozen=True)
class Registered:
    """What became of an item offered for registration."""

    id: int
    new: bool
    changed: bool


def register_items(
    connection: Connection, session_id: int, offered: Sequence[NewItem], now: float
) -> list[Registered]:
    """Add the items that are not there yet, note changed content, and say for each what happened.

    An item is known by its kind and key; the same item offered twice, or by two at once, is registered once.
    """
    known = _find(connection, session_id, offered)
    fresh = {(i.kind, i.key): i for i in offered if (i.kind, i.key) not in known}
    if fresh:
        rows = [_row(session_id, item, now) for item in fresh.values()]
        _insert_new(connection, t.items, rows)
    changed = {
        (i.kind, i.key): i
        for i in offered
        if (i.kind, i.key) in known and known[i.kind, i.key][1] != i.content
    }
    for item in changed.values():
        values = {**_row(session_id, item, now), "dirty": True}
        query = update(t.items).where(t.items.c.id == known[item.kind, item.key][0])
        connection.execute(query.values(values))
    ids = _find(connection, session_id, offered)
    return [
        Registered(ids[i.kind, i.key][0], (i.kind, i.key) in fresh, (i.kind, i.key) in changed)
        for i in offered
    ]


def _row(session_id: int, item: NewItem, now: float) -> dict[str, Any]:
    return {
        "session_id": session_id, "kind": item.kind, "key": item.key, "source": item.source,
        "content": item.content, "attributes": dict(item.attributes), "acquired_at": item.acquired_at,
        "detected_at": now, "live": item.live,
    }  # fmt: skip


def _find(
    connection: Connection, session_id: int, offered: Sequence[NewItem]
) -> dict[tuple[str, str], tuple[int, str]]:
    found: dict[tuple[str, str], tuple[int, str]] = {}
    # Kind by kind, as the index has it.
    for kind in sorted({item.kind for item in offered}):
        keys = list({item.key for item in offered if item.kind == kind})
        for start in range(0, len(keys), 500):
            query = select(t.items.c.key, t.items.c.id, t.items.c.content).where(
                t.items.c.session_id == session_id,
                t.items.c.kind == kind,
                t.items.c.key.in_(keys[start : start + 500]),
            )
            found.update({(kind, key): (number, text) for key, number, text in connection.execute(query)})
    return found


def add_members(connection: Connection, rows: Iterable[tuple[int, int, str]]) -> None:
    """Add (parent, child, stage) memberships that are not there yet, and wake the parents."""
    wanted = list(dict.fromkeys(rows))
    if not wanted:
        return
    _insert_new(
        connection,
        t.members,
        [
            {"parent_id": parent, "child_id": child, "stage": stage, "state": "waiting", "excluded": False}
            for parent, child, stage in wanted
        ],
    )
    touch_items(connection, {parent for parent, _, _ in wanted})


def _insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows that are not there yet, also while another process inserts the same."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(table).on_conflict_do_nothing(), rows)


def touch_items(connection: Connection, ids: Iterable[int]) -> None:
    """Have the planner look at these items again."""
    rows = [{"b_id": item_id} for item_id in sorted(set(ids))]
    if rows:
        query = update(t.items).where(t.items.c.id == bindparam("b_id")).values(dirty=True)
        connection.execute(query, rows)


def touch_all_items(connection: Connection, session_id: int) -> None:
    """Have the planner look at every item of the session again."""
    connection.execute(update(t.items).where(t.items.c.session_id == session_id).values(dirty=True))


def known_sources(connection: Connection, session_id: int) -> Iterator[tuple[str, str]]:
    """Give (source, content) of every item that came from a file."""
    query = select(t.items.c.source, t.items.c.content).where(
        t.items.c.session_id == session_id, t.items.c.source != ""
    )
    for row in connection.execution_options(yield_per=5000).execute(query):
        yield row[0], row[1]
