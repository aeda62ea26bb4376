"""Rows of the database as the planner's views."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping

from tomofly.flow.graph import Workflow
from tomofly.flow.planner import FoldView, ItemView, TaskView
from tomofly.model import FoldStage, GroupStage, ItemRef, MemberState, TaskState
from tomofly.store import planning


def item_views(
    connection: Connection, workflow: Workflow, rows: Sequence[RowMapping], *, closed: bool
) -> list[ItemView]:
    """Build the views of these item rows, with one query for all their tasks."""
    tasks: dict[int, dict[str, RowMapping]] = {row["id"]: {} for row in rows}
    for task in planning.tasks_of(connection, list(tasks)):
        tasks[task["item_id"]][task["stage"]] = task
    return [_item_view(connection, workflow, row, tasks[row["id"]], closed) for row in rows]


def item_ref(row: RowMapping) -> ItemRef:
    """Build an item as a stage sees it."""
    source = Path(row["source"]) if row["source"] else None
    return ItemRef(row["key"], row["kind"], source, row["content"], _known(row))


def _known(row: RowMapping) -> Mapping[str, Any]:
    """Give the attributes of an item, with what people have decided of it."""
    known: dict[str, Any] = row["attributes"]
    return {**known, "decisions": row["decisions"]} if row["decisions"] else known


def _item_view(
    connection: Connection, workflow: Workflow, row: RowMapping, tasks: Mapping[str, RowMapping], closed: bool
) -> ItemView:
    view = ItemView(
        id=row["id"],
        ref=item_ref(row),
        tasks={stage: _task_view(task) for stage, task in tasks.items()},
        requested_at=row["requested_at"],
    )
    for stage in workflow.stages_for(row["kind"]):
        if isinstance(stage, GroupStage):
            return _with_members(connection, view)
        if isinstance(stage, FoldStage):
            task = tasks.get(stage.name)
            checkpoint = None if task is None else task["checkpoint"]
            return _with_fold(connection, view, stage, checkpoint, closed)
    return view


def _task_view(row: RowMapping) -> TaskView:
    return TaskView(
        state=TaskState(row["state"]),
        wanted=row["wanted"],
        fingerprint=row["fingerprint"],
        identity=row["identity"],
        attempts=row["attempts"],
        permanent=row["permanent"],
        settled_at=row["done_at"] or 0.0,
        mode=row["mode"],
        reason=row["reason"],
    )


def _with_members(connection: Connection, view: ItemView) -> ItemView:
    rows = [row for row in planning.members_of(connection, view.id) if not row["excluded"]]
    members = tuple(
        MemberState(row["key"], TaskState(row["state"]), row["identity"], _known(row)) for row in rows
    )
    last = max((row["detected_at"] for row in rows), default=0.0)
    return replace(view, members=members, last_arrival=last)


def _with_fold(
    connection: Connection, view: ItemView, stage: FoldStage, checkpoint: str | None, closed: bool
) -> ItemView:
    counts = planning.fold_counts(connection, view.id, stage.every)
    final = closed and not counts.unsettled and counts.any_done
    fold = FoldView(
        fresh=counts.fresh,
        changed=counts.changed,
        redoing=counts.redoing,
        unsettled=counts.unsettled,
        digest=_digest(connection, view.id) if final else None,
        checkpoint=checkpoint,
    )
    return replace(view, fold=fold)


def _digest(connection: Connection, parent_id: int) -> str:
    elements = planning.fold_elements(connection, parent_id, only_new=False)
    return elements_digest((key, identity) for _, key, identity in elements)


def elements_digest(elements: Iterable[tuple[str, str]]) -> str:
    """Name all elements of a fold by (key, identity), given in the order of their keys."""
    digest = hashlib.blake2b(digest_size=16)
    for key, identity in elements:
        digest.update(f"{len(key)}:{key}={identity};".encode())
    return digest.hexdigest()
