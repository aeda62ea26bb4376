"""When a series is complete, and what it says that it waits for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.model import GroupState, MemberState, TaskState
from tomofly.model.settings import Settings
from tomofly.stages.tilts.rules import ComposeParams, complete, provisional, series_of

BEGAN = 1_684_000_000.0


def member(n: int, state: TaskState = TaskState.DONE, **attributes: Any) -> MemberState:
    known = {"order": n, "written_at": BEGAN + 20.0 * n, "found": None, "expected": None, "not_found": 0}
    return MemberState(f"TS_01_{n:03d}", state, "identity", {**known, **attributes})


def state(
    count: int, *, failed: int = 0, busy: int = 0, now: float = 0.0, closed: bool = False,
    requested: bool = False, **attributes: Any,
) -> GroupState:  # fmt: skip
    """Give a series of ``count`` tilts, one in 20 s; ``now``: seconds since the last."""
    states = [TaskState.FAILED] * failed + [TaskState.RUNNING] * busy
    states += [TaskState.DONE] * (count - failed - busy)
    members = tuple(member(n, s, found=count, **attributes) for n, s in enumerate(states))
    last = BEGAN + 20.0 * (count - 1)
    return GroupState("TS_01", members, last, last + now, closed, requested)


def test_a_series_is_complete_when_all_of_its_mdoc_are_there_and_it_is_quiet() -> None:
    params = ComposeParams()
    waiting = complete(state(41, now=10, expected=41), params)
    assert not waiting.ready
    assert waiting.reason == "41 of 41 tilts; complete when the mdoc has not changed for 25 s"
    assert waiting.wake_at == BEGAN + 20 * 40 + 25
    assert complete(state(41, now=25, expected=41), params).ready


def test_where_every_fourth_tilt_takes_longer_the_wait_is_for_that_one() -> None:
    waits = [20.0 if n % 4 else 44.0 for n in range(41)]
    written = [BEGAN + sum(waits[: n + 1]) for n in range(41)]
    members = tuple(member(n, expected=41, found=41, written_at=written[n]) for n in range(41))
    waiting = complete(GroupState("TS_01", members, written[-1], written[-1] + 50.0, False), ComposeParams())
    assert not waiting.ready
    assert waiting.wake_at == written[-1] + 55.0


def test_a_number_of_tilts_saves_the_wait_for_quiet() -> None:
    assert complete(state(41, now=1, expected=41), ComposeParams(tilts=41)).ready


def test_movies_that_never_come_are_waited_for_only_until_silence() -> None:
    params = ComposeParams()
    waiting = complete(state(38, now=50, expected=41, not_found=3), params)
    assert waiting.reason == (
        "38 of 41 tilts; 3 named in the mdoc have not come; goes on at silence of 120 s"
    )
    assert not waiting.ready
    done = complete(state(38, now=120, expected=41, not_found=3), params)
    assert done.ready
    assert "nothing has come for 120 s" in done.reason


def test_a_failed_tilt_never_blocks_its_series() -> None:
    for params in (ComposeParams(), ComposeParams(complete="count", tilts=41)):
        outcome = complete(state(41, failed=3, now=60, expected=41), params)
        assert outcome.ready
        assert "41 of 41 tilts (3 failed)" in outcome.reason


def test_a_tilt_that_is_being_processed_is_waited_for() -> None:
    outcome = complete(state(41, busy=1, now=500, expected=41, requested=True), ComposeParams())
    assert not outcome.ready
    assert outcome.reason == "41 of 41 tilts; 1 of them is being processed"
    assert outcome.wake_at is None


def test_by_count_a_series_is_complete_at_once() -> None:
    params = ComposeParams(complete="count", tilts=41)
    assert not complete(state(40, now=19), params).ready
    assert complete(state(41, now=0), params).ready
    assert complete(state(43, now=0), params).ready  # with two that were taken again
    assert complete(state(40, now=200), params).ready  # interrupted


def test_tilts_left_out_by_hand_count_as_having_come() -> None:
    members = tuple(member(n, found=41, expected=41) for n in range(39))
    series = GroupState("TS_01", members, BEGAN + 800, BEGAN + 800)
    assert complete(series, ComposeParams(complete="count", tilts=41)).ready


def test_silence_needs_a_minimum() -> None:
    params = ComposeParams(complete="silence", minimum_count=10)
    few = complete(state(9, now=1e6), params)
    assert not few.ready
    assert few.wake_at is None
    assert few.reason == "9 tilts; goes on with 10 tilts at least, when asked, or when the session ends"
    assert complete(state(10, now=120), params).ready


@pytest.mark.parametrize("wish", ["closed", "requested"])
def test_a_series_of_two_tilts_goes_on_when_asked_or_when_the_session_ends(wish: str) -> None:
    assert not complete(state(2, now=1e6), ComposeParams()).ready
    assert complete(state(2, **{wish: True}), ComposeParams()).ready  # type: ignore[arg-type]


def test_a_series_that_has_just_begun_is_not_taken_for_a_whole_one() -> None:
    for count in (1, 2):
        assert not complete(state(count, now=1e6, expected=count), ComposeParams()).ready
    early = complete(state(5, now=60, expected=5), ComposeParams())
    assert not early.ready
    assert complete(state(5, now=120, expected=5), ComposeParams()).ready


def test_slow_tilts_are_given_their_usual_time() -> None:
    """PACEtomo visits many places before it comes back to a series."""
    members = tuple(member(n, expected=20, found=20, written_at=BEGAN + 400.0 * n) for n in range(20))
    last = BEGAN + 400.0 * 19
    quiet = GroupState("TS_01", members, last, last + 499)
    assert not complete(quiet, ComposeParams()).ready
    assert complete(GroupState("TS_01", members, last, last + 500), ComposeParams()).ready


def test_an_mdoc_that_still_changes_is_waited_for() -> None:
    series = state(41, now=100, expected=41, mdoc_changed_at=BEGAN + 20 * 40 + 90)
    assert not complete(series, ComposeParams()).ready


def test_a_clock_that_is_ahead_is_not_believed() -> None:
    series = state(41, now=60, expected=41, mdoc_changed_at=BEGAN + 1e6)
    assert complete(series, ComposeParams()).ready


def test_without_an_mdoc_silence_ends_a_series() -> None:
    waiting = complete(state(20, now=100), ComposeParams())
    assert waiting.reason == "20 tilts; no mdoc lists them yet; goes on at silence of 120 s"
    assert complete(state(20, now=120), ComposeParams()).ready


def test_a_stack_is_complete_when_it_is_there() -> None:
    stack = MemberState("TS_01", TaskState.DONE, "i", {"views": [{"section": 0}], "order": 0})
    assert complete(GroupState("TS_01", (stack,), 5.0, 5.0), ComposeParams()).ready
    assert provisional(GroupState("TS_01", (stack,), 5.0, 5.0), ComposeParams(provisional_every=1)) == []


STATES = st.sampled_from(list(TaskState))


@given(st.lists(STATES, min_size=1, max_size=12), st.integers(0, 45), st.integers(0, 5), st.floats(0, 1e5))
def test_whatever_happens_a_closed_series_without_work_in_progress_goes_on(
    states: list[TaskState], expected: int, missing: int, now: float
) -> None:
    members = tuple(
        member(n, s, expected=expected or None, not_found=missing, found=len(states))
        for n, s in enumerate(states)
    )
    busy = any(not s.settled for s in states)
    for rule in ("mdoc", "count", "silence"):
        params = ComposeParams(complete=rule, tilts=41)
        outcome = complete(GroupState("TS", members, BEGAN, BEGAN + now, closed=True), params)
        assert outcome.ready is not busy
        assert outcome.reason
        assert outcome.wake_at is None
        later = complete(GroupState("TS", members, BEGAN, BEGAN + now), params)
        assert later.wake_at is None or later.wake_at > BEGAN + now


def test_provisional_results_are_of_whole_steps_in_the_order_of_exposure() -> None:
    params = ComposeParams(provisional_every=5)
    members = tuple(member(n, order=11 - n) for n in range(12))
    chosen = provisional(GroupState("TS_01", members, BEGAN, BEGAN), params)
    assert chosen == [f"TS_01_{n:03d}" for n in range(11, 1, -1)]
    assert provisional(GroupState("TS_01", members[:4], BEGAN, BEGAN), params) == []
    assert provisional(GroupState("TS_01", members, BEGAN, BEGAN), ComposeParams(provisional_every=0)) == []


def test_no_provisional_result_is_made_while_catching_up() -> None:
    params = ComposeParams(provisional_every=10)
    # while tilts come, one or two of them are always being processed
    assert len(provisional(state(22, busy=2, expected=22), params)) == 20
    assert provisional(state(41, busy=20, expected=41), params) == []
    # the mdoc is final: the complete result is next
    assert provisional(state(41, busy=2, now=60, expected=41), params) == []
    assert provisional(state(41, busy=2, closed=True, expected=41), params) == []
    assert provisional(state(41, busy=2, expected=41), ComposeParams(tilts=41)) == []


def test_settings_refuse_a_pattern_and_say_why() -> None:
    schema = {"compose": ComposeParams}
    good = Settings.validate("tomo", schema, {}).changed(
        ["compose.pattern={series}_{order}_{angle}", "compose.angles_deg=0,3,-3", "compose.complete=silence"]
    )
    assert good["compose"].angles_deg == (0.0, 3.0, -3.0)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"no field \{series\}"):
        good.changed(["compose.pattern={order}_{angle}"])
    with pytest.raises(Exception, match="between -90 and 90"):
        good.changed(["compose.angles_deg=0,3,120"])


def test_a_tilt_of_no_series_is_of_no_group() -> None:
    assert series_of({"series": ""}) is None
    assert series_of({}) is None
    assert series_of({"series": "TS_1"}) == "TS_1"
