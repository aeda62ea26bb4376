"""Tasks on their way: handing out, committing what came back, recovering after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, select, update

from tomofly.store import tables as t
from tomofly.store.results import Done, forget_outcomes, insert_outcomes

BEGUN_LOSS = 5
UNBEGUN_LOSS = 1
"""How much it counts that a worker died with a task: one that it had not begun is hardly the cause."""

SUSPECT = 10**15
"""Added to the priority of a task that may have killed its worker: at most one such runs at a time."""

OF_THE_ITEM = ("key", "kind", "source", "content", "attributes", "decisions")
"""What of its item a task is handed out with."""


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
    insert_outcomes(connection, session_id, done)


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
