"""When a trigger fires: hysteresis, values in a row, hold-off, budget, dry run. Pure: the time is given."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from tomofly.live.triggers.settings import Rule


class Verdict(StrEnum):
    """What a value led to."""

    QUIET = "quiet"
    BUILDING = "building up"
    FIRED = "fired"
    DRY = "would have fired"
    HELD_OFF = "held off"
    SPENT = "budget spent"
    DISARMED = "waits to be armed again"
    NO_VALUE = "no value"

    @property
    def starts_capture(self) -> bool:
        """Whether a capture is to be started."""
        return self is Verdict.FIRED


@dataclass(frozen=True)
class RuleState:
    """What a rule remembers. ``spent`` counts captures, and in a dry run those that would have been."""

    armed: bool = True
    in_a_row: int = 0
    spent: int = 0
    fired_at: float | None = None


def judge(rule: Rule, state: RuleState, value: float, now: float) -> tuple[RuleState, Verdict]:
    """Say what a value, measured at ``now`` in seconds, leads to, and what is remembered of it.

    A trigger that has fired is armed again once a value has gone back beyond ``rearm``. A value that is
    missing (NaN) breaks a row and arms nothing.
    """
    if math.isnan(value):
        return replace(state, in_a_row=0), Verdict.NO_VALUE
    if not _beyond(rule, value):
        return replace(state, in_a_row=0, armed=state.armed or _back(rule, value)), Verdict.QUIET
    if not state.armed:
        return state, Verdict.DISARMED
    state = replace(state, in_a_row=state.in_a_row + 1)
    kept_back = _kept_back(rule, state, now)
    if kept_back is not None:
        return state, kept_back
    fired = replace(state, armed=False, in_a_row=0, spent=state.spent + 1, fired_at=now)
    return fired, Verdict.DRY if rule.dry_run else Verdict.FIRED


def _kept_back(rule: Rule, state: RuleState, now: float) -> Verdict | None:
    """Say what keeps an armed trigger from firing although its value lies beyond the threshold."""
    if state.in_a_row < rule.consecutive:
        return Verdict.BUILDING
    if state.spent >= rule.budget:
        return Verdict.SPENT
    if state.fired_at is not None and now - state.fired_at < rule.hold_off_s:
        return Verdict.HELD_OFF
    return None


def refused(state: RuleState) -> RuleState:
    """Give the state after a capture could not be made: it costs nothing, and the trigger is armed again."""
    return replace(state, armed=True, spent=max(0, state.spent - 1))


def _beyond(rule: Rule, value: float) -> bool:
    return value > rule.threshold if rule.fires == "above" else value < rule.threshold


def _back(rule: Rule, value: float) -> bool:
    return value <= rule.rearm_at if rule.fires == "above" else value >= rule.rearm_at
