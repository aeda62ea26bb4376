"""The files of a session as the database knows them: whose they are, and which are still to be made."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from tomofly.store import tables as t


def owners_of(
    connection: Connection, session_id: int, paths: Sequence[str]
) -> dict[str, list[tuple[int, str]]]:
    """Give the (task, key of its item) that own products at these relative paths of a session."""
    found: dict[str, list[tuple[int, str]]] = {}
    for start in range(0, len(paths), 500):
        query = (
            select(t.products.c.path, t.tasks.c.id, t.items.c.key)
            .join(t.tasks, t.tasks.c.id == t.products.c.task_id)
            .join(t.items, t.items.c.id == t.tasks.c.item_id)
            .where(
                t.products.c.path.in_(list(paths[start : start + 500])), t.tasks.c.session_id == session_id
            )
        )
        for path, task, key in connection.execute(query):
            found.setdefault(path, []).append((task, key))
    return found


def awaited_results(connection: Connection, session_id: int) -> set[tuple[int, str | None]]:
    """Give (item, name of the result) of all that is still to be made; None where it has no name yet."""
    query = select(t.tasks.c.item_id, t.tasks.c.wanted).where(
        t.tasks.c.session_id == session_id, t.tasks.c.state.in_(["waiting", "queued", "running", "failed"])
    )
    return {(row[0], row[1]) for row in connection.execute(query)}


def paths_of_stages(connection: Connection, session_id: int, stages: Sequence[str]) -> set[str]:
    """Give the relative paths of all products of some stages."""
    query = (
        select(t.products.c.path)
        .join(t.tasks, t.tasks.c.id == t.products.c.task_id)
        .where(t.tasks.c.session_id == session_id, t.tasks.c.stage.in_(list(stages)))
    )
    return set(connection.scalars(query))
