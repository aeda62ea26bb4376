"""Queries for people: pages of items with their numbers, filtered and sorted by the database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, func, or_, select

from tomofly.store import tables as t

ItemState = Literal["waiting", "queued", "running", "done", "failed"]
ITEM_STATES: tuple[ItemState, ...] = ("waiting", "queued", "running", "done", "failed")

NOT_SKIPPED = ("waiting", "queued", "running", "done", "failed")

CHUNK = 500
"""Identities per query: below the number of variables that SQLite takes."""

PROVISIONAL = "provisional"
"""The mode of a group's task that has a result of some of its members, while others are awaited."""


@dataclass(frozen=True)
class MetricRange:
    """Items whose metric lies between two bounds; an open bound does not belong to the range."""

    stage: str
    name: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False


@dataclass(frozen=True)
class ItemFilter:
    """Which items of a session: all conditions must hold, any one of ``states``.

    ``final_stages`` are those whose end makes an item done. ``excluded`` None takes both kinds.
    """

    kind: str
    final_stages: tuple[str, ...]
    ranges: tuple[MetricRange, ...] = ()
    states: tuple[ItemState, ...] = ()
    flags: tuple[str, ...] = ()
    without_flags: tuple[str, ...] = ()
    text: str = ""
    keys: tuple[str, ...] = ()
    excluded: bool | None = None


@dataclass(frozen=True)
class Order:
    """Sort by ``key``, by ``arrival``, or by a metric given as (stage, name); items without it come last."""

    by: Literal["arrival", "key"] | tuple[str, str] = "arrival"
    descending: bool = False


@dataclass(frozen=True)
class TaskCell:
    """One task as a table shows it."""

    state: str
    reason: str
    attempts: int
    queued_at: float | None
    started_at: float | None
    done_at: float | None
    fingerprint: str | None
    mode: str = ""


@dataclass(frozen=True)
class Gathered:
    """What belongs to a group. ``whole_at``: when the last member that is not left out was whole.

    ``stage`` brings the members together.
    """

    stage: str
    members: int
    failed: int
    excluded: int
    acquired_at: float | None
    whole_at: float | None


@dataclass(frozen=True)
class BrowsedItem:
    """One line of the table: an item with all that its stages said."""

    id: int
    key: str
    kind: str
    source: str
    attributes: Mapping[str, Any]
    acquired_at: float | None
    detected_at: float
    live: bool
    excluded: str
    waiting_for: str
    shown_at: float | None = None
    tasks: dict[str, TaskCell] = field(default_factory=dict)
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)
    flags: list[tuple[str, str, str]] = field(default_factory=list)
    products: dict[tuple[str, str], str] = field(default_factory=dict)
    gathered: Gathered | None = None

    @property
    def provisional(self) -> bool:
        """Whether what there is was made of some members of a group, while others are awaited."""
        return any(task.mode == PROVISIONAL for task in self.tasks.values())

    @property
    def whole_at(self) -> float | None:
        """When the item, or the last member of a group, was whole, or was found if it lay there before."""
        if self.gathered is not None:
            return self.gathered.whole_at
        return self.detected_at if self.acquired_at is None or not self.live else self.acquired_at

    def state(self, final_stages: Sequence[str]) -> ItemState:
        """Sum up the states of the tasks; ``final_stages`` are those whose end makes the item done.

        An item of which everything was skipped, as a group whose members have all failed, has failed.
        """
        states = {task.state for task in self.tasks.values()}
        if states == {"skipped"}:
            return "failed"
        for state in ("failed", "running", "queued"):
            if state in states:
                return state
        ended = all(s in self.tasks and self.tasks[s].state in ("done", "skipped") for s in final_stages)
        return "done" if ended and "waiting" not in states and not self.provisional else "waiting"

    def done_at(self, final_stages: Sequence[str]) -> float | None:
        """When the last of its final stages was done; None before that, and for what is provisional."""
        begun = self._brought_together_at()
        if begun is None:
            return None
        times = [self.tasks[stage].done_at for stage in final_stages if stage in self.tasks]
        known = [time for time in times if time is not None and time >= begun]
        return max(known) if len(known) == len(final_stages) else None

    def _brought_together_at(self) -> float | None:
        """When all members of a group were brought together; None while they are not."""
        if self.gathered is None:
            return 0.0
        task = self.tasks.get(self.gathered.stage)
        return None if task is None or task.state != "done" or task.mode == PROVISIONAL else task.done_at

    def latency_s(self, final_stages: Sequence[str]) -> float | None:
        """How long it took from when the item, or its last member, was whole to its last result."""
        begin, end = self.whole_at, self.done_at(final_stages)
        return None if begin is None or end is None else max(0.0, end - begin)


def count_items(connection: Connection, session_id: int, wanted: ItemFilter) -> int:
    """Count the items that pass a filter."""
    query = select(func.count()).select_from(t.items).where(*_conditions(session_id, wanted))
    return int(connection.scalar(query) or 0)


def browse_items(
    connection: Connection,
    session_id: int,
    wanted: ItemFilter,
    order: Order | None = None,
    *,
    limit: int = 100,
    offset: int = 0,
) -> list[BrowsedItem]:
    """Give one page of the items that pass a filter, with their tasks, metrics, flags and products."""
    ids = _page(connection, session_id, wanted, order or Order(), limit, offset)
    return items_by_id(connection, ids)


def each_item(connection: Connection, session_id: int, wanted: ItemFilter) -> Iterator[BrowsedItem]:
    """Give all items that pass a filter, in the order of their keys, holding only a page at a time."""
    last = ""
    while True:
        conditions = [*_conditions(session_id, wanted), t.items.c.key > last]
        query = select(t.items.c.id).where(*conditions).order_by(t.items.c.key).limit(CHUNK)
        page = items_by_id(connection, list(connection.scalars(query)))
        yield from page
        if len(page) < CHUNK:
            return
        last = page[-1].key


def items_by_id(connection: Connection, ids: Sequence[int]) -> list[BrowsedItem]:
    """Give items with everything said about them, in the order of ``ids``."""
    found: dict[int, BrowsedItem] = {}
    for start in range(0, len(ids), CHUNK):
        part = list(ids[start : start + CHUNK])
        rows = connection.execute(select(t.items).where(t.items.c.id.in_(part))).mappings()
        items = {row["id"]: _browsed(row) for row in rows}
        _add_tasks(connection, items)
        _add_metrics_and_flags(connection, items)
        gathered = gathered_by(connection, part)
        found.update({i: replace(item, gathered=gathered.get(i)) for i, item in items.items()})
    return [found[item_id] for item_id in ids if item_id in found]


def _browsed(row: RowMapping) -> BrowsedItem:
    return BrowsedItem(
        id=row["id"], key=row["key"], kind=row["kind"], source=row["source"], attributes=row["attributes"],
        acquired_at=row["acquired_at"], detected_at=row["detected_at"], live=row["live"],
        excluded=row["excluded"], waiting_for=row["waiting_for"], shown_at=row["shown_at"],
    )  # fmt: skip


def _add_tasks(connection: Connection, items: Mapping[int, BrowsedItem]) -> None:
    owner: dict[int, tuple[int, str]] = {}
    query = select(t.tasks).where(t.tasks.c.item_id.in_(list(items)))
    for row in connection.execute(query).mappings():
        owner[row["id"]] = (row["item_id"], row["stage"])
        items[row["item_id"]].tasks[row["stage"]] = TaskCell(
            row["state"], row["reason"], row["attempts"], row["queued_at"], row["started_at"],
            row["done_at"], row["fingerprint"], row["mode"],
        )  # fmt: skip
    tasks = list(owner)
    for start in range(0, len(tasks), CHUNK):
        p = t.products.c
        products = select(p.task_id, p.name, p.path).where(p.task_id.in_(tasks[start : start + CHUNK]))
        for task, name, path in connection.execute(products):
            item, stage = owner[task]
            items[item].products[stage, name] = path


def _add_metrics_and_flags(connection: Connection, items: Mapping[int, BrowsedItem]) -> None:
    ids = list(items)
    m, f = t.metrics.c, t.flags.c
    for item, stage, name, value in connection.execute(
        select(m.item_id, m.stage, m.name, m.value).where(m.item_id.in_(ids))
    ):
        items[item].metrics[stage, name] = value
    for item, stage, code, message in connection.execute(
        select(f.item_id, f.stage, f.code, f.message).where(f.item_id.in_(ids)).order_by(f.stage, f.code)
    ):
        items[item].flags.append((stage, code, message))


def gathered_by(connection: Connection, parent_ids: Sequence[int]) -> dict[int, Gathered]:
    """Sum up the members of groups, by the group; items that gather nothing are not there."""
    m, i = t.members.c, t.items.c
    counts = m.excluded.is_(False)
    query = (
        select(
            m.parent_id,
            func.max(m.stage),
            func.count(),
            func.sum(case((counts & m.state.in_(["failed", "skipped"]), 1), else_=0)),
            func.sum(case((counts, 0), else_=1)),
            func.max(case((counts, i.acquired_at))),
            func.max(case((counts, whole_at()))),
        )
        .join(t.items, i.id == m.child_id)
        .where(m.parent_id.in_(list(parent_ids)))
        .group_by(m.parent_id)
    )
    return {row[0]: Gathered(*row[1:]) for row in connection.execute(query)}


def member_sources(connection: Connection, parent_id: int) -> list[str]:
    """Give the files from which the members of a group were made."""
    query = select(t.items.c.source).join(t.members, t.members.c.child_id == t.items.c.id)
    return sorted(connection.scalars(query.where(t.members.c.parent_id == parent_id)))


def whole_at() -> ColumnElement[float]:
    """Say in SQL when an item was whole; for what lay there before its session, when it was found."""
    i = t.items.c
    return case((i.live.is_(True), func.coalesce(i.acquired_at, i.detected_at)), else_=i.detected_at)


def _page(
    connection: Connection, session_id: int, wanted: ItemFilter, order: Order, limit: int, offset: int
) -> list[int]:
    conditions = _conditions(session_id, wanted)
    if not isinstance(order.by, tuple):
        column = t.items.c.key if order.by == "key" else t.items.c.id
        query = select(t.items.c.id).where(*conditions)
        query = query.order_by(column.desc() if order.descending else column)
        return list(connection.scalars(query.limit(limit).offset(offset)))
    # The metric's index gives the order; the items without a value follow behind.
    stage, name = order.by
    mine = and_(t.metrics.c.session_id == session_id, t.metrics.c.stage == stage, t.metrics.c.name == name)
    measured = select(t.items.c.id).join(t.metrics, t.metrics.c.item_id == t.items.c.id)
    measured = measured.where(mine, *conditions)
    value = t.metrics.c.value.desc() if order.descending else t.metrics.c.value
    ids = list(connection.scalars(measured.order_by(value, t.items.c.id).limit(limit).offset(offset)))
    if len(ids) < limit:
        before = int(connection.scalar(select(func.count()).select_from(measured.subquery())) or 0)
        rest = select(t.items.c.id).where(*conditions)
        rest = rest.where(t.items.c.id.not_in(select(t.metrics.c.item_id).where(mine)))
        skip = max(0, offset - before)
        rest = rest.order_by(t.items.c.id).limit(limit - len(ids)).offset(skip)
        ids.extend(connection.scalars(rest))
    return ids


def _conditions(session_id: int, wanted: ItemFilter) -> list[ColumnElement[bool]]:
    i = t.items.c
    conditions: list[ColumnElement[bool]] = [i.session_id == session_id, i.kind == wanted.kind]
    conditions += [i.id.in_(_in_range(session_id, limits)) for limits in wanted.ranges]
    conditions += [i.id.in_(_flagged(session_id, code)) for code in wanted.flags]
    conditions += [i.id.not_in(_flagged(session_id, code)) for code in wanted.without_flags]
    if wanted.states:
        conditions.append(or_(*(_in_state(session_id, s, wanted.final_stages) for s in wanted.states)))
    if wanted.text:
        conditions.append(i.key.contains(wanted.text, autoescape=True))
    if wanted.keys:
        conditions.append(i.key.in_(wanted.keys))
    if wanted.excluded is not None:
        conditions.append(i.excluded != "" if wanted.excluded else i.excluded == "")
    return conditions


def _in_range(session_id: int, limits: MetricRange) -> Select[tuple[int]]:
    m = t.metrics.c
    query = select(m.item_id).where(
        m.session_id == session_id, m.stage == limits.stage, m.name == limits.name
    )
    if limits.low is not None:
        query = query.where(m.value > limits.low if limits.low_open else m.value >= limits.low)
    if limits.high is not None:
        query = query.where(m.value < limits.high if limits.high_open else m.value <= limits.high)
    return query


def _flagged(session_id: int, code: str) -> Select[tuple[int]]:
    return select(t.flags.c.item_id).where(t.flags.c.session_id == session_id, t.flags.c.code == code)


def _in_state(session_id: int, state: ItemState, final_stages: Sequence[str]) -> ColumnElement[bool]:
    """Say in SQL what ``BrowsedItem.state`` says of one item."""
    ends = _tasks_in(session_id, "done", "skipped")
    ended = and_(
        *(t.items.c.id.in_(ends.where(t.tasks.c.stage == stage)) for stage in final_stages),
        t.items.c.id.not_in(_tasks_in(session_id, "waiting")),
        ~is_provisional(t.items.c.id),
    )
    stronger = {"failed": (), "running": ("failed",), "queued": ("failed", "running")}
    void = and_(
        t.items.c.id.in_(_tasks_in(session_id, "skipped")),
        t.items.c.id.not_in(_tasks_in(session_id, *NOT_SKIPPED)),
    )
    if state in stronger:
        here = t.items.c.id.in_(_tasks_in(session_id, state))
        if state == "failed":
            return or_(here, void)
        above = [t.items.c.id.not_in(_tasks_in(session_id, other)) for other in stronger[state]]
        return and_(here, *above)
    quiet = t.items.c.id.not_in(_tasks_in(session_id, "failed", "running", "queued"))
    return and_(quiet, ended, ~void) if state == "done" else and_(quiet, ~ended, ~void)


def is_provisional(item: ColumnElement[int]) -> ColumnElement[bool]:
    """Say in SQL whether what an item has was made of some members of a group alone."""
    other = t.tasks.alias()
    return select(other.c.id).where(other.c.item_id == item, other.c.mode == PROVISIONAL).exists()


def is_of_all_members(item: ColumnElement[int], done_at: ColumnElement[float]) -> ColumnElement[bool]:
    """Say in SQL whether what was made of a group at a time is of all its members, as they are now."""
    other = t.tasks.alias()
    gathers = select(t.members.c.stage).where(t.members.c.parent_id == item).limit(1).scalar_subquery()
    mine = select(other.c.id).where(other.c.item_id == item, other.c.stage == gathers)
    return mine.where(
        other.c.state == "done", other.c.mode != PROVISIONAL, other.c.done_at <= done_at
    ).exists()


def _tasks_in(session_id: int, *states: str) -> Select[tuple[int]]:
    return select(t.tasks.c.item_id).where(
        t.tasks.c.session_id == session_id, t.tasks.c.state.in_(list(states))
    )
