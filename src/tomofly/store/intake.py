"""Items and their memberships as they come in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, select, update
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
    """Add the items that are not there yet, note changed content and attributes, and say what happened.

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
        if (i.kind, i.key) in known and known[i.kind, i.key][1:] != (i.content, dict(i.attributes))
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
) -> dict[tuple[str, str], tuple[int, str, dict[str, Any]]]:
    found: dict[tuple[str, str], tuple[int, str, dict[str, Any]]] = {}
    # Kind by kind, as the index has it.
    for kind in sorted({item.kind for item in offered}):
        keys = list({item.key for item in offered if item.kind == kind})
        for start in range(0, len(keys), 500):
            i = t.items.c
            query = select(i.key, i.id, i.content, i.attributes).where(
                t.items.c.session_id == session_id,
                t.items.c.kind == kind,
                t.items.c.key.in_(keys[start : start + 500]),
            )
            found.update({(kind, row[0]): (row[1], row[2], row[3]) for row in connection.execute(query)})
    return found


def ids_of_kind(connection: Connection, session_id: int, kind: str) -> list[int]:
    """Give the identities of the items of a kind."""
    query = select(t.items.c.id).where(t.items.c.session_id == session_id, t.items.c.kind == kind)
    return list(connection.scalars(query))


def keep_members(connection: Connection, kept: Mapping[int, Iterable[tuple[int, str]]]) -> set[int]:
    """Take items out of all groups but the (parent, stage) ones given for each; give those they left."""
    m = t.members.c
    query = select(m.parent_id, m.child_id, m.stage).where(m.child_id.in_(list(kept)))
    left = [row for row in connection.execute(query) if (row[0], row[2]) not in set(kept[row[1]])]
    for parent, child, _ in left:
        connection.execute(delete(t.members).where(m.parent_id == parent, m.child_id == child))
    touch_items(connection, {parent for parent, _, _ in left})
    return {parent for parent, _, _ in left}


def drop_empty(connection: Connection, parent_ids: Iterable[int], kinds: Sequence[str]) -> list[str]:
    """Forget groups of some kinds that nothing belongs to any more, and groups that this leaves empty.

    Gives the relative paths of their products.
    """
    m = t.members.c
    paths: list[str] = []
    waiting = set(parent_ids)
    while waiting:
        parent = waiting.pop()
        of_kind = select(t.items.c.id).where(t.items.c.id == parent, t.items.c.kind.in_(kinds))
        occupied = select(m.child_id).where(m.parent_id == parent).limit(1)
        if connection.scalar(of_kind) is None or connection.scalar(occupied) is not None:
            continue
        mine = select(t.tasks.c.id).where(t.tasks.c.item_id == parent)
        paths += connection.scalars(select(t.products.c.path).where(t.products.c.task_id.in_(mine)))
        above = set(connection.scalars(select(m.parent_id).where(m.child_id == parent)))
        connection.execute(delete(t.items).where(t.items.c.id == parent))
        touch_items(connection, above)
        waiting |= above
    return paths


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
    # What a person has left out stays out also where it belongs only now.
    left_out = select(t.items.c.id).where(
        t.items.c.id.in_([child for _, child, _ in wanted]), t.items.c.excluded != ""
    )
    connection.execute(update(t.members).where(t.members.c.child_id.in_(left_out)).values(excluded=True))
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


def items_in_lots(
    connection: Connection, session_id: int, size: int, kind: str | None = None
) -> Iterator[list[RowMapping]]:
    """Give the items of a session, or of one kind, in the order of their coming, so many at a time."""
    mine = [t.items.c.session_id == session_id, *([t.items.c.kind == kind] if kind else [])]
    last = -1
    while True:
        query = select(t.items).where(*mine, t.items.c.id > last).order_by(t.items.c.id).limit(size)
        rows = list(connection.execute(query).mappings())
        if not rows:
            return
        last = rows[-1]["id"]
        yield rows


def find_ids(connection: Connection, session_id: int, items: Sequence[NewItem]) -> dict[tuple[str, str], int]:
    """Give the identities of items by (kind, key)."""
    return {name: row[0] for name, row in _find(connection, session_id, items).items()}


def known_sources(connection: Connection, session_id: int) -> Iterator[tuple[str, str]]:
    """Give (source, content) of every item that came from a file."""
    query = select(t.items.c.source, t.items.c.content).where(
        t.items.c.session_id == session_id, t.items.c.source != ""
    )
    for row in connection.execution_options(yield_per=5000).execute(query):
        yield row[0], row[1]
