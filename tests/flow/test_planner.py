"""The laws of the engine, on random workflows, arrivals, failures, losses, restarts and changes."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.world import NEVER, Failures, World
from tomofly.flow.graph import Workflow, build_workflow
from tomofly.flow.planner import (
    Clock,
    ItemView,
    Queue,
    TaskView,
    Wait,
    group_state,
    plan,
    plan_signature,
)
from tomofly.model import (
    Completion,
    FoldStage,
    GroupStage,
    GroupState,
    ItemRef,
    MapStage,
    Outcome,
    Stage,
    SwitchableParams,
    TaskState,
    parameter,
)

KIND = "random"
SHARED = ("pixel_size_angstrom", "voltage_kv")
LAW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Params(SwitchableParams):
    """One parameter that counts, and one that does not."""

    strength: int = parameter(1, "Results depend on it")
    pace: int = parameter(1, "Results do not depend on it", affects_result=False)


def _nothing(*_: Any) -> Outcome:
    raise AssertionError("no stage runs in these tests")


def _group_of(item: ItemRef) -> str | None:
    return item.key.split("_")[0]


def _complete(state: GroupState, _params: Params) -> Completion:
    if state.done >= 3 or (state.unsettled == 0 and state.closed):
        return Completion(True, "")
    return Completion(False, f"{state.done} of 3", state.last_arrival + 1e5 if not state.closed else None)


def _stage(kind: type[Stage], name: str, consumes: str, produces: str, **values: Any) -> Stage:
    return kind(
        name=name, version="1", summary="", session_kinds=(KIND,), track=values.pop("track"),
        consumes=consumes, produces=produces, params=Params, run=_nothing, **values,
    )  # fmt: skip


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Random stages: maps on the source's items, perhaps a group with maps on it, perhaps folds on either."""
    stages: list[Stage] = []

    def maps(kind: str, prefix: str, count: int, first: tuple[str, ...]) -> list[str]:
        names = list(first)
        for i in range(count):
            needs = (
                draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)) if names else []
            )
            reads = draw(st.sampled_from([(), SHARED[:1], SHARED]))
            stages.append(
                _stage(
                    MapStage, f"{prefix}{i}", kind, kind, needs=tuple(needs), track=f"track{i % 2}",
                    reads={"microscope": reads} if reads else {}, retries=draw(st.integers(0, 2)),
                )
            )  # fmt: skip
            names.append(f"{prefix}{i}")
        return names

    roots = maps("raw", "a", draw(st.integers(1, 4)), ())
    if draw(st.booleans()):
        need = draw(st.sampled_from(roots))
        stages.append(
            _stage(
                GroupStage, "group", "raw", "group", needs=(need,), track="track0",
                member_of=_group_of, complete=_complete,
            )
        )  # fmt: skip
        grouped = maps("group", "b", draw(st.integers(0, 2)), ("group",))
        if draw(st.booleans()):
            need = draw(st.sampled_from(grouped))
            stages.append(_stage(FoldStage, "late", "group", "late", needs=(need,), track="track1", every=2))
    if draw(st.booleans()):
        need = draw(st.sampled_from(roots))
        stages.append(_stage(FoldStage, "fold", "raw", "fold", needs=(need,), track="track1", every=3))
    return build_workflow(KIND, draw(st.permutations(stages)))


KEYS = [f"{group}_{i}" for group in "AB" for i in range(3)] + ["AB_0"]


def _failures(workflow: Workflow, chance: random.Random) -> Failures:
    """Some maps and groups fail: for good, or a few times."""
    return {
        (stage.name, key): chance.choice([NEVER, 1, 2, 9])
        for stage in workflow.stages
        if not isinstance(stage, FoldStage)
        for key in (*KEYS, "A", "B")
        if chance.random() < 0.12
    }


def _disturb(world: World, chance: random.Random, contents: dict[str, str], steps: int) -> None:
    """Arrivals, work, losses, crashes and changes in a random order."""
    pending = list(contents)
    chance.shuffle(pending)
    stages = [stage.name for stage in world.workflow.stages]
    for _ in range(steps):
        world.now += chance.choice([0.1, 3.0, 50.0])
        act = chance.choice(["arrive", "plan", "plan", "take", "take", "finish", "lose", "odd"])
        if act == "arrive" and pending:
            key = pending.pop()
            world.arrive(key, contents[key])
        elif act == "plan" and world.things:
            some = set(chance.sample(sorted(world.things), chance.randint(1, len(world.things))))
            for level in world.levels():
                if some.intersection(level):
                    world.decide(sorted(some.intersection(level)))
        elif act == "take":
            world.take(lambda queued: [task for task in queued if chance.random() < 0.5])
        elif act in ("finish", "lose") and world.running:
            order = chance.choice(world.running)
            (world.finish if act == "finish" else world.lose)(order)
        elif act == "odd":
            _change_something(world, chance, contents, pending, stages)
    for key in pending:
        world.arrive(key, contents[key])


def _change_something(
    world: World, chance: random.Random, contents: dict[str, str], pending: list[str], stages: list[str]
) -> None:
    act = chance.choice(["crash", "strength", "shared", "switch", "rewrite", "close"])
    if act == "crash":
        world.crash()
    elif act == "strength":
        world.change(chance.choice(stages), "strength", chance.randint(1, 2))
    elif act == "shared":
        world.change("microscope", chance.choice(SHARED), float(chance.randint(50, 51)))
    elif act == "switch":
        world.change(chance.choice(stages), "enabled", chance.random() < 0.6)
    elif act == "rewrite" and len(pending) < len(contents):
        key = chance.choice([key for key in contents if key not in pending])
        contents[key] += "'"
        world.arrive(key, contents[key])
    elif act == "close":
        world.closed = chance.random() < 0.5


def _batch(world: World, contents: dict[str, str]) -> World:
    batch = World(world.workflow, world.failures, {k: dict(v) for k, v in world.document.items()})
    for key, content in contents.items():
        batch.arrive(key, content)
    batch.settle()
    return batch


def _finished(workflow: Workflow, failures: Failures | None = None) -> World:
    world = World(workflow, failures or {})
    for key in KEYS:
        world.arrive(key, f"content of {key}")
    world.settle()
    world.ran.clear()
    return world


SEEDS = st.integers(0, 2**32)


@settings(LAW, max_examples=100)
@given(workflows(), SEEDS, st.integers(0, 80))
def test_stream_equals_batch(workflow: Workflow, seed: int, steps: int) -> None:
    chance = random.Random(seed)
    contents = {key: f"content of {key}" for key in KEYS}
    world = World(workflow, _failures(workflow, chance))
    _disturb(world, chance, contents, steps)
    world.settle()
    assert world.results() == _batch(world, contents).results()


@LAW
@given(workflows(), SEEDS)
def test_at_rest_every_task_is_done_or_failed_or_skipped_with_a_reason(workflow: Workflow, seed: int) -> None:
    world = _finished(workflow, _failures(workflow, random.Random(seed)))
    for thing in world.things.values():
        for stage in workflow.stages_for(thing.ref.kind):
            task = thing.tasks.get(stage.name)
            if task is None:
                assert isinstance(stage, FoldStage), f"nothing is said of {stage.name} on {thing.ref.key}"
                continue
            assert task.state.settled
            assert task.reason or task.state is TaskState.DONE


@LAW
@given(workflows(), SEEDS, st.integers(0, 60))
def test_deciding_twice_decides_the_same_and_a_decision_is_made_once(
    workflow: Workflow, seed: int, steps: int
) -> None:
    chance = random.Random(seed)
    contents = {key: f"content of {key}" for key in KEYS}
    world = World(workflow, _failures(workflow, chance))
    _disturb(world, chance, contents, steps)
    for part in world.levels():
        decisions = world.plan(part)
        assert world.plan(part) == decisions
        world.decide(part)
        assert [d for d in world.plan(part) if not isinstance(d, Wait)] == []


@LAW
@given(workflows())
def test_a_finished_session_is_left_as_it_is(workflow: Workflow) -> None:
    world = _finished(workflow)
    before = world.results()
    for closed in (False, True):
        world.closed = closed
        assert [d for d in world.plan() if not isinstance(d, Wait)] == []
    world.settle()
    assert world.results() == before and not world.ran


@LAW
@given(workflows(), st.sampled_from(KEYS))
def test_one_item_never_holds_up_another(workflow: Workflow, hung: str) -> None:
    world = World(workflow)
    for key in KEYS:
        world.arrive(key, f"content of {key}")
    world.settle(hung=hung, close=False)
    for thing in world.things.values():
        if thing.ref.kind == "raw" and thing.ref.key != hung:
            assert all(task.state is TaskState.DONE for task in thing.tasks.values())
            assert len(thing.tasks) == len(workflow.stages_for("raw"))


@LAW
@given(workflows(), SEEDS)
def test_a_task_is_tried_no_more_often_than_its_stage_allows(workflow: Workflow, seed: int) -> None:
    failures = _failures(workflow, random.Random(seed))
    world = _finished(workflow, failures)
    for (key, stage, _), times in world.tried.items():
        fails = failures.get((stage, key), 0)
        allowed = workflow[stage].retries + 1
        assert times <= (1 if fails == NEVER else min(allowed, fails + 1)) or isinstance(
            workflow[stage], FoldStage
        )


@LAW
@given(workflows(), SEEDS)
def test_retries_wait_longer_each_time(workflow: Workflow, seed: int) -> None:
    chance = random.Random(seed)
    root = next(stage for stage in workflow.stages if not stage.needs)
    world = World(workflow, {(root.name, "A_0"): 9})
    world.arrive("A_0", "content")
    waits = []
    for _ in range(root.retries + 1):
        world.decide()
        world.take(lambda queued: queued)
        world.finish(world.running[0])
        waits += [
            d.wake_at - world.now
            for d in world.plan()
            if d.stage == root.name and isinstance(d, Wait) and d.wake_at
        ]
        world.now += 1000.0 + chance.random()
    assert waits == sorted(waits) and len(waits) == len(set(waits)) == root.retries


def _dependents(workflow: Workflow, touched: set[str]) -> set[str]:
    """The stages that take in the results of these, near or far: by walking the needs, not by names."""
    reached = set(touched)
    for stage in workflow.stages:
        if reached & set(stage.needs):
            reached.add(stage.name)
    return reached


@LAW
@given(workflows(), st.data())
def test_a_changed_parameter_redoes_exactly_what_depends_on_it(
    workflow: Workflow, data: st.DataObject
) -> None:
    world = _finished(workflow)
    before = world.results()
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from([stage.name for stage in workflow.stages]))
        world.change(name, "strength", 7)
        touched = {name}
    else:
        name = data.draw(st.sampled_from(SHARED))
        world.change("microscope", name, 77.0)
        touched = {s.name for s in workflow.stages if name in s.reads.get("microscope", ())}
    world.settle()
    assert {stage for _, stage in world.ran} == _dependents(workflow, touched)
    maps = {s.name for s in workflow.stages if isinstance(s, MapStage)}
    assert all(times == 1 for (_, stage), times in world.ran.items() if stage in maps)
    after = world.results()
    for (kind, key, stage), result in before.items():
        assert (after[kind, key, stage] == result) == (stage not in _dependents(workflow, touched))


@LAW
@given(workflows(), st.data())
def test_a_parameter_that_affects_no_result_redoes_nothing(workflow: Workflow, data: st.DataObject) -> None:
    world = _finished(workflow)
    world.change(data.draw(st.sampled_from([s.name for s in workflow.stages])), "pace", 9)
    assert [d for d in world.plan() if not isinstance(d, Wait)] == []


@LAW
@given(workflows(), st.data(), st.booleans())
def test_a_setting_that_is_changed_back_gives_the_same_results(
    workflow: Workflow, data: st.DataObject, rest: bool
) -> None:
    world = _finished(workflow)
    before = world.results()
    name = data.draw(st.sampled_from([stage.name for stage in workflow.stages]))
    world.change(name, "strength", 7)
    if rest:
        world.settle()
    else:
        world.decide()
        world.take(lambda queued: queued[::2])
    world.change(name, "strength", 1)
    world.settle()
    assert world.results() == before


@LAW
@given(workflows(), st.data())
def test_a_stage_switched_off_skips_what_needs_it_and_comes_back(
    workflow: Workflow, data: st.DataObject
) -> None:
    world = _finished(workflow)
    before = world.results()
    name = data.draw(st.sampled_from([stage.name for stage in workflow.stages]))
    world.change(name, "enabled", False)
    world.settle()
    off = _dependents(workflow, {name})
    for (_, _, stage), (state, _, reason, _) in world.results().items():
        if stage == name:
            assert (state, reason) == (TaskState.SKIPPED, f"{name} is switched off in the settings")
        elif not isinstance(workflow[stage], FoldStage):
            assert (state is TaskState.SKIPPED) == (stage in off)
    world.change(name, "enabled", True)
    world.settle()
    assert world.results() == before


@LAW
@given(workflows())
def test_new_content_redoes_that_item_and_what_gathers_it(workflow: Workflow) -> None:
    world = _finished(workflow)
    world.arrive("A_1", "other content")
    world.settle()
    kinds = {"raw": "A_1", "group": "A"}
    for key, stage in world.ran:
        kind = workflow.item_kind[stage]
        assert key == kinds.get(kind, key)
    assert {stage for _, stage in world.ran} == {s.name for s in workflow.stages}


@LAW
@given(workflows())
def test_a_new_version_of_a_stage_makes_its_results_stale(workflow: Workflow) -> None:
    world = _finished(workflow)
    stages = tuple(replace(s, version="2") if s is workflow.stages[0] else s for s in workflow.stages)
    world.workflow = Workflow(workflow.kind, stages)
    assert workflow.stages[0].name in {d.stage for d in world.plan() if isinstance(d, Queue)}


@LAW
@given(workflows(), st.data())
def test_what_a_plan_depends_on_has_a_name(workflow: Workflow, data: st.DataObject) -> None:
    world = World(workflow)
    first = plan_signature(workflow, world.by_track())
    assert plan_signature(workflow, world.by_track()) == first
    stage = data.draw(st.sampled_from(workflow.stages))
    world.change(stage.name, data.draw(st.sampled_from(["strength", "pace"])), 5)
    assert plan_signature(workflow, world.by_track()) != first


def test_an_empty_session_has_nothing_to_decide() -> None:
    workflow = build_workflow(KIND, [_stage(MapStage, "a", "raw", "raw", track="t")])
    assert plan(workflow, [], World(workflow).by_track(), Clock(0.0)) == []


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_fold_runs_when_enough_new_elements_wait(every: int) -> None:
    fold = _stage(FoldStage, "fold", "raw", "fold", needs=("a",), track="t", every=every)
    world = World(build_workflow(KIND, [_stage(MapStage, "a", "raw", "raw", track="t"), fold]))
    for count, key in enumerate(KEYS, 1):
        world.arrive(key, key)
        world.settle(close=False)
        assert world.ran["fold", "fold"] == count // every


def _asked(item: ItemView, now: float = 100.0) -> bool:
    workflow = build_workflow(
        KIND,
        [
            _stage(MapStage, "a0", "raw", "raw", track="track0"),
            _stage(
                GroupStage, "group", "raw", "group", needs=("a0",), track="track0", member_of=_group_of,
                complete=_complete,
            ),
        ],
    )  # fmt: skip
    stage = workflow["group"]
    assert isinstance(stage, GroupStage)
    return group_state(stage, item, Clock(now)).requested


def test_the_wish_to_process_now_holds_until_it_is_fulfilled_and_more_has_come() -> None:
    item = ItemView(1, ItemRef("A", "group"), last_arrival=10.0)
    assert not _asked(item)
    asked = replace(item, requested_at=20.0)
    assert _asked(asked)
    assert _asked(replace(asked, last_arrival=25.0)), "what comes before the wish is fulfilled goes with it"
    made = replace(asked, tasks={"group": TaskView(TaskState.DONE, "w", "w", "w", settled_at=30.0)})
    assert _asked(made), "other settings make the same members again at once"
    assert not _asked(replace(made, last_arrival=40.0)), "a late member is waited for by the rule again"
    some = replace(made, tasks={"group": TaskView(TaskState.DONE, settled_at=30.0, mode="provisional")})
    assert _asked(replace(some, last_arrival=40.0)), "a provisional result fulfils no wish"
