"""The session's bookkeeping: what came in, what was decided, what was made. No threads and no clock.

Every public method is one step of the conductor's loop and at most one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import OperationalError, StatementError

from tomofly.flow.commit import Committer, refused
from tomofly.flow.folder import sweep_checkpoints, sweep_partial
from tomofly.flow.gain_copy import with_own_gain
from tomofly.flow.graph import Membership, Workflow
from tomofly.flow.orders import OrderBook
from tomofly.flow.planner import (
    Clock,
    Decision,
    ItemView,
    Queue,
    Skip,
    TaskView,
    Wait,
    plan,
    plan_signature,
)
from tomofly.flow.runner import TaskOrder, TaskReport
from tomofly.flow.views import item_ref, item_views
from tomofly.model import FoldStage, GroupStage, ItemRef, MapStage, Settings, Stage, TaskState
from tomofly.store import Database, dispatch, files, intake, planning, retry_while_locked, sessions
from tomofly.store.intake import NewItem

PLAN_BATCH = 500
ORDER_STEP = 10**11


@dataclass(frozen=True)
class Scope:
    """Which session, with which stages, in which folder."""

    session_id: int
    workflow: Workflow
    folder: Path


class Engine:
    """One session's state machine on top of the database."""

    def __init__(self, database: Database, scope: Scope, settings: Mapping[str, Settings]) -> None:
        self.database = database
        self.scope = scope
        self.settings = settings
        self.closed = False
        self._committer = Committer(scope)
        self._orders = OrderBook(scope)

    def register(self, offered: Sequence[NewItem], now: float) -> int:
        """Take in new and changed items, and tell their groups and folds; give how many there were."""
        if offered:
            self._committer.clean_up([], retry_while_locked(lambda: self._register(offered, now)))
        return len(offered)

    def _register(self, offered: Sequence[NewItem], now: float) -> list[str]:
        """Give the paths of what groups left that nothing belongs to any more."""
        with self.database.begin() as connection:
            registered = intake.register_items(connection, self.scope.session_id, offered, now)
            both = list(zip(offered, registered, strict=True))
            fresh = [(item, r.id) for item, r in both if r.new]
            while fresh:
                fresh = self._join_parents(connection, fresh, now)
            changed = [(item, r.id) for item, r in both if r.changed]
            return self._rejoin_parents(connection, changed, now)

    def _rejoin_parents(
        self, connection: Connection, changed: Sequence[tuple[NewItem, int]], now: float
    ) -> list[str]:
        """Make items members of the groups that they belong to now, and of no other."""
        if not changed or not _gathering_kinds(self.scope.workflow):
            return []
        joined = changed
        while joined:
            joined = self._join_parents(connection, joined, now)
        names = {item_id: self._memberships(item) for item, item_id in changed}
        parents = [NewItem(m.kind, m.key) for found in names.values() for m in found]
        ids = intake.find_ids(connection, self.scope.session_id, parents)
        kept = {i: {(ids[m.kind, m.key], m.stage) for m in found} for i, found in names.items()}
        left = intake.keep_members(connection, kept)
        groups = [s.produces for s in self.scope.workflow.stages if isinstance(s, GroupStage)]
        return intake.drop_empty(connection, left, groups)

    def _memberships(self, item: NewItem) -> list[Membership]:
        return self.scope.workflow.memberships(
            ItemRef(item.key, item.kind, None, item.content, item.attributes)
        )

    def _join_parents(
        self, connection: Connection, fresh: Sequence[tuple[NewItem, int]], now: float
    ) -> list[tuple[NewItem, int]]:
        """Make items members of their groups and folds; give those that are new themselves."""
        parents: dict[tuple[str, str], NewItem] = {}
        links: list[tuple[int, tuple[str, str], str]] = []
        for item, child in fresh:
            for member in self._memberships(item):
                parents[member.kind, member.key] = NewItem(member.kind, member.key, live=item.live)
                links.append((child, (member.kind, member.key), member.stage))
        if not parents:
            return []
        ids = intake.find_ids(connection, self.scope.session_id, list(parents.values()))
        missing = [parent for name, parent in parents.items() if name not in ids]
        made = intake.register_items(connection, self.scope.session_id, missing, now)
        ids |= {(p.kind, p.key): r.id for p, r in zip(missing, made, strict=True)}
        intake.add_members(connection, [(ids[name], child, stage) for child, name, stage in links])
        return [(p, r.id) for p, r in zip(missing, made, strict=True) if r.new]

    def set_closed(self, closed: bool) -> None:
        """Say whether more items can come; groups and folds are asked again when that changes."""
        if closed == self.closed:
            return
        self.closed = closed
        kinds = sorted(_gathering_kinds(self.scope.workflow))
        if kinds:
            retry_while_locked(lambda: self._touch_kinds(kinds))

    def _touch_kinds(self, kinds: Sequence[str]) -> None:
        with self.database.begin() as connection:
            planning.touch_kinds(connection, self.scope.session_id, kinds)

    def use_settings(self, settings: Mapping[str, Settings]) -> None:
        """Put settings in force: if anything changed, every item is looked at; only the stale is redone."""
        self.settings = with_own_gain(self.scope.folder, settings)
        self._committer.clean_up([], retry_while_locked(self._touch_if_changed))

    def _touch_if_changed(self) -> list[str]:
        signature = plan_signature(self.scope.workflow, self.settings)
        session_id = self.scope.session_id
        with self.database.begin() as connection:
            if sessions.find_session(connection, session_id).planned == signature:
                return []
            intake.touch_all_items(connection, session_id)
            obsolete = self._gather_again(connection)
            sessions.update_session(connection, session_id, planned=signature)
            return obsolete

    def _gather_again(self, connection: Connection) -> list[str]:
        """Have every item belong where it does with the stages that are installed now."""
        obsolete: list[str] = []
        if not _gathering_kinds(self.scope.workflow):
            return obsolete
        for rows in intake.items_in_lots(connection, self.scope.session_id, PLAN_BATCH):
            items = [(_as_offered(row), row["id"]) for row in rows]
            obsolete += self._rejoin_parents(connection, items, rows[-1]["detected_at"])
        return obsolete

    def recover(self) -> int:
        """Queue again what an earlier conductor left running; give how many tasks that were.

        Sources whose move was committed, but which it did not come to delete, are deleted now.
        """
        retry_while_locked(self.finish_moves)
        recovered = retry_while_locked(self._recover)
        retry_while_locked(self._sweep)
        return recovered

    def finish_moves(self) -> None:
        """Delete the sources of moves that were committed by an earlier conductor."""
        with self.database.read() as connection:
            self._committer.finish_moves(connection)

    def _sweep(self) -> None:
        """Remove partial files and checkpoints that belong to nothing: at rest, and before work begins."""
        session_id, folder = self.scope.session_id, self.scope.folder
        folds = [stage.name for stage in self.scope.workflow.stages if isinstance(stage, FoldStage)]
        with self.database.read() as connection:
            awaited = files.awaited_results(connection, session_id)
            known = files.paths_of_stages(connection, session_id, folds)
        sweep_partial(folder, awaited)
        sweep_checkpoints(folder, folds, known)

    def _recover(self) -> int:
        with self.database.begin() as connection:
            return dispatch.recover_running(connection, self.scope.session_id)

    def plan(self, now: float) -> int:
        """Plan for one batch of items that changed; give how many there were."""
        return retry_while_locked(lambda: self._plan(now))

    def _plan(self, now: float) -> int:
        session_id = self.scope.session_id
        with self.database.read() as connection:
            if not planning.dirty_items(connection, session_id, now, 1):
                return 0
        obsolete: list[str] = []
        with self.database.begin() as connection:
            rows = planning.dirty_items(connection, session_id, now, PLAN_BATCH)
            # Members before their groups, so that a group does not stand on what is about to change.
            for kind in self.scope.workflow.kinds:
                obsolete += self._plan_rows(connection, [row for row in rows if row["kind"] == kind], now)
            planning.settle_items(connection, [(row["id"], None, "") for row in self._foreign(rows)])
        self._committer.clean_up([], obsolete)
        return len(rows)

    def _foreign(self, rows: Sequence[RowMapping]) -> list[RowMapping]:
        """Give the items of stages that are no longer installed: there is nothing to plan for them."""
        return [row for row in rows if row["kind"] not in self.scope.workflow.kinds]

    def _plan_rows(self, connection: Connection, rows: Sequence[RowMapping], now: float) -> list[str]:
        """Plan for items of one kind; give the paths of files that belong to nothing now."""
        views = item_views(connection, self.scope.workflow, rows, closed=self.closed)
        said = planning.said_by_folds(connection, self.scope.session_id, list(self.scope.workflow.followed))
        decisions = plan(self.scope.workflow, views, self.settings, Clock(now, self.closed, said))
        live = {row["id"]: bool(row["live"]) for row in rows}
        return self._apply(connection, views, decisions, live, now)

    def _apply(
        self,
        connection: Connection,
        views: Sequence[ItemView],
        decisions: Sequence[Decision],
        live: Mapping[int, bool],
        now: float,
    ) -> list[str]:
        """Write decisions down; give the paths of files that belong to nothing now."""
        session_id = self.scope.session_id
        queued = [d for d in decisions if isinstance(d, Queue)]
        skipped = [d for d in decisions if isinstance(d, Skip)]
        waits = [d for d in decisions if isinstance(d, Wait)]
        tasks = [self._queued(d, live[d.item]) for d in queued]
        planning.queue_tasks(connection, session_id, tasks, now)
        forgotten = planning.skip_tasks(
            connection, session_id, [(d.item, d.stage, d.reason) for d in skipped], now
        )
        known = {view.id: view.tasks for view in views}
        idle = [d for d in waits if d.wake_at is None and d.stage in known[d.item]]
        planning.unqueue_tasks(connection, [(d.item, d.stage) for d in idle])
        planning.settle_items(connection, _settled(views, waits))
        moves = [(d.item, d.stage, "waiting") for d in queued]
        moves += [(d.item, d.stage, "skipped") for d in skipped]
        # A member that waits again, or whose result is about to change, is one that its group may still get.
        moves += [
            (d.item, d.stage, "waiting") for d in waits if self._may_come(known[d.item].get(d.stage), d)
        ]
        self._committer.tell_parents(connection, [(item, stage, state, None) for item, stage, state in moves])
        self._committer.restore_members(connection, self._standing(views, decisions))
        return [path for stage, path in forgotten if self._committer.may_delete(stage)]

    def _may_come(self, task: TaskView | None, wait: Wait) -> bool:
        if task is None or wait.wake_at is not None or not isinstance(self._stage(wait.stage), MapStage):
            return False
        return task.state in (TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED)

    def _stage(self, name: str) -> Stage:
        return self.scope.workflow[name]

    def _standing(
        self, views: Sequence[ItemView], decisions: Sequence[Decision]
    ) -> list[tuple[int, str, str, str | None]]:
        """Give the results that were found to stand, of stages that feed groups and folds."""
        decided = {(decision.item, decision.stage) for decision in decisions}
        gathering = self.scope.workflow.gathering
        return [
            (view.id, stage, "done", task.identity)
            for view in views
            for stage, task in view.tasks.items()
            if task.state is TaskState.DONE and gathering.get(stage) and (view.id, stage) not in decided
        ]

    def _queued(self, decision: Queue, live: bool) -> planning.QueuedTask:
        stages = self.scope.workflow.stages
        depth = next(i for i, stage in enumerate(stages) if stage.name == decision.stage)
        newest_first = self._setting_of(stages[depth], "resources", "priority") == "newest first"
        place = decision.item if newest_first else ORDER_STEP - 1 - decision.item
        urgency = (100 if live else 0) + depth
        return planning.QueuedTask(
            decision.item, decision.stage, decision.wanted, decision.attempt, decision.mode,
            urgency * ORDER_STEP + place,
        )  # fmt: skip

    def _setting_of(self, stage: Stage, section: str, name: str) -> object:
        return getattr(self.settings[stage.track][section], name)

    def take_orders(self, stages: Sequence[str], limit: int, now: float, threads: int) -> list[TaskOrder]:
        """Take the most urgent queued tasks of these stages out of the queue, ready to be run."""
        if limit <= 0 or not stages:
            return []
        return retry_while_locked(lambda: self._take_orders(stages, limit, now, threads))

    def _take_orders(self, stages: Sequence[str], limit: int, now: float, threads: int) -> list[TaskOrder]:
        with self.database.read() as connection:
            rows = dispatch.next_tasks(connection, self.scope.session_id, stages, limit)
            if not rows:
                return []
            orders = self._orders.write(connection, rows, self.settings, threads)
        ready = [order for order in orders if self._orders.is_current(order, self.settings)]
        outdated = {order.task_id for order in orders} - {order.task_id for order in ready}
        with self.database.begin() as connection:
            dispatch.withdraw(connection, sorted(outdated))
            dispatch.mark_running(connection, [order.task_id for order in ready], now)
        return ready

    def commit(self, reports: Sequence[TaskReport], now: float) -> None:
        """Put the files of finished tasks in place, then write everything down in one transaction."""
        if not reports:
            return
        wanted = retry_while_locked(lambda: self._still_wanted(reports))
        placed = self._committer.place_files(wanted)
        if placed:
            self._commit(placed, now)
        self._committer.remove_work(reports)

    def _still_wanted(self, reports: Sequence[TaskReport]) -> list[TaskReport]:
        with self.database.read() as connection:
            return self._committer.still_wanted(connection, reports)

    def _commit(self, placed: Sequence[TaskReport], now: float) -> None:
        """Write reports down together; where the database refuses one of them, each by itself."""
        try:
            obsolete = retry_while_locked(lambda: self._write(placed, now))
        except OperationalError:
            raise
        except StatementError as error:
            if len(placed) > 1:
                for report in placed:
                    self._commit([report], now)
            elif placed[0].outcome is None:
                raise
            else:
                self._commit([refused(placed[0], error)], now)
            return
        self._committer.clean_up(placed, obsolete)

    def _write(self, placed: Sequence[TaskReport], now: float) -> list[str]:
        with self.database.begin() as connection:
            return self._committer.write(connection, placed, now)

    def clear(self, stages: Sequence[str]) -> None:
        """Forget the results of these stages and delete their files."""
        paths = retry_while_locked(lambda: self._clear(stages))
        self._committer.clean_up([], paths)

    def _clear(self, stages: Sequence[str]) -> list[str]:
        workflow = self.scope.workflow
        fed = sorted({gather.name for name in stages for gather in workflow.gathering[name]})
        with self.database.begin() as connection:
            paths = planning.drop_results(connection, self.scope.session_id, stages, fed)
            for name in workflow.followed.keys() & set(stages):
                for item_id in intake.ids_of_kind(connection, self.scope.session_id, workflow[name].produces):
                    planning.fold_says(connection, item_id, "")
            intake.touch_all_items(connection, self.scope.session_id)
        return paths

    def settled(self) -> bool:
        """Say whether nothing is left to plan or to run."""
        with self.database.read() as connection:
            return not planning.unsettled(connection, self.scope.session_id, closed=self.closed)

    def views(self, now: float, limit: int = PLAN_BATCH) -> list[ItemView]:
        """Give the views of the items that wait to be planned, for looking."""
        with self.database.read() as connection:
            rows = planning.dirty_items(connection, self.scope.session_id, now, limit)
            return item_views(connection, self.scope.workflow, rows, closed=self.closed)


def _settled(views: Sequence[ItemView], waits: Sequence[Wait]) -> list[tuple[int, float | None, str]]:
    """Give (item, when to look again, what it waits for) of every item that was looked at."""
    wakes: dict[int, float] = {}
    reasons: dict[int, str] = {}
    for wait in waits:
        reasons.setdefault(wait.item, wait.reason)
        if wait.wake_at is not None:
            wakes[wait.item] = min(wait.wake_at, wakes.get(wait.item, wait.wake_at))
    return [(view.id, wakes.get(view.id), reasons.get(view.id, "")) for view in views]


def _as_offered(row: RowMapping) -> NewItem:
    return NewItem(
        row["kind"], row["key"], row["source"], row["content"], row["attributes"], live=row["live"]
    )


def _gathering_kinds(workflow: Workflow) -> set[str]:
    return {gather.produces for gathers in workflow.gathering.values() for gather in gathers}


__all__ = ["Engine", "Scope", "item_ref"]
