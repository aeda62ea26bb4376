"""What the planner reads, and its decisions written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, func, insert, or_, select, update

from tomofly.store import tables as t
from tomofly.store.members import OUTDATED, forget_checkpoints
from tomofly.store.results import forget_outcomes


def dirty_items(connection: Connection, session_id: int, now: float, limit: int) -> list[RowMapping]:
    """Give items that the planner must look at: something changed, or their time has come."""
    query = select(t.items).where(t.items.c.session_id == session_id)
    touched = query.where(t.items.c.dirty.is_(True)).order_by(t.items.c.id).limit(limit)
    rows = list(connection.execute(touched).mappings())
    if len(rows) < limit:
        woken = query.where(t.items.c.dirty.is_(False), t.items.c.wake_at <= now).limit(limit - len(rows))
        rows.extend(connection.execute(woken).mappings())
    return rows


def touch_kinds(connection: Connection, session_id: int, kinds: Sequence[str]) -> None:
    """Have the planner look at all items of some kinds again."""
    query = update(t.items).where(t.items.c.session_id == session_id, t.items.c.kind.in_(kinds))
    connection.execute(query.values(dirty=True))


def items_by_id(connection: Connection, ids: Sequence[int]) -> dict[int, RowMapping]:
    """Give item rows by id."""
    found: dict[int, RowMapping] = {}
    for start in range(0, len(ids), 500):
        query = select(t.items).where(t.items.c.id.in_(list(ids[start : start + 500])))
        found.update({row["id"]: row for row in connection.execute(query).mappings()})
    return found


def unsettled(connection: Connection, session_id: int, *, closed: bool) -> bool:
    """Say whether anything is still to be planned or run.

    While the stream is open, a group that waits for more members is at rest; a task that waits to be
    tried again is not.
    """
    dirty = select(t.items.c.id).where(t.items.c.session_id == session_id, t.items.c.dirty.is_(True))
    timed = select(t.items.c.id).where(t.items.c.session_id == session_id, t.items.c.wake_at > 0)
    if not closed:
        timed = timed.join(t.tasks, t.tasks.c.item_id == t.items.c.id).where(t.tasks.c.state == "failed")
    moving = select(t.tasks.c.id).where(
        t.tasks.c.session_id == session_id, t.tasks.c.state.in_(["queued", "running"])
    )
    return any(connection.scalar(query.limit(1)) is not None for query in (dirty, moving, timed))


def next_wake(connection: Connection, session_id: int) -> float | None:
    """Give the earliest time at which an item wants to be looked at again."""
    query = select(func.min(t.items.c.wake_at)).where(t.items.c.session_id == session_id)
    value = connection.scalar(query)
    return None if value is None else float(value)


def said_by_folds(connection: Connection, session_id: int, folds: Sequence[str]) -> dict[str, str]:
    """Give what each of these folds last said, by its name; a fold's item is called after it."""
    if not folds:
        return {}
    i = t.items.c
    query = (
        select(t.tasks.c.stage, i.content)
        .join(t.items, i.id == t.tasks.c.item_id)
        .where(t.tasks.c.session_id == session_id, t.tasks.c.stage.in_(list(folds)))
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def fold_says(connection: Connection, item_id: int, words: str) -> bool:
    """Note what a fold says; tell whether that is new."""
    mine = t.items.c.id == item_id
    changed = update(t.items).where(mine, t.items.c.content != words).values(content=words)
    return bool(connection.execute(changed).rowcount)


def tasks_of(connection: Connection, item_ids: Sequence[int]) -> list[RowMapping]:
    """Give all tasks of these items."""
    if not item_ids:
        return []
    return list(connection.execute(select(t.tasks).where(t.tasks.c.item_id.in_(item_ids))).mappings())


def members_of(connection: Connection, parent_id: int) -> list[RowMapping]:
    """Give the members of a group with the state of the task that the group waits for."""
    query = (
        select(
            t.members.c.child_id,
            t.members.c.state,
            t.members.c.identity,
            t.items.c.key,
            t.items.c.attributes,
            t.items.c.decisions,
            t.items.c.detected_at,
            t.items.c.excluded,
        )
        .join(t.items, t.items.c.id == t.members.c.child_id)
        .where(t.members.c.parent_id == parent_id)
        .order_by(t.items.c.key)
    )
    return list(connection.execute(query).mappings())


@dataclass(frozen=True)
class FoldCounts:
    """How many elements of a fold are new (counted up to a limit), and whether any changed or is open.

    Elements left out by hand do not count, but one that the checkpoint holds is a change.
    ``redoing``: elements that the checkpoint holds are being made again.
    """

    fresh: int
    changed: bool
    redoing: bool
    unsettled: bool
    any_done: bool


def fold_counts(connection: Connection, parent_id: int, limit: int) -> FoldCounts:
    """Count the elements of a fold without reading them all."""
    m = t.members.c
    mine = and_(m.parent_id == parent_id, m.excluded.is_(False))
    left_out = and_(m.parent_id == parent_id, m.excluded.is_(True))
    new = select(m.child_id).where(mine, m.state == "done", m.consumed.is_(None)).limit(limit).subquery()
    settled = m.state.in_(["done", "failed", "skipped"])
    moving = m.state.in_(["waiting", "queued", "running"])
    return FoldCounts(
        fresh=connection.scalar(select(func.count()).select_from(new)) or 0,
        changed=_any(connection, mine, settled, m.consumed == OUTDATED)
        or _any(connection, left_out, m.consumed.is_not(None)),
        redoing=_any(connection, mine, moving, m.consumed >= ""),
        unsettled=_any(connection, mine, moving),
        any_done=_any(connection, mine, m.state == "done"),
    )


def _any(connection: Connection, *conditions: Any) -> bool:
    return connection.scalar(select(t.members.c.child_id).where(*conditions).limit(1)) is not None


def fold_elements(connection: Connection, parent_id: int, *, only_new: bool) -> list[tuple[int, str, str]]:
    """Give (item id, key, identity) of the elements that have a result, in the order of their keys.

    What was left out by hand is not among them.
    """
    query = (
        select(t.members.c.child_id, t.items.c.key, t.members.c.identity)
        .join(t.items, t.items.c.id == t.members.c.child_id)
        .where(
            t.members.c.parent_id == parent_id,
            t.members.c.excluded.is_(False),
            t.members.c.state == "done",
        )
        .order_by(t.items.c.key)
    )
    if only_new:
        query = query.where(t.members.c.consumed.is_(None))
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


@dataclass(frozen=True)
class QueuedTask:
    """A task to be written down as queued."""

    item_id: int
    stage: str
    wanted: str
    attempt: int
    mode: str
    priority: int


def queue_tasks(connection: Connection, session_id: int, queued: Sequence[QueuedTask], now: float) -> None:
    """Write tasks as queued. Their earlier result stays on disk but no longer counts."""
    values = [
        {
            "session_id": session_id, "item_id": q.item_id, "stage": q.stage, "state": "queued",
            "wanted": q.wanted, "fingerprint": None, "identity": None, "mode": q.mode,
            "attempts": q.attempt - 1, "permanent": False, "reason": "", "priority": q.priority,
            "queued_at": now, "started_at": None, "done_at": None, "losses": 0,
        }
        for q in queued
    ]  # fmt: skip
    _write_tasks(connection, values)


def skip_tasks(
    connection: Connection, session_id: int, skipped: Sequence[tuple[int, str, str]], now: float
) -> list[tuple[str, str]]:
    """Write (item, stage, reason) tasks as skipped, and forget what they once left.

    Gives the (stage, relative path) of the products that are forgotten.
    """
    values = [
        {
            "session_id": session_id, "item_id": item, "stage": stage, "state": "skipped", "wanted": None,
            "fingerprint": None, "identity": None, "reason": reason, "done_at": now,
        }
        for item, stage, reason in skipped
    ]  # fmt: skip
    _write_tasks(connection, values)
    forgotten = []
    for stage in sorted({stage for _, stage, _ in skipped}):
        items = [item for item, name, _ in skipped if name == stage]
        query = select(t.tasks.c.id).where(t.tasks.c.item_id.in_(items), t.tasks.c.stage == stage)
        tasks = list(connection.scalars(query))
        forgotten += [(stage, path) for path in forget_outcomes(connection, tasks)]
        forget_checkpoints(connection, tasks)
    return forgotten


def unqueue_tasks(connection: Connection, waiting: Sequence[tuple[int, str]]) -> None:
    """Put (item, stage) tasks back to waiting, because what they need is being made again."""
    query = (
        update(t.tasks)
        .where(
            t.tasks.c.item_id == bindparam("b_item"),
            t.tasks.c.stage == bindparam("b_stage"),
            or_(*(t.tasks.c.state == state for state in ("queued", "skipped", "failed"))),
        )
        .values(state="waiting", wanted=None, reason="")
    )
    if waiting:
        connection.execute(query, [{"b_item": item, "b_stage": stage} for item, stage in waiting])


def _write_tasks(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert or overwrite tasks, known by item and stage."""
    if not rows:
        return
    query = select(t.tasks.c.item_id, t.tasks.c.stage).where(
        t.tasks.c.item_id.in_({row["item_id"] for row in rows})
    )
    known = {(row[0], row[1]) for row in connection.execute(query)}
    fresh = [row for row in rows if (row["item_id"], row["stage"]) not in known]
    if fresh:
        connection.execute(insert(t.tasks), fresh)
    old = [row for row in rows if (row["item_id"], row["stage"]) in known]
    if old:
        names = [name for name in old[0] if name not in ("item_id", "stage", "session_id")]
        change = (
            update(t.tasks)
            .where(t.tasks.c.item_id == bindparam("b_item"), t.tasks.c.stage == bindparam("b_stage"))
            .values({name: bindparam(f"v_{name}") for name in names})
        )
        connection.execute(
            change,
            [
                {"b_item": row["item_id"], "b_stage": row["stage"], **{f"v_{n}": row[n] for n in names}}
                for row in old
            ],
        )


def settle_items(connection: Connection, looked_at: Sequence[tuple[int, float | None, str]]) -> None:
    """Note that the planner has looked at (item, wake_at, waiting_for)."""
    query = (
        update(t.items)
        .where(t.items.c.id == bindparam("b_id"))
        .values(dirty=False, wake_at=bindparam("b_wake"), waiting_for=bindparam("b_reason"))
    )
    rows = [{"b_id": item, "b_wake": wake, "b_reason": reason} for item, wake, reason in looked_at]
    if rows:
        connection.execute(query, rows)


def drop_results(
    connection: Connection, session_id: int, stages: Sequence[str], fed: Sequence[str]
) -> list[str]:
    """Forget the results of some stages; give the relative paths of their products.

    ``fed`` names the groups and folds that gather results of these stages.
    """
    mine = and_(t.tasks.c.session_id == session_id, t.tasks.c.stage.in_(stages))
    query = select(t.products.c.path).join(t.tasks, t.tasks.c.id == t.products.c.task_id).where(mine)
    paths = list(connection.scalars(query))
    connection.execute(delete(t.tasks).where(mine))
    parents = select(t.items.c.id).where(t.items.c.session_id == session_id)
    gathered = update(t.members).where(t.members.c.parent_id.in_(parents))
    connection.execute(gathered.where(t.members.c.stage.in_(stages)).values(consumed=None))
    connection.execute(gathered.where(t.members.c.stage.in_(fed)).values(state="waiting", identity=None))
    return paths
