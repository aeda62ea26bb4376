"""What tasks left: the products, metrics and flags of their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select

from tomofly.store import tables as t


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


def insert_outcomes(connection: Connection, session_id: int, done: Sequence[Done]) -> None:
    """Write the products, metrics and flags of tasks that ended well."""
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
