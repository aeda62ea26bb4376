"""What a person does with single items: leave out, take in again, try again, process now, look at."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, select, update

from tomofly.store import tables as t
from tomofly.store.intake import touch_items

CHUNK = 500


def find_items(connection: Connection, session_id: int, keys: Sequence[str]) -> dict[str, list[int]]:
    """Give the identities of items by key; a key that is not there is left out."""
    found: dict[str, list[int]] = {}
    for start in range(0, len(keys), CHUNK):
        query = select(t.items.c.key, t.items.c.id).where(
            t.items.c.session_id == session_id, t.items.c.key.in_(list(keys[start : start + CHUNK]))
        )
        for key, item_id in connection.execute(query):
            found.setdefault(key, []).append(item_id)
    return found


def set_excluded(connection: Connection, item_ids: Sequence[int], reason: str) -> None:
    """Leave items out for a reason, or take them in again with an empty one; groups and folds are told."""
    for start in range(0, len(item_ids), CHUNK):
        part = list(item_ids[start : start + CHUNK])
        connection.execute(update(t.items).where(t.items.c.id.in_(part)).values(excluded=reason))
        mine = t.members.c.child_id.in_(part)
        connection.execute(update(t.members).where(mine).values(excluded=bool(reason)))
        parents = select(t.members.c.parent_id).where(t.members.c.child_id.in_(part))
        touch_items(connection, connection.scalars(parents))


def request_now(connection: Connection, item_ids: Sequence[int], now: float) -> None:
    """Ask that groups be made of the members that are there."""
    for start in range(0, len(item_ids), CHUNK):
        part = list(item_ids[start : start + CHUNK])
        connection.execute(update(t.items).where(t.items.c.id.in_(part)).values(requested_at=now))
        touch_items(connection, part)


Decisions = Mapping[str, Mapping[str, str]]
"""What people have decided of the views of an item: {"": {"verdict": "left_out", "reason": "drift"}}.

By the view's number as text, "" where the item is but one; the verdict is ``left_out`` or ``kept``.
"""


def decide(connection: Connection, decisions: Mapping[int, Decisions], now: float) -> None:
    """Write down what people have decided of the views of items; groups that were made are made again."""
    for item_id, decided in decisions.items():
        plain = {view: dict(verdict) for view, verdict in decided.items()}
        connection.execute(update(t.items).where(t.items.c.id == item_id).values(decisions=plain))
    ids = list(decisions)
    for start in range(0, len(ids), CHUNK):
        mine = t.members.c.child_id.in_(ids[start : start + CHUNK])
        parents = set(connection.scalars(select(t.members.c.parent_id).where(mine)))
        touch_items(connection, parents)
        request_now(connection, _made(connection, parents), now)


def _made(connection: Connection, parents: Iterable[int]) -> list[int]:
    """Give those groups that have been made of all their members, or are being made."""
    made = select(t.tasks.c.item_id).where(
        t.tasks.c.item_id.in_(list(parents)),
        t.tasks.c.mode == "",
        t.tasks.c.wanted.is_not(None),
        t.tasks.c.stage.in_(select(t.members.c.stage).where(t.members.c.parent_id == t.tasks.c.item_id)),
    )
    return sorted(set(connection.scalars(made)))


def retry_failed(connection: Connection, session_id: int, item_ids: Sequence[int] | None = None) -> int:
    """Have failed tasks tried again from the beginning, all or those of some items; give how many."""
    failed = select(t.tasks.c.id, t.tasks.c.item_id).where(
        t.tasks.c.session_id == session_id, t.tasks.c.state == "failed"
    )
    rows = connection.execute(failed).all()
    if item_ids is not None:
        wanted = set(item_ids)
        rows = [row for row in rows if row[1] in wanted]
    tasks = [row[0] for row in rows]
    for start in range(0, len(tasks), CHUNK):
        connection.execute(
            update(t.tasks)
            .where(t.tasks.c.id.in_(tasks[start : start + CHUNK]))
            .values(state="waiting", wanted=None, attempts=0, losses=0, permanent=False, reason="")
        )
    touch_items(connection, (row[1] for row in rows))
    return len(tasks)


def note_shown(connection: Connection, item_ids: Sequence[int], now: float) -> None:
    """Note when items were first shown to a person."""
    if item_ids:
        fresh = t.items.c.id.in_(list(item_ids)), t.items.c.shown_at.is_(None)
        connection.execute(update(t.items).where(*fresh).values(shown_at=now))
