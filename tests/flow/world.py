"""A tiny world in memory for the planner: items, tasks and workers, with no file and no database."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tomofly.flow.graph import Workflow
from tomofly.flow.planner import (
    FOLD_OPEN,
    Clock,
    Decision,
    FoldView,
    ItemView,
    Queue,
    Skip,
    TaskView,
    Wait,
    expected_fingerprint,
    final_inputs,
    plan,
)
from tomofly.flow.views import elements_digest
from tomofly.model import FoldStage, GroupStage, ItemRef, MapStage, MemberState, Settings, Stage, TaskState

Failures = Mapping[tuple[str, str], int]
"""How often a stage fails on an item before it ends well; NEVER for bad input."""

NEVER = -1


@dataclass(frozen=True)
class Order:
    """A task at work, with the inputs that it was given."""

    item: int
    stage: str
    wanted: str
    mode: str
    elements: tuple[tuple[int, str], ...] = ()


@dataclass
class Thing:
    """An item of the world, and what a fold on it has taken in."""

    ref: ItemRef
    tasks: dict[str, TaskView] = field(default_factory=dict)
    children: list[int] = field(default_factory=list)
    arrived: float = 0.0
    checkpoint: str | None = None
    consumed: dict[int, str] = field(default_factory=dict)
    folded: tuple[tuple[int, str], ...] = ()
    held: frozenset[str] = frozenset()


@dataclass
class World:
    """Applies decisions as the engine does, and runs tasks whose results are their names."""

    workflow: Workflow
    failures: Failures = field(default_factory=dict)
    document: dict[str, dict[str, Any]] = field(default_factory=dict)
    things: dict[int, Thing] = field(default_factory=dict)
    running: list[Order] = field(default_factory=list)
    now: float = 0.0
    closed: bool = False
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    tried: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.settings = self.workflow.settings(self.document)

    def change(self, section: str, name: str, value: Any) -> None:
        self.document.setdefault(section, {})[name] = value
        self.settings = self.workflow.settings(self.document)

    def by_track(self) -> dict[str, Settings]:
        return dict.fromkeys(self.workflow.tracks, self.settings)

    # arrivals

    def arrive(self, key: str, content: str) -> None:
        self._add(ItemRef(key, self.workflow.root_kind, content=content), None)

    def _add(self, ref: ItemRef, child: int | None) -> None:
        found = next(
            (i for i, t in self.things.items() if (t.ref.kind, t.ref.key) == (ref.kind, ref.key)), None
        )
        number = found or len(self.things) + 1
        if found is None:
            self.things[number] = Thing(ref, arrived=self.now)
        elif child is None:
            self.things[number].ref = ref
        if child is not None:
            self.things[number].children.append(child)
        if found is None:
            for member in self.workflow.memberships(ref):
                self._add(ItemRef(member.key, member.kind), number)

    # planning

    def plan(self, items: Iterable[int] | None = None) -> list[Decision]:
        views = [self.view(number) for number in (items or sorted(self.things))]
        return plan(self.workflow, views, self.by_track(), Clock(self.now, self.closed))

    def levels(self) -> list[list[int]]:
        """The items in the order in which the engine plans them: members before their groups."""
        order = [[n for n, t in self.things.items() if t.ref.kind == kind] for kind in self.workflow.kinds]
        return [part for part in order if part]

    def decide(self, items: Iterable[int] | None = None) -> int:
        """Plan and write it down; a result whose inputs are being made again is held back from its group."""
        numbers = list(items or sorted(self.things))
        decisions = self.plan(numbers)
        changes = self.apply(decisions)
        for number in numbers:
            waits = {d.stage for d in decisions if d.item == number and isinstance(d, Wait)}
            maps = {name for name in waits if isinstance(self.workflow[name], MapStage)}
            self.things[number].held = frozenset(maps)
        return changes

    def apply(self, decisions: Iterable[Decision]) -> int:
        """Write decisions down; give how many of them change anything."""
        changes = 0
        for decision in decisions:
            thing = self.things[decision.item]
            task = thing.tasks.get(decision.stage)
            if isinstance(decision, Queue):
                self.check_inputs(decision)
                thing.tasks[decision.stage] = TaskView(
                    TaskState.QUEUED, decision.wanted, attempts=decision.attempt - 1, mode=decision.mode
                )
            elif isinstance(decision, Skip):
                thing.tasks[decision.stage] = TaskView(TaskState.SKIPPED, reason=decision.reason)
                if isinstance(self.workflow[decision.stage], FoldStage):
                    thing.checkpoint, thing.consumed, thing.folded = None, {}, ()
            elif task is not None and decision.wake_at is None and _withdrawn(task):
                thing.tasks[decision.stage] = replace(task, state=TaskState.WAITING, wanted=None, reason="")
            changes += not isinstance(decision, Wait)
        return changes

    def check_inputs(self, decision: Queue) -> None:
        """Nothing is queued whose inputs are not there, and a task is named after just those inputs."""
        stage, thing = self.workflow[decision.stage], self.things[decision.item]
        if isinstance(stage, FoldStage):
            return
        for need in stage.needs if isinstance(stage, MapStage) else ():
            assert thing.tasks[need].state is TaskState.DONE, f"{stage.name} is queued before {need} is done"
        assert decision.wanted == self.name(decision.item, stage)

    def name(self, number: int, stage: Stage, mode: str = "") -> str:
        """Name the result of a task by its inputs as they are."""
        thing = self.things[number]
        inputs: object = [thing.tasks[need].identity for need in stage.needs if need in thing.tasks]
        if isinstance(stage, GroupStage):
            inputs = sorted(
                (self.things[child].ref.key, name) for child, name in self.elements(number, stage)
            )
        elif isinstance(stage, FoldStage):
            inputs = final_inputs(self.digest(number, stage)) if mode == "final" else FOLD_OPEN
        elif not stage.needs:
            inputs = thing.ref.content
        return expected_fingerprint(stage, self.settings, inputs)

    # views

    def view(self, number: int) -> ItemView:
        thing = self.things[number]
        view = ItemView(number, thing.ref, dict(thing.tasks))
        for stage in self.workflow.stages_for(thing.ref.kind):
            if isinstance(stage, GroupStage):
                last = max(self.things[child].arrived for child in thing.children)
                return replace(view, members=tuple(self.members(number, stage)), last_arrival=last)
            if isinstance(stage, FoldStage):
                return replace(view, fold=self.fold(number, stage))
        return view

    def members(self, number: int, stage: Stage) -> Iterable[MemberState]:
        need = self.workflow[stage.needs[0]]
        for child in self.things[number].children:
            task = self.things[child].tasks.get(need.name)
            state, identity = TaskState.WAITING, None
            if task is not None and task.state is TaskState.DONE and need.name not in self.things[child].held:
                state, identity = task.state, task.identity
            elif task is not None and (task.state is TaskState.SKIPPED or given_up(need, task)):
                state = task.state
            yield MemberState(self.things[child].ref.key, state, identity)

    def elements(self, number: int, stage: Stage) -> list[tuple[int, str]]:
        states = zip(self.things[number].children, self.members(number, stage), strict=True)
        return [(child, member.identity) for child, member in states if member.identity is not None]

    def digest(self, number: int, stage: Stage) -> str:
        elements = self.elements(number, stage)
        return elements_digest(sorted((self.things[child].ref.key, name) for child, name in elements))

    def fold(self, number: int, stage: FoldStage) -> FoldView:
        thing = self.things[number]
        states = dict(zip(thing.children, self.members(number, stage), strict=True))
        done = dict(self.elements(number, stage))
        waiting = {child for child, member in states.items() if not member.state.settled}
        return FoldView(
            fresh=min(stage.every, len(done.keys() - thing.consumed.keys())),
            changed=any(done.get(c) != name for c, name in thing.consumed.items() if c not in waiting),
            redoing=any(child in waiting for child in thing.consumed),
            unsettled=bool(waiting),
            digest=self.digest(number, stage) if self.closed and done and not waiting else None,
            checkpoint=thing.checkpoint,
        )

    # work

    def take(self, choose: Callable[[list[tuple[int, str]]], list[tuple[int, str]]]) -> None:
        queued = [
            (number, stage)
            for number, thing in sorted(self.things.items())
            for stage, task in thing.tasks.items()
            if task.state is TaskState.QUEUED
        ]
        for number, name in choose(queued):
            thing, stage = self.things[number], self.workflow[name]
            task = thing.tasks[name]
            assert task.wanted is not None
            if self.name(number, stage, task.mode) != task.wanted:
                thing.tasks[name] = replace(task, state=TaskState.WAITING, wanted=None)
                continue
            elements: list[tuple[int, str]] = []
            if isinstance(stage, FoldStage):
                elements = self.elements(number, stage)
                if task.mode == "open":
                    elements = [(c, n) for c, n in elements if c not in thing.consumed]
            thing.tasks[name] = replace(task, state=TaskState.RUNNING)
            self.running.append(Order(number, name, task.wanted, task.mode, tuple(elements)))

    def finish(self, order: Order) -> None:
        """A task ends: well, or as its failures say."""
        self.running.remove(order)
        thing, stage = self.things[order.item], self.workflow[order.stage]
        task = thing.tasks.get(order.stage)
        key = (thing.ref.key, order.stage)
        self.ran[key] += 1
        if task is None or task.state is not TaskState.RUNNING or task.wanted != order.wanted:
            return
        self.tried[(*key, order.wanted)] += 1
        fails = self.failures.get((order.stage, thing.ref.key), 0)
        attempts = task.attempts + 1
        if fails == NEVER or attempts <= fails:
            failed = replace(
                task, state=TaskState.FAILED, attempts=attempts, permanent=fails == NEVER,
                settled_at=self.now, reason="no good",
            )  # fmt: skip
            thing.tasks[order.stage] = failed
            if given_up(stage, failed):
                thing.checkpoint, thing.consumed, thing.folded = None, {}, ()
            return
        thing.tasks[order.stage] = TaskView(
            TaskState.DONE, order.wanted, order.wanted, order.wanted, attempts
        )
        if isinstance(stage, FoldStage):
            before = thing.folded if order.mode == "open" else ()
            thing.folded = before + order.elements
            thing.consumed = dict(thing.folded)
            thing.checkpoint = self.name(order.item, stage)

    def lose(self, order: Order) -> None:
        """A worker dies with a task."""
        self.running.remove(order)
        task = self.things[order.item].tasks.get(order.stage)
        if task is not None and task.state is TaskState.RUNNING and task.wanted == order.wanted:
            self.things[order.item].tasks[order.stage] = replace(task, state=TaskState.QUEUED)

    def crash(self) -> None:
        """The conductor dies: what ran is queued again, and its reports are never seen."""
        for order in list(self.running):
            self.lose(order)

    def settle(self, *, close: bool = True, hung: str = "") -> None:
        """Go on until nothing is left to do; the item ``hung`` never ends what it begins."""
        for closing in (False, True) if close else (False,):
            self.closed = closing
            quiet = 0
            while quiet < 2:
                self.now += 100.0
                changed = sum(self.decide(part) for part in self.levels())
                self.take(lambda queued: queued)
                ending = [o for o in self.running if not (hung and self.things[o.item].ref.key == hung)]
                for order in ending:
                    self.finish(order)
                quiet = 0 if changed or ending else quiet + 1
                assert self.now < 1e6, "the world does not come to rest"

    def results(self) -> dict[tuple[str, str, str], tuple[object, ...]]:
        """Give state, name and reason of every task, and what every fold holds."""
        found = {}
        for thing in self.things.values():
            for stage, task in thing.tasks.items():
                folded = sorted((self.things[c].ref.key, n) for c, n in thing.folded)
                content = folded if isinstance(self.workflow[stage], FoldStage) else []
                found[thing.ref.kind, thing.ref.key, stage] = (
                    task.state, task.fingerprint, task.reason, tuple(content),
                )  # fmt: skip
        return found


def given_up(stage: Stage, task: TaskView) -> bool:
    """Say whether a task has failed for good."""
    return task.state is TaskState.FAILED and (task.permanent or task.attempts > stage.retries)


def _withdrawn(task: TaskView) -> bool:
    return task.state in (TaskState.QUEUED, TaskState.SKIPPED, TaskState.FAILED)
