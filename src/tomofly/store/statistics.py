"""Counts, rates and distributions of a session, computed by the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, func, select

from tomofly.store import tables as t
from tomofly.store.browse import gathered_by, is_of_all_members, whole_at


def count_tasks(connection: Connection, session_id: int) -> dict[tuple[str, str], int]:
    """Count the tasks of a session by (stage, state)."""
    query = (
        select(t.tasks.c.stage, t.tasks.c.state, func.count())
        .where(t.tasks.c.session_id == session_id)
        .group_by(t.tasks.c.stage, t.tasks.c.state)
    )
    return {(stage, state): count for stage, state, count in connection.execute(query)}


def count_kinds(connection: Connection, session_id: int) -> dict[str, int]:
    """Count the items of a session by kind."""
    query = select(t.items.c.kind, func.count()).where(t.items.c.session_id == session_id)
    rows = connection.execute(query.group_by(t.items.c.kind)).all()
    return {row[0]: row[1] for row in rows}


def count_failed_items(connection: Connection, session_id: int) -> dict[str, int]:
    """Count the items of which at least one task has failed, by kind."""
    query = (
        select(t.items.c.kind, func.count(t.items.c.id.distinct()))
        .join(t.tasks, t.tasks.c.item_id == t.items.c.id)
        .where(t.tasks.c.session_id == session_id, t.tasks.c.state == "failed")
        .group_by(t.items.c.kind)
    )
    rows = connection.execute(query).all()
    return {row[0]: row[1] for row in rows}


def count_done(
    connection: Connection, session_id: int, stages: Sequence[str], *, of_groups: bool = False
) -> int:
    """Count the items on which all of these stages are done.

    ``of_groups``: the items are groups, of which those that have but a provisional result do not count.
    """
    k = t.tasks.c
    query = select(func.count()).where(k.session_id == session_id, k.state == "done", k.stage == stages[0])
    for stage in stages[1:]:
        other = t.tasks.alias()
        query = query.where(
            select(other.c.id)
            .where(other.c.item_id == k.item_id, other.c.stage == stage, other.c.state == "done")
            .exists()
        )
    if of_groups:
        query = query.where(is_of_all_members(k.item_id, k.done_at))
    return int(connection.scalar(query) or 0)


def done_since(connection: Connection, session_id: int, stage: str, since: float) -> tuple[int, float | None]:
    """Count what a stage has finished since a time, and say when the first of those items was found."""
    k = t.tasks.c
    query = (
        select(func.count(), func.min(t.items.c.detected_at))
        .join(t.items, t.items.c.id == k.item_id)
        .where(k.session_id == session_id, k.stage == stage, k.state == "done", k.done_at >= since)
    )
    count, first = connection.execute(query).one()
    return int(count), first


def sum_since(connection: Connection, session_id: int, stage: str, metric: str, since: float) -> float:
    """Add up a metric over what a stage has finished since a time."""
    k, m = t.tasks.c, t.metrics.c
    query = (
        select(func.sum(m.value))
        .join(t.tasks, k.id == m.task_id)
        .where(k.session_id == session_id, k.stage == stage, k.state == "done", k.done_at >= since)
        .where(m.name == metric)
    )
    return float(connection.scalar(query) or 0.0)


def last_done(connection: Connection, session_id: int, stage: str, limit: int) -> list[int]:
    """Give the items that a stage finished last, the latest first."""
    k = t.tasks.c
    query = (
        select(k.item_id)
        .where(k.session_id == session_id, k.stage == stage, k.state == "done")
        .order_by(k.done_at.desc())
        .limit(limit)
    )
    return list(connection.scalars(query))


def latencies(
    connection: Connection,
    session_id: int,
    stages: Sequence[str],
    limit: int = 500,
    *,
    of_groups: bool = False,
) -> list[float]:
    """Give how long the items that these stages finished last took, from when they were whole, s.

    Items that lay there before the session was started count from when it found them, groups from their
    last member.
    """
    k, i = t.tasks.c, t.items.c
    ids = last_done(connection, session_id, stages[-1], limit)
    if of_groups:
        return _latencies_of_groups(connection, ids, stages)
    query = (
        select(func.max(k.done_at) - func.min(whole_at()))
        .join(t.items, i.id == k.item_id)
        .where(k.item_id.in_(ids), k.stage.in_(list(stages)), k.state == "done")
        .group_by(k.item_id)
        .having(func.count() == len(stages))
    )
    return [max(0.0, float(value)) for value in connection.scalars(query) if value is not None]


def _latencies_of_groups(connection: Connection, ids: Sequence[int], stages: Sequence[str]) -> list[float]:
    k = t.tasks.c
    query = (
        select(k.item_id, func.max(k.done_at))
        .where(k.item_id.in_(ids), k.stage.in_(list(stages)), k.state == "done")
        .where(is_of_all_members(k.item_id, k.done_at))
        .group_by(k.item_id)
        .having(func.count() == len(stages))
    )
    ended = {row[0]: row[1] for row in connection.execute(query)}
    begun = {item: gathered.whole_at for item, gathered in gathered_by(connection, list(ended)).items()}
    return [max(0.0, end - begin) for item, end in ended.items() if (begin := begun.get(item)) is not None]


def time_span(connection: Connection, session_id: int) -> tuple[float, float] | None:
    """Give when the first task was queued and when the last one ended."""
    query = select(func.min(t.tasks.c.queued_at), func.max(t.tasks.c.done_at)).where(
        t.tasks.c.session_id == session_id
    )
    first, last = connection.execute(query).one()
    return None if first is None or last is None else (first, last)


@dataclass(frozen=True)
class MetricSummary:
    """How one metric is spread over a session."""

    stage: str
    name: str
    count: int
    minimum: float
    median: float
    maximum: float


def summarise_metrics(connection: Connection, session_id: int) -> list[MetricSummary]:
    """Give the spread of every metric of a session."""
    m = t.metrics.c
    query = (
        select(m.stage, m.name, func.count(), func.min(m.value), func.max(m.value))
        .where(m.session_id == session_id)
        .group_by(m.stage, m.name)
        .order_by(m.stage, m.name)
    )
    return [
        MetricSummary(stage, name, count, low, _median(connection, session_id, stage, name, count), high)
        for stage, name, count, low, high in connection.execute(query).all()
    ]


def _median(connection: Connection, session_id: int, stage: str, name: str, count: int) -> float:
    """Walk the index of values to its middle."""
    m = t.metrics.c
    query = (
        select(m.value)
        .where(m.session_id == session_id, m.stage == stage, m.name == name)
        .order_by(m.value)
        .offset((count - 1) // 2)
        .limit(2 - count % 2)
    )
    middle = [float(value) for value in connection.scalars(query)]
    return sum(middle) / len(middle)


def list_failures(
    connection: Connection, session_id: int, *, limit: int = 100, offset: int = 0, newest_first: bool = True
) -> list[RowMapping]:
    """Give failed tasks with the keys of their items."""
    columns = ("id", "item_id", "stage", "reason", "attempts", "permanent", "done_at", "worker")
    query = (
        select(*(t.tasks.c[name] for name in columns), t.items.c.key, t.items.c.kind, t.items.c.source)
        .join(t.items, t.items.c.id == t.tasks.c.item_id)
        .where(t.tasks.c.session_id == session_id, t.tasks.c.state == "failed")
        .order_by(t.tasks.c.done_at.desc() if newest_first else t.tasks.c.id)
    )
    return list(connection.execute(query.limit(limit).offset(offset)).mappings())


def count_flags(connection: Connection, session_id: int) -> dict[tuple[str, str], int]:
    """Count the flags of a session by (stage, code)."""
    query = select(t.flags.c.stage, t.flags.c.code, func.count()).where(t.flags.c.session_id == session_id)
    return {
        (stage, code): count
        for stage, code, count in connection.execute(query.group_by(t.flags.c.stage, t.flags.c.code))
    }
