"""Orders: queued tasks with everything that a worker needs to run them."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping

from tomofly.flow.planner import (
    FOLD_OPEN,
    Clock,
    expected_fingerprint,
    final_inputs,
    group_inputs,
    group_state,
    map_inputs,
    partial_members,
)
from tomofly.flow.runner import TaskOrder
from tomofly.flow.views import elements_digest, item_ref, item_views
from tomofly.model import (
    Flag,
    FoldStage,
    GroupStage,
    Member,
    MemberState,
    Result,
    Settings,
    Stage,
    TaskState,
)
from tomofly.store import planning
from tomofly.store.results import StoredResult, product_path, results_of

if TYPE_CHECKING:
    from tomofly.flow.engine import Scope


class OrderBook:
    """Writes orders for task rows, with a few queries for a whole batch."""

    def __init__(self, scope: "Scope") -> None:
        self._scope = scope

    def write(
        self,
        connection: Connection,
        rows: Sequence[RowMapping],
        settings: Mapping[str, Settings],
        threads: int,
    ) -> list[TaskOrder]:
        """Write one order per task row."""
        workflow = self._scope.workflow
        needs = sorted({need for row in rows for need in workflow[row["stage"]].needs})
        results = results_of(connection, [row["item_id"] for row in rows], needs) if needs else {}
        said = planning.said_by_folds(connection, self._scope.session_id, list(workflow.followed))
        return [self._order(connection, row, results, settings, threads, said) for row in rows]

    def is_current(self, order: TaskOrder, settings: Mapping[str, Settings]) -> bool:
        """Say whether the inputs at hand are those that the wanted result is named after."""
        stage = order.stage
        identities = [order.inputs[need].identity for need in stage.needs if need in order.inputs]
        inputs = map_inputs(stage, identities, order.item, order.followed)
        if isinstance(stage, FoldStage):
            inputs = FOLD_OPEN
            if order.mode == "final":
                inputs = final_inputs(elements_digest((m.item.key, m.result.identity) for m in order.members))
        elif isinstance(stage, GroupStage):
            inputs = group_inputs(stage, [_member_state(member) for member in order.members])
            if order.mode == "provisional":
                inputs = ["provisional", *inputs]
        return expected_fingerprint(stage, settings[stage.track], inputs) == order.wanted

    def _order(
        self,
        connection: Connection,
        row: RowMapping,
        results: Mapping[tuple[int, str], StoredResult],
        settings: Mapping[str, Settings],
        threads: int,
        said: Mapping[str, str],
    ) -> TaskOrder:
        stage = self._scope.workflow[row["stage"]]
        folder = self._scope.folder
        item = row["item_id"]
        inputs = {need: results[item, need] for need in stage.needs if (item, need) in results}
        mine = settings[stage.track]
        members, consumed = self._members(connection, row, stage, mine)
        is_fold = isinstance(stage, FoldStage)
        return TaskOrder(
            task_id=row["id"],
            item_id=item,
            stage=stage,
            wanted=row["wanted"],
            item=item_ref(row),
            params=mine[stage.name].model_dump(),
            shared={section: mine[section] for section in stage.reads},
            folder=folder,
            work=folder / ".work" / f"{row['id']}-{uuid.uuid4().hex[:12]}",
            inputs={need: _result(folder, stored) for need, stored in inputs.items()},
            members=members,
            consumed=consumed,
            mode=row["mode"],
            checkpoint=self._checkpoint(connection, row, stage),
            open_name=expected_fingerprint(stage, mine, FOLD_OPEN) if is_fold else "",
            followed={name: said.get(name, "") for name in getattr(stage, "follows", ())},
            threads=threads,
        )

    def _members(
        self, connection: Connection, row: RowMapping, stage: Stage, settings: Settings
    ) -> tuple[tuple[Member, ...], tuple[tuple[int, str], ...]]:
        """Give the members of a group, or the elements that a fold takes in, and what they are."""
        if not isinstance(stage, GroupStage | FoldStage):
            return (), ()
        only_new = row["mode"] == "open"
        elements = planning.fold_elements(connection, row["item_id"], only_new=only_new)
        if isinstance(stage, GroupStage) and row["mode"] == "provisional":
            chosen = self._chosen(connection, row["item_id"], stage, settings)
            elements = [element for element in elements if element[1] in chosen]
        ids = [child for child, _, _ in elements]
        items = planning.items_by_id(connection, ids)
        need = stage.needs[0]
        results = results_of(connection, ids, [need])
        members = tuple(
            Member(item_ref(items[child]), _result(self._scope.folder, results[child, need]))
            for child in ids
            if (child, need) in results
        )
        return members, tuple(
            (child, identity) for child, _, identity in elements if (child, need) in results
        )

    def _chosen(
        self, connection: Connection, item_id: int, stage: GroupStage, settings: Settings
    ) -> set[str]:
        """Give the keys of the members of which a group makes its provisional result."""
        rows = list(planning.items_by_id(connection, [item_id]).values())
        view = item_views(connection, self._scope.workflow, rows, closed=False)[0]
        return {m.key for m in partial_members(stage, group_state(stage, view, Clock(0.0)), settings)}

    def _checkpoint(self, connection: Connection, row: RowMapping, stage: Stage) -> Path | None:
        if not isinstance(stage, FoldStage) or row["mode"] != "open":
            return None
        stored = product_path(connection, row["id"], "checkpoint")
        return None if stored is None else self._scope.folder / stored


def _member_state(member: Member) -> MemberState:
    return MemberState(member.item.key, TaskState.DONE, member.result.identity, dict(member.item.attributes))


def _result(folder: Path, stored: StoredResult) -> Result:
    return Result(
        identity=stored.identity,
        products={name: folder / path for name, path in stored.products.items()},
        metrics=stored.metrics,
        flags=tuple(Flag(code, message) for code, message in stored.flags),
    )
