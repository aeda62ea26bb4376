"""Laws of the rule that says when a trigger fires."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tomofly.live.triggers.rules import RuleState, Verdict, judge, refused
from tomofly.live.triggers.settings import Rule

VALUES = st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), max_size=80)


def verdicts(rule: Rule, values: list[float], step_s: float = 1.0) -> list[Verdict]:
    state, found = RuleState(), []
    for number, value in enumerate(values):
        state, verdict = judge(rule, state, value, number * step_s)
        found.append(verdict)
    return found


def test_it_fires_once_the_value_has_stayed_beyond_and_not_again_before_it_was_back() -> None:
    rule = Rule(threshold=1.0, rearm=0.5, consecutive=3, hold_off_s=0)
    found = verdicts(rule, [0, 2, 2, 2, 2, 0.8, 2, 2, 2, 0.4, 2, 2, 2])
    assert [number for number, verdict in enumerate(found) if verdict is Verdict.FIRED] == [3, 12]
    assert found[8] is Verdict.DISARMED, "0.8 is below the threshold, yet not back at 0.5"


def test_one_value_alone_is_no_event() -> None:
    rule = Rule(threshold=1.0, consecutive=2, hold_off_s=0)
    assert Verdict.FIRED not in verdicts(rule, [0, 2, 0, 2, math.nan, 2, 0])


def test_falling_below_fires_as_rising_above_does() -> None:
    values = [0.0, 2, 2, 0.1, 3, 3]
    above = verdicts(Rule(threshold=1.0, consecutive=2, hold_off_s=0), values)
    below = verdicts(
        Rule(threshold=-1.0, fires="below", consecutive=2, hold_off_s=0), [-value for value in values]
    )
    assert above == below


@given(VALUES, st.integers(1, 4), st.floats(0, 20), st.integers(1, 5), st.booleans())
def test_budget_and_hold_off_are_kept_whatever_comes(
    values: list[float], consecutive: int, hold_off: float, budget: int, dry: bool
) -> None:
    rule = Rule(threshold=0.0, consecutive=consecutive, hold_off_s=hold_off, budget=budget, dry_run=dry)
    found = verdicts(rule, values)
    fired = [n for n, verdict in enumerate(found) if verdict in (Verdict.FIRED, Verdict.DRY)]
    assert len(fired) <= budget
    assert all(later - sooner >= hold_off for sooner, later in pairwise(fired))
    for number in fired:
        assert all(value > 0 for value in values[number - consecutive + 1 : number + 1])
    if dry:
        assert not any(verdict.starts_capture for verdict in found)


@given(VALUES)
def test_a_dry_run_would_fire_just_where_the_other_fires(values: list[float]) -> None:
    real = verdicts(Rule(threshold=0.0, hold_off_s=3), values)
    dry = verdicts(Rule(threshold=0.0, hold_off_s=3, dry_run=True), values)
    assert [Verdict.FIRED if v is Verdict.DRY else v for v in dry] == real


def test_a_capture_that_could_not_be_made_costs_no_budget() -> None:
    rule = Rule(threshold=0.0, consecutive=1, hold_off_s=0, budget=1)
    state, verdict = judge(rule, RuleState(), 1.0, 0.0)
    assert verdict is Verdict.FIRED
    assert judge(rule, refused(state), 1.0, 1.0)[1] is Verdict.FIRED
    assert judge(rule, state, 1.0, 1.0)[1] is Verdict.DISARMED


@pytest.mark.parametrize(("fires", "rearm"), [("above", 1.5), ("below", 0.5)])
def test_a_rule_that_is_armed_again_where_it_fires_is_refused(fires: str, rearm: float) -> None:
    with pytest.raises(ValidationError, match="rearm must not lie"):
        Rule.model_validate({"threshold": 1.0, "fires": fires, "rearm": rearm})
