"""Tasks on their way: handing out, committing what came back, recovering after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from tomofly.store import tables as t


def next_tasks(
    connection: Connection, session_id: int, stages: Sequence[str], limit: int
) -> list[RowMapping]:
    """Give queued tasks of these stages, most urgent first, with their items."""
    if limit <= 0 or not stages:
        return []
    query = (
        select(
            t.tasks, t.items.c.key, t.items.c.kind, t.items.c.source, t.items.c.content, t.items.c.attributes
        )
        .join(t.items, t.items.c.id == t.tasks.c.item_id)
        .where(t.tasks.c.session_id == session_id, t.tasks.c.state == "queued", t.tasks.c.stage.in_(stages))
        .order_by(t.tasks.c.priority.desc())
        .limit(limit)
    )
    return list(connection.execute(query).mappings())


def mark_running(connection: Connection, task_ids: Sequence[int], now: float) -> None:
    """Note that these tasks have been handed to the executor."""
    query = update(t.tasks).where(t.tasks.c.id == bindparam("b_id")).values(state="running", started_at=now)
    if task_ids:
        connection.execute(query, [{"b_id": task_id} for task_id in task_ids])


def recover_running(connection: Connection, session_id: int) -> int:
    """Queue again what was running when an earlier conductor ended; it counts as no attempt."""
    query = update(t.tasks).where(t.tasks.c.session_id == session_id, t.tasks.c.state == "running")
    return int(connection.execute(query.values(state="queued", started_at=None)).rowcount)


@dataclass(frozen=True)
class StoredProduct:
    """A file in the session's folder."""

    name: str
    path: str
    bytes: int


@dataclass(frozen=True)
class Done:
    """A task that ended well, with everything it left; its files are in place already."""

    task_id: int
    item_id: int
    stage: str
    fingerprint: str
    identity: str
    started_at: float
    done_at: float
    worker: str
    products: Sequence[StoredProduct] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: Sequence[tuple[str, str]] = ()
    checkpoint: str | None = None


@dataclass(frozen=True)
class Failed:
    """A task that did not end well. ``lost``: its worker died, which says nothing about the item."""

    task_id: int
    item_id: int
    stage: str
    wanted: str
    reason: str
    permanent: bool
    lost: bool
    at: float
    worker: str = ""


def wanted_now(connection: Connection, task_ids: Sequence[int]) -> dict[int, RowMapping]:
    """Give the present rows of tasks, to see whether a report is still asked for."""
    rows = connection.execute(select(t.tasks).where(t.tasks.c.id.in_(list(task_ids)))).mappings()
    return {row["id"]: row for row in rows}


def commit_done(connection: Connection, session_id: int, done: Sequence[Done]) -> None:
    """Write results: the task, its products, metrics and flags, replacing those of an earlier run."""
    if not done:
        return
    _forget(connection, [d.task_id for d in done])
    query = (
        update(t.tasks)
        .where(t.tasks.c.id == bindparam("b_id"))
        .values(
            state="done", fingerprint=bindparam("b_fp"), identity=bindparam("b_identity"), reason="",
            started_at=bindparam("b_start"), done_at=bindparam("b_end"), worker=bindparam("b_worker"),
            checkpoint=bindparam("b_checkpoint"), losses=0, attempts=t.tasks.c.attempts + 1,
        )
    )  # fmt: skip
    rows = [
        {
            "b_id": d.task_id, "b_fp": d.fingerprint, "b_identity": d.identity, "b_start": d.started_at,
            "b_end": d.done_at, "b_worker": d.worker, "b_checkpoint": d.checkpoint,
        }
        for d in done
    ]  # fmt: skip
    connection.execute(query, rows)
    _insert_outcomes(connection, session_id, done)


def _insert_outcomes(connection: Connection, session_id: int, done: Sequence[Done]) -> None:
    products = [
        {"task_id": d.task_id, "name": p.name, "path": p.path, "bytes": p.bytes}
        for d in done
        for p in d.products
    ]
    metrics = [
        {
            "task_id": d.task_id, "session_id": session_id, "item_id": d.item_id, "stage": d.stage,
            "name": name, "value": value,
        }
        for d in done
        for name, value in d.metrics.items()
    ]  # fmt: skip
    flags = [
        {
            "task_id": d.task_id, "session_id": session_id, "item_id": d.item_id, "stage": d.stage,
            "code": code, "message": message,
        }
        for d in done
        for code, message in d.flags
    ]  # fmt: skip
    for table, rows in ((t.products, products), (t.metrics, metrics), (t.flags, flags)):
        if rows:
            connection.execute(insert(table), rows)


def _forget(connection: Connection, task_ids: Sequence[int]) -> None:
    for table in (t.products, t.metrics, t.flags):
        connection.execute(delete(table).where(table.c.task_id.in_(list(task_ids))))


def commit_failed(
    connection: Connection, failed: Sequence[Failed], max_losses: int, retries: Mapping[str, int]
) -> list[Failed]:
    """Write failures; give those that will not be tried again.

    A task that lost its worker is queued again until it has been lost ``max_losses`` times.
    """
    given_up = []
    for failure in failed:
        task = t.tasks.c.id == failure.task_id
        row = connection.execute(select(t.tasks.c.losses, t.tasks.c.attempts).where(task)).one()
        losses, attempts = int(row[0]) + failure.lost, int(row[1]) + 1
        if failure.lost and losses < max_losses:
            again = {"state": "queued", "losses": losses, "reason": failure.reason, "started_at": None}
            connection.execute(update(t.tasks).where(task).values(**again))
            continue
        permanent = failure.permanent or failure.lost
        values = {
            "state": "failed", "attempts": attempts, "reason": failure.reason, "losses": losses,
            "permanent": permanent, "done_at": failure.at, "worker": failure.worker, "identity": None,
            "fingerprint": None,
        }  # fmt: skip
        connection.execute(update(t.tasks).where(task).values(**values))
        if permanent or attempts > retries.get(failure.stage, 0):
            given_up.append(failure)
    _forget(connection, [f.task_id for f in failed])
    return given_up


def withdraw(connection: Connection, task_ids: Sequence[int]) -> None:
    """Take tasks out of the queue whose inputs are not what they were; the planner looks at them again."""
    if task_ids:
        mine = t.tasks.c.id.in_(list(task_ids))
        items = select(t.tasks.c.item_id).where(mine)
        connection.execute(update(t.items).where(t.items.c.id.in_(items)).values(dirty=True))
        connection.execute(update(t.tasks).where(mine).values(state="waiting", wanted=None))


def requeue(connection: Connection, task_ids: Sequence[int], reason: str) -> None:
    """Put tasks back in the queue without counting an attempt: not the item was at fault."""
    if task_ids:
        connection.execute(
            update(t.tasks)
            .where(t.tasks.c.id.in_(list(task_ids)))
            .values(state="queued", started_at=None, reason=reason)
        )


def update_members(connection: Connection, rows: Sequence[tuple[int, str, str, str | None]]) -> list[int]:
    """Note (child, gathering stage, state, identity) of members; give the parents that this concerns."""
    if not rows:
        return []
    query = (
        update(t.members)
        .where(t.members.c.child_id == bindparam("b_child"), t.members.c.stage == bindparam("b_stage"))
        .values(state=bindparam("b_state"), identity=bindparam("b_identity"))
    )
    connection.execute(
        query,
        [{"b_child": c, "b_stage": s, "b_state": state, "b_identity": i} for c, s, state, i in rows],
    )
    children = sorted({row[0] for row in rows})
    stages = sorted({row[1] for row in rows})
    parents = select(t.members.c.parent_id).where(
        t.members.c.child_id.in_(children), t.members.c.stage.in_(stages)
    )
    return sorted(set(connection.scalars(parents)))


def consume_elements(
    connection: Connection, parent_id: int, consumed: Sequence[tuple[int, str]], *, restart: bool
) -> None:
    """Note which (child, identity) elements a fold's checkpoint holds."""
    if restart:
        connection.execute(update(t.members).where(t.members.c.parent_id == parent_id).values(consumed=None))
    query = (
        update(t.members)
        .where(t.members.c.parent_id == parent_id, t.members.c.child_id == bindparam("b_child"))
        .values(consumed=bindparam("b_identity"))
    )
    if consumed:
        connection.execute(
            query, [{"b_child": child, "b_identity": identity} for child, identity in consumed]
        )


def product_path(connection: Connection, task_id: int, name: str) -> str | None:
    """Give the relative path of one product of a task."""
    query = select(t.products.c.path).where(t.products.c.task_id == task_id, t.products.c.name == name)
    return connection.scalar(query)


def product_paths(connection: Connection, task_ids: Sequence[int]) -> list[str]:
    """Give the relative paths of all products of these tasks."""
    query = select(t.products.c.path).where(t.products.c.task_id.in_(list(task_ids)))
    return list(connection.scalars(query))


@dataclass(frozen=True)
class StoredResult:
    """A committed result as rows, to be handed to a stage that needs it."""

    identity: str
    products: Mapping[str, str]
    metrics: Mapping[str, float]
    flags: tuple[tuple[str, str], ...]


def results_of(
    connection: Connection, item_ids: Sequence[int], stages: Sequence[str]
) -> dict[tuple[int, str], StoredResult]:
    """Give the committed results of some stages on some items, by (item, stage)."""
    found: dict[tuple[int, str], StoredResult] = {}
    for start in range(0, len(item_ids), 500):
        part = list(item_ids[start : start + 500])
        query = select(t.tasks.c.id, t.tasks.c.item_id, t.tasks.c.stage, t.tasks.c.identity).where(
            t.tasks.c.item_id.in_(part), t.tasks.c.stage.in_(list(stages)), t.tasks.c.state == "done"
        )
        rows = {row[0]: (row[1], row[2], row[3]) for row in connection.execute(query)}
        found.update(_outcomes(connection, rows))
    return found


def _outcomes(
    connection: Connection, tasks: Mapping[int, tuple[int, str, str]]
) -> dict[tuple[int, str], StoredResult]:
    ids = list(tasks)
    products: dict[int, dict[str, str]] = {i: {} for i in ids}
    metrics: dict[int, dict[str, float]] = {i: {} for i in ids}
    flags: dict[int, list[tuple[str, str]]] = {i: [] for i in ids}
    p, m, f = t.products.c, t.metrics.c, t.flags.c
    for task, name, path in connection.execute(select(p.task_id, p.name, p.path).where(p.task_id.in_(ids))):
        products[task][name] = path
    for task, name, value in connection.execute(select(m.task_id, m.name, m.value).where(m.task_id.in_(ids))):
        metrics[task][name] = value
    for task, code, text in connection.execute(
        select(f.task_id, f.code, f.message).where(f.task_id.in_(ids))
    ):
        flags[task].append((code, text))
    return {
        (item, stage): StoredResult(identity, products[i], metrics[i], tuple(flags[i]))
        for i, (item, stage, identity) in tasks.items()
    }
