"""The session's bookkeeping: what came in, what was decided, what was made. No threads and no clock.

Every public method is one step of the conductor's loop and at most one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from tomofly.flow.commit import Committer
from tomofly.flow.graph import Workflow
from tomofly.flow.orders import OrderBook
from tomofly.flow.planner import Clock, Decision, ItemView, Queue, Skip, Wait, plan, plan_signature
from tomofly.flow.runner import TaskOrder, TaskReport
from tomofly.flow.views import item_ref, item_views
from tomofly.model import ItemRef, Settings, Stage
from tomofly.store import Database, dispatch, intake, planning, retry_while_locked, sessions
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
        return retry_while_locked(lambda: self._register(offered, now)) if offered else 0

    def _register(self, offered: Sequence[NewItem], now: float) -> int:
        with self.database.begin() as connection:
            pending = list(offered)
            while pending:
                pending = self._register_level(connection, pending, now)
        return len(offered)

    def _register_level(
        self, connection: Connection, offered: Sequence[NewItem], now: float
    ) -> list[NewItem]:
        """Register items of one level; give the groups and folds that must exist for them."""
        session_id, workflow = self.scope.session_id, self.scope.workflow
        registered = intake.register_items(connection, session_id, offered, now)
        fresh = [(item, r.id) for item, r in zip(offered, registered, strict=True) if r.new]
        parents: dict[tuple[str, str], NewItem] = {}
        links: list[tuple[int, tuple[str, str], str]] = []
        for item, child in fresh:
            ref = ItemRef(item.key, item.kind, None, item.content, item.attributes)
            for member in workflow.memberships(ref):
                parents[member.kind, member.key] = NewItem(member.kind, member.key, live=item.live)
                links.append((child, (member.kind, member.key), member.stage))
        if not parents:
            return []
        made = intake.register_items(connection, session_id, list(parents.values()), now)
        ids = {name: r.id for name, r in zip(parents, made, strict=True)}
        intake.add_members(connection, [(ids[name], child, stage) for child, name, stage in links])
        return [p for p, r in zip(parents.values(), made, strict=True) if r.new and _gathered(workflow, p)]

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
        self.settings = settings
        retry_while_locked(self._touch_if_changed)

    def _touch_if_changed(self) -> None:
        signature = plan_signature(self.scope.workflow, self.settings)
        session_id = self.scope.session_id
        with self.database.begin() as connection:
            if sessions.find_session(connection, session_id).planned == signature:
                return
            intake.touch_all_items(connection, session_id)
            sessions.update_session(connection, session_id, planned=signature)

    def recover(self) -> int:
        """Queue again what an earlier conductor left running; give how many tasks that were."""
        return retry_while_locked(self._recover)

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
        with self.database.begin() as connection:
            rows = planning.dirty_items(connection, session_id, now, PLAN_BATCH)
            views = item_views(connection, self.scope.workflow, rows, closed=self.closed)
            decisions = plan(self.scope.workflow, views, self.settings, Clock(now, self.closed))
            live = {row["id"]: bool(row["live"]) for row in rows}
            self._apply(connection, views, decisions, live, now)
        return len(views)

    def _apply(
        self,
        connection: Connection,
        views: Sequence[ItemView],
        decisions: Sequence[Decision],
        live: Mapping[int, bool],
        now: float,
    ) -> None:
        session_id = self.scope.session_id
        queued = [d for d in decisions if isinstance(d, Queue)]
        skipped = [d for d in decisions if isinstance(d, Skip)]
        waits = [d for d in decisions if isinstance(d, Wait)]
        tasks = [self._queued(d, live[d.item]) for d in queued]
        planning.queue_tasks(connection, session_id, tasks, now)
        planning.skip_tasks(connection, session_id, [(d.item, d.stage, d.reason) for d in skipped], now)
        known = {view.id: view.tasks for view in views}
        idle = [d for d in waits if d.wake_at is None and d.stage in known[d.item]]
        planning.unqueue_tasks(connection, [(d.item, d.stage) for d in idle])
        planning.settle_items(connection, [_settled(view, waits) for view in views])
        moves = [(d.item, d.stage, "waiting") for d in queued] + [
            (d.item, d.stage, "skipped") for d in skipped
        ]
        self._committer.tell_parents(connection, [(item, stage, state, None) for item, stage, state in moves])

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
        obsolete = retry_while_locked(lambda: self._commit(placed, now)) if placed else []
        self._committer.clean_up(placed, obsolete)
        self._committer.remove_work(reports)

    def _still_wanted(self, reports: Sequence[TaskReport]) -> list[TaskReport]:
        with self.database.read() as connection:
            return self._committer.still_wanted(connection, reports)

    def _commit(self, placed: Sequence[TaskReport], now: float) -> list[str]:
        with self.database.begin() as connection:
            return self._committer.write(connection, placed, self.settings, now)

    def clear(self, stages: Sequence[str]) -> None:
        """Forget the results of these stages and delete their files."""
        paths = retry_while_locked(lambda: self._clear(stages))
        for path in paths:
            (self.scope.folder / path).unlink(missing_ok=True)

    def _clear(self, stages: Sequence[str]) -> list[str]:
        workflow = self.scope.workflow
        fed = sorted({gather.name for name in stages for gather in workflow.gathering[name]})
        with self.database.begin() as connection:
            paths = planning.drop_results(connection, self.scope.session_id, stages, fed)
            intake.touch_all_items(connection, self.scope.session_id)
        return paths

    def settled(self) -> bool:
        """Say whether nothing is left to plan or to run."""
        with self.database.read() as connection:
            return not planning.unsettled(connection, self.scope.session_id)

    def views(self, now: float, limit: int = PLAN_BATCH) -> list[ItemView]:
        """Give the views of the items that wait to be planned, for looking."""
        with self.database.read() as connection:
            rows = planning.dirty_items(connection, self.scope.session_id, now, limit)
            return item_views(connection, self.scope.workflow, rows, closed=self.closed)


def _settled(view: ItemView, waits: Sequence[Wait]) -> tuple[int, float | None, str]:
    mine = [wait for wait in waits if wait.item == view.id]
    wakes = [wait.wake_at for wait in mine if wait.wake_at is not None]
    reason = mine[0].reason if mine else ""
    return view.id, min(wakes, default=None), reason


def _gathering_kinds(workflow: Workflow) -> set[str]:
    return {gather.produces for gathers in workflow.gathering.values() for gather in gathers}


def _gathered(workflow: Workflow, item: NewItem) -> bool:
    """Say whether a group is itself a member of something."""
    return bool(workflow.memberships(ItemRef(item.key, item.kind)))


__all__ = ["Engine", "Scope", "item_ref"]
