"""Tasks on their way: handing out, committing what came back, recovering after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from tomofly.store import tables as t

BEGUN_LOSS = 5
UNBEGUN_LOSS = 1
"""How much it counts that a worker died with a task: one that it had not begun is hardly the cause."""

SUSPECT = 10**15
"""Added to the priority of a task that may have killed its worker: at most one such runs at a time."""

OF_THE_ITEM = ("key", "kind", "source", "content", "attributes", "decisions")
"""What of its item a task is handed out with."""

OUTDATED = ""
"""In place of an identity: a checkpoint holds an element that is no longer what it was."""


def next_tasks(
    connection: Connection, session_id: int, stages: Sequence[str], limit: int
) -> list[RowMapping]:
    """Give queued tasks of these stages, most urgent first, with their items.

    A task that may have killed its worker does not come while another such runs, so that in the end only
    the one to blame has lost its worker often.
    """
    if limit <= 0 or not stages:
        return []
    mine, priority = t.tasks.c.session_id == session_id, t.tasks.c.priority
    running = select(t.tasks.c.id).where(mine, t.tasks.c.state == "running", priority >= SUSPECT).limit(1)
    rows: list[RowMapping] = []
    if connection.scalar(running) is None:
        rows = _queued(connection, stages, 1, mine, priority >= SUSPECT)
    return rows + _queued(connection, stages, limit - len(rows), mine, priority < SUSPECT)


def _queued(
    connection: Connection, stages: Sequence[str], limit: int, *conditions: ColumnElement[bool]
) -> list[RowMapping]:
    query = (
        select(
            t.tasks,
            t.items.c.key,
            t.items.c.kind,
            t.items.c.source,
            t.items.c.content,
            t.items.c.attributes,
            t.items.c.decisions,
        )
        .join(t.items, t.items.c.id == t.tasks.c.item_id)
        .where(t.tasks.c.state == "queued", t.tasks.c.stage.in_(stages), *conditions)
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
    """A task that did not end well.

    ``lost``: its worker died, which says nothing about the item; ``begun``: with the task at work.
    """

    task_id: int
    item_id: int
    stage: str
    wanted: str
    reason: str
    permanent: bool
    lost: bool
    at: float
    worker: str = ""
    begun: bool = True


def wanted_now(connection: Connection, task_ids: Sequence[int]) -> dict[int, RowMapping]:
    """Give the present rows of tasks, to see whether a report is still asked for."""
    rows = connection.execute(select(t.tasks).where(t.tasks.c.id.in_(list(task_ids)))).mappings()
    return {row["id"]: row for row in rows}


def commit_done(connection: Connection, session_id: int, done: Sequence[Done]) -> None:
    """Write results: the task, its products, metrics and flags, replacing those of an earlier run."""
    if not done:
        return
    forget_outcomes(connection, [d.task_id for d in done])
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


def forget_outcomes(connection: Connection, task_ids: Sequence[int]) -> list[str]:
    """Forget the products, metrics and flags of tasks; give the relative paths of the products."""
    paths = product_paths(connection, task_ids)
    for table in (t.products, t.metrics, t.flags):
        connection.execute(delete(table).where(table.c.task_id.in_(list(task_ids))))
    return paths


@dataclass(frozen=True)
class FailuresWritten:
    """What became of failures: those that will not be tried again, and those whose results are void."""

    given_up: list[Failed]
    void: list[Failed]


def commit_failed(
    connection: Connection, failed: Sequence[Failed], max_losses: int, retries: Mapping[str, int]
) -> FailuresWritten:
    """Write failures.

    A task that lost its worker is queued again until that has happened ``max_losses`` times. A fold that
    will be tried again keeps its checkpoint, from which it goes on.
    """
    written = FailuresWritten([], [])
    k = t.tasks.c
    for failure in failed:
        task = k.id == failure.task_id
        row = connection.execute(select(k.losses, k.attempts, k.priority, k.checkpoint).where(task)).one()
        losses = int(row[0]) + (_weight(failure) if failure.lost else 0)
        if failure.lost and losses < max_losses * BEGUN_LOSS:
            priority = int(row[2]) % SUSPECT + SUSPECT if failure.begun else int(row[2])
            again = {"state": "queued", "losses": losses, "reason": failure.reason, "started_at": None}
            connection.execute(update(t.tasks).where(task).values(**again, priority=priority))
            continue
        given_up = failure.permanent or failure.lost or int(row[1]) + 1 > retries.get(failure.stage, 0)
        if given_up:
            written.given_up.append(failure)
        if given_up or row[3] is None:
            written.void.append(failure)
        _write_failure(connection, failure, losses, int(row[1]) + 1)
    return written


def _weight(failure: Failed) -> int:
    return BEGUN_LOSS if failure.begun else UNBEGUN_LOSS


def _write_failure(connection: Connection, failure: Failed, losses: int, attempts: int) -> None:
    reason = failure.reason
    if failure.lost:
        reason = f"{reason}. Given up after {max(1, losses // BEGUN_LOSS)} times"
    values = {
        "state": "failed", "attempts": attempts, "reason": reason, "losses": losses,
        "permanent": failure.permanent or failure.lost, "done_at": failure.at, "worker": failure.worker,
        "identity": None, "fingerprint": None,
    }  # fmt: skip
    connection.execute(update(t.tasks).where(t.tasks.c.id == failure.task_id).values(**values))


def forget_checkpoints(connection: Connection, task_ids: Sequence[int]) -> None:
    """Have folds begin anew: their checkpoints are gone."""
    folds = select(t.tasks.c.item_id).where(
        t.tasks.c.id.in_(list(task_ids)), t.tasks.c.checkpoint.is_not(None)
    )
    parents = list(connection.scalars(folds))
    if parents:
        connection.execute(update(t.members).where(t.members.c.parent_id.in_(parents)).values(consumed=None))
        cleared = update(t.tasks).where(t.tasks.c.id.in_(list(task_ids)))
        connection.execute(cleared.values(checkpoint=None))


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
    mine = (t.members.c.child_id == bindparam("b_child"), t.members.c.stage == bindparam("b_stage"))
    moved = (
        update(t.members).where(*mine).values(state=bindparam("b_state"), identity=bindparam("b_identity"))
    )
    # What a checkpoint holds of an element that has ended differently since is marked as outdated.
    consumed = t.members.c.consumed
    same = or_(consumed.is_(None), consumed == bindparam("b_same"))
    settled = moved.values(consumed=case((same, consumed), else_=OUTDATED))
    for query, part in ((moved, [r for r in rows if r[2] == "waiting"]),
                        (settled, [r for r in rows if r[2] != "waiting"])):  # fmt: skip
        values = [
            {"b_child": child, "b_stage": stage, "b_state": state, "b_identity": identity,
             "b_same": identity or OUTDATED}
            for child, stage, state, identity in part
        ]  # fmt: skip
        if values:
            connection.execute(query, values)
    children = sorted({row[0] for row in rows})
    stages = sorted({row[1] for row in rows})
    parents = select(t.members.c.parent_id).where(
        t.members.c.child_id.in_(children), t.members.c.stage.in_(stages)
    )
    return sorted(set(connection.scalars(parents)))


def waiting_members(
    connection: Connection, rows: Sequence[tuple[int, str, str, str | None]]
) -> list[tuple[int, str, str, str | None]]:
    """Keep the (child, gathering stage, ...) rows of members that are noted as waiting."""
    if not rows:
        return []
    m = t.members.c
    query = select(m.child_id, m.stage).where(
        m.child_id.in_({row[0] for row in rows}), m.stage.in_({row[1] for row in rows}), m.state == "waiting"
    )
    waiting = {(row[0], row[1]) for row in connection.execute(query)}
    return [row for row in rows if (row[0], row[1]) in waiting]


def consume_elements(
    connection: Connection, parent_id: int, consumed: Sequence[tuple[int, str]], *, restart: bool
) -> None:
    """Note which (child, identity) elements a fold's checkpoint holds."""
    m = t.members.c
    if restart:
        connection.execute(update(t.members).where(m.parent_id == parent_id).values(consumed=None))
    # An element may have been made again while the fold was at work.
    same = or_(m.identity == bindparam("b_identity"), m.state == "waiting")
    query = (
        update(t.members)
        .where(m.parent_id == parent_id, m.child_id == bindparam("b_child"))
        .values(consumed=case((same, bindparam("b_identity")), else_=OUTDATED))
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
