"""The planner: what to do next, as one pure function of what is known.

No clock, no files, no database: the time is an argument. All laws of the engine hang on this module.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tomofly.flow.graph import Workflow
from tomofly.model import (
    FoldStage,
    GroupStage,
    GroupState,
    ItemRef,
    MapStage,
    MemberState,
    Settings,
    Stage,
    TaskState,
    fingerprint,
    result_parameters,
)

RETRY_DELAY_S = 2.0
"""Wait before the first retry; doubled for each further one."""

Mode = Literal["", "open", "restart", "final", "provisional"]

FOLD_OPEN = "open"
"""What an open fold's result is named after: its elements are counted, not named."""


@dataclass(frozen=True)
class TaskView:
    """One task as the store has it.

    ``fingerprint`` names the committed result (None without one), ``wanted`` what was last asked for,
    ``identity`` is what downstream fingerprints take in. ``permanent``: retrying cannot help.
    """

    state: TaskState
    wanted: str | None = None
    fingerprint: str | None = None
    identity: str | None = None
    attempts: int = 0
    permanent: bool = False
    settled_at: float = 0.0
    mode: Mode = ""
    reason: str = ""


@dataclass(frozen=True)
class FoldView:
    """What waits for a fold: new elements, changed ones, and whether more may still come.

    ``redoing``: elements that the checkpoint holds are being made again, so that it will change once more.
    ``digest`` names all elements with their identities; it is given only when the stream has closed and
    every element is settled. ``checkpoint`` is the open fingerprint under which the checkpoint was made.
    """

    fresh: int = 0
    changed: bool = False
    redoing: bool = False
    unsettled: bool = False
    digest: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class ItemView:
    """An item with its tasks, and for a group or fold what it gathers.

    ``requested_at``: when a person last asked for the group to be made of what is there; 0: never.
    """

    id: int
    ref: ItemRef
    tasks: Mapping[str, TaskView] = field(default_factory=dict)
    members: tuple[MemberState, ...] = ()
    fold: FoldView = FoldView()
    last_arrival: float = 0.0
    requested_at: float = 0.0


@dataclass(frozen=True)
class Queue:
    """Run this stage on this item, to make the result named ``wanted``."""

    item: int
    stage: str
    wanted: str
    attempt: int = 1
    mode: Mode = ""


@dataclass(frozen=True)
class Skip:
    """This stage cannot run on this item as things stand, and why."""

    item: int
    stage: str
    reason: str


@dataclass(frozen=True)
class Wait:
    """Nothing to run yet; ask again when something changes, or at ``wake_at``."""

    item: int
    stage: str
    reason: str
    wake_at: float | None = None


Decision = Queue | Skip | Wait


@dataclass(frozen=True)
class Clock:
    """The moment of planning: the time, whether the stream has closed, and what folds have said."""

    now: float
    closed: bool = False
    said: Mapping[str, str] = field(default_factory=dict)


def plan(
    workflow: Workflow, items: Iterable[ItemView], settings: Mapping[str, Settings], clock: Clock
) -> list[Decision]:
    """Decide what to do for each of the given items.

    ``settings`` holds the settings in force for each track. Deciding twice on the same views gives the
    same decisions; a decision that would change nothing is not made.
    """
    return [decision for item in items for decision in _plan_item(workflow, item, settings, clock)]


def expected_fingerprint(stage: Stage, settings: Settings, inputs: object) -> str:
    """Name the result that ``stage`` makes of ``inputs`` (identities, or the content of a source)."""
    shared = {
        section: result_parameters(settings[section], names) for section, names in sorted(stage.reads.items())
    }
    own = result_parameters(settings[stage.name])
    return fingerprint(stage.name, stage.version, own, shared, inputs)


def map_inputs(
    stage: Stage, identities: Sequence[str], item: ItemRef, said: Mapping[str, str] | None = None
) -> object:
    """Say what the result of a stage on one item is named after; ``said``: by folds, by their names."""
    read = [[item.attributes.get(name) for name in stage.attributes]] if stage.attributes else []
    if not stage.needs:
        return [item.content, *read] if read else item.content
    if not isinstance(stage, MapStage):
        return [*identities, *read]
    heard = [[(said or {}).get(name, "") for name in stage.follows]] if stage.follows else []
    return [*identities, *([item.content] if stage.follows_source else []), *read, *heard]


def final_inputs(digest: str) -> list[str]:
    """Say what the final result of a fold is named after, given the digest of its elements."""
    return ["final", digest]


def plan_signature(workflow: Workflow, settings: Mapping[str, Settings]) -> str:
    """Name everything but the items that a plan depends on: while it is the same, old plans stand."""
    stages = [
        (stage.name, stage.retries, is_enabled(stage, settings[stage.track]),
         settings[stage.track][stage.name].model_dump(mode="json"),
         expected_fingerprint(stage, settings[stage.track], ""))
        for stage in workflow.stages
    ]  # fmt: skip
    return fingerprint(workflow.kind, stages)


def is_enabled(stage: Stage, settings: Settings) -> bool:
    """Say whether the settings switch the stage on."""
    return bool(getattr(settings[stage.name], "enabled", True))


def _plan_item(
    workflow: Workflow, item: ItemView, settings: Mapping[str, Settings], clock: Clock
) -> Iterator[Decision]:
    ready: dict[str, str] = {}
    hopeless: dict[str, str] = {}
    for stage in workflow.stages_for(item.ref.kind):
        task = item.tasks.get(stage.name)
        decision = _plan_task(stage, task, item, settings[stage.track], clock, ready, hopeless)
        if isinstance(decision, Skip):
            hopeless[stage.name] = f"{stage.name} was skipped"
        elif isinstance(decision, str):
            hopeless[stage.name] = decision
        if decision is None and task is not None and task.identity is not None:
            ready[stage.name] = task.identity
            if isinstance(stage, GroupStage) and task.mode == "provisional":
                yield _until_complete(stage, item, settings[stage.track], clock)
        elif not isinstance(decision, str | None) and not _is_known(decision, task):
            yield decision


def _plan_task(
    stage: Stage,
    task: TaskView | None,
    item: ItemView,
    settings: Settings,
    clock: Clock,
    ready: Mapping[str, str],
    hopeless: Mapping[str, str],
) -> Decision | str | None:
    """Decide on one task. None: its result stands. A string: it has failed for good, and why."""
    if not is_enabled(stage, settings):
        return Skip(item.id, stage.name, f"{stage.name} is switched off in the settings")
    if isinstance(stage, FoldStage):
        return _plan_fold(stage, task, item, settings, clock)
    if isinstance(stage, GroupStage):
        return _plan_group(stage, task, item, settings, clock)
    for need in stage.needs:
        if need in hopeless:
            return Skip(item.id, stage.name, hopeless[need])
        if need not in ready:
            return Wait(item.id, stage.name, f"waits for {need}")
    inputs = map_inputs(stage, [ready[need] for need in stage.needs], item.ref, clock.said)
    return _pursue(stage, task, item, expected_fingerprint(stage, settings, inputs), clock)


def _pursue(
    stage: Stage, task: TaskView | None, item: ItemView, wanted: str, clock: Clock, mode: Mode = ""
) -> Decision | str | None:
    """Decide on a task whose inputs are there: keep its result, wait for it, try it, or give it up."""
    if task is None or task.wanted != wanted or task.state in (TaskState.WAITING, TaskState.SKIPPED):
        return Queue(item.id, stage.name, wanted, mode=mode)
    if task.state is TaskState.FAILED:
        return _after_failure(stage, task, item, clock, mode)
    if task.state is TaskState.DONE:
        return None if task.fingerprint == wanted else Queue(item.id, stage.name, wanted, mode=mode)
    return Wait(item.id, stage.name, "")


def _after_failure(stage: Stage, task: TaskView, item: ItemView, clock: Clock, mode: Mode) -> Decision | str:
    if task.permanent or task.attempts > stage.retries:
        return f"{stage.name} failed"
    due = task.settled_at + RETRY_DELAY_S * 2 ** max(task.attempts - 1, 0)
    if clock.now < due:
        return Wait(item.id, stage.name, "waits to be tried again", due)
    return Queue(item.id, stage.name, task.wanted or "", task.attempts + 1, mode)


def _plan_group(
    stage: GroupStage, task: TaskView | None, item: ItemView, settings: Settings, clock: Clock
) -> Decision | str | None:
    done = [m for m in item.members if m.state is TaskState.DONE]
    wanted = expected_fingerprint(stage, settings, group_inputs(stage, done))
    if task is not None and task.wanted == wanted:
        return _pursue(stage, task, item, wanted, clock)
    state = group_state(stage, item, clock)
    completion = stage.complete(state, settings[stage.name])
    if completion.ready:
        if not done:
            return Skip(item.id, stage.name, "no member has a result")
        return Queue(item.id, stage.name, wanted)
    # A result of all members stands until there is another: it is not replaced by one of a few.
    if task is None or task.mode == "provisional" or task.fingerprint is None:
        some = provisional_inputs(stage, state, settings)
        if some is not None:
            return _pursue(
                stage, task, item, expected_fingerprint(stage, settings, some), clock, "provisional"
            )
    return Wait(item.id, stage.name, completion.reason, completion.wake_at)


def _until_complete(stage: GroupStage, item: ItemView, settings: Settings, clock: Clock) -> Wait:
    """Say what a group waits for whose provisional result stands."""
    completion = stage.complete(group_state(stage, item, clock), settings[stage.name])
    return Wait(item.id, stage.name, completion.reason, completion.wake_at)


def group_state(stage: GroupStage, item: ItemView, clock: Clock) -> GroupState:
    """Give what a group's rule may look at."""
    wish = _is_requested(item, item.tasks.get(stage.name))
    return GroupState(item.ref.key, item.members, item.last_arrival, clock.now, clock.closed, wish)


def _is_requested(item: ItemView, task: TaskView | None) -> bool:
    """Say whether the wish to go on with what is there holds: until it was fulfilled and more has come."""
    if not item.requested_at:
        return False
    fulfilled = task is not None and task.mode != "provisional" and task.settled_at >= item.requested_at
    return not fulfilled or item.last_arrival <= item.requested_at


def group_inputs(stage: GroupStage, members: Iterable[MemberState]) -> list[tuple[object, ...]]:
    """Say what the result of a group is named after: its members, with what it reads of their attributes."""
    own = [
        (m.key, m.identity, *([[m.attributes.get(n) for n in stage.attributes]] if stage.attributes else []))
        for m in members
    ]
    return sorted(own, key=lambda row: str(row[0]))


def provisional_inputs(stage: GroupStage, state: GroupState, settings: Settings) -> list[object] | None:
    """Say what a provisional result of a group is named after; None while there is too little for one."""
    chosen = partial_members(stage, state, settings)
    return ["provisional", *group_inputs(stage, chosen)] if chosen else None


def partial_members(stage: GroupStage, state: GroupState, settings: Settings) -> list[MemberState]:
    """Give the members of which the group makes its provisional result."""
    if stage.partial is None:
        return []
    keys = set(stage.partial(state, settings[stage.name]))
    return [m for m in state.members if m.key in keys and m.state is TaskState.DONE]


def _plan_fold(
    stage: FoldStage, task: TaskView | None, item: ItemView, settings: Settings, clock: Clock
) -> Decision | str | None:
    view = item.fold
    if view.digest is not None:
        return _pursue(
            stage,
            task,
            item,
            expected_fingerprint(stage, settings, final_inputs(view.digest)),
            clock,
            "final",
        )
    wanted = expected_fingerprint(stage, settings, FOLD_OPEN)
    if task is not None and task.state in (TaskState.QUEUED, TaskState.RUNNING) and task.wanted == wanted:
        return Wait(item.id, stage.name, "")
    if task is not None and task.state is TaskState.FAILED and task.wanted == wanted:
        return _pursue(stage, task, item, wanted, clock, task.mode)
    return _go_on(stage, item, wanted)


def _go_on(stage: FoldStage, item: ItemView, wanted: str) -> Decision:
    """Decide on an open fold at rest: begin anew, take in new elements, or wait for more of them."""
    view = item.fold
    if view.checkpoint is not None and (view.changed or view.checkpoint != wanted):
        if view.redoing:
            return Wait(item.id, stage.name, "its elements are being made again")
        return Queue(item.id, stage.name, wanted, mode="restart")
    if view.fresh < stage.every:
        return Wait(item.id, stage.name, f"{view.fresh} of {stage.every} new elements")
    return Queue(item.id, stage.name, wanted, mode="open" if view.checkpoint else "restart")


def _is_known(decision: Decision, task: TaskView | None) -> bool:
    """Say whether a decision would change nothing."""
    if isinstance(decision, Wait):
        return not decision.reason
    if isinstance(decision, Skip):
        return task is not None and task.state is TaskState.SKIPPED and task.reason == decision.reason
    return False
