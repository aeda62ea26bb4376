"""Rows of a session in which items belong to groups, as a running session would have written them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from tomofly.store import sessions
from tomofly.store import tables as t


def new_session(connection: Connection, kind: str = "notes", name: str = "grid") -> int:
    """Make an empty session; give its id."""
    new = sessions.NewSession(name, kind, f"/data/{name}", "", {}, ("reading", "adding"))
    return sessions.create_session(connection, new, 100.0)


def add_item(connection: Connection, session: int, kind: str, key: str, **more: Any) -> int:
    """Add an item; give its id."""
    plain = {"source": "", "content": "", "attributes": {}, "detected_at": 100.0, "live": True}
    values = {"session_id": session, "kind": kind, "key": key, **plain, **more}
    connection.execute(insert(t.items).values(**values))
    found = select(t.items.c.id).where(
        t.items.c.session_id == session, t.items.c.kind == kind, t.items.c.key == key
    )
    return int(connection.scalar(found) or 0)


def add_member(
    connection: Connection, parent: int, child: int, stage: str, state: str, *, excluded: bool = False
) -> None:
    """Let an item belong to a group that waits for its task."""
    row = {"parent_id": parent, "child_id": child, "stage": stage, "state": state, "excluded": excluded}
    connection.execute(insert(t.members).values(**row))


def add_task(
    connection: Connection, session: int, item: int, stage: str, state: str = "done",
    metrics: Mapping[str, float] | None = None, products: Mapping[str, str] | None = None, **more: Any,
) -> int:  # fmt: skip
    """Add a task with what it measured and made; give its id."""
    values = {"session_id": session, "item_id": item, "stage": stage, "state": state, **more}
    connection.execute(insert(t.tasks).values(**values))
    mine = t.tasks.c.item_id == item, t.tasks.c.stage == stage
    task = int(connection.scalar(select(t.tasks.c.id).where(*mine)) or 0)
    owner = {"task_id": task, "session_id": session, "item_id": item, "stage": stage}
    for name, value in (metrics or {}).items():
        connection.execute(insert(t.metrics).values(**owner, name=name, value=value))
    for name, path in (products or {}).items():
        connection.execute(insert(t.products).values(task_id=task, name=name, path=path, bytes=1))
    return task
