"""Motors obey the laws of motion; patterns, triggers and what goes wrong with frames."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.simulate.beamline.autopilot import Autopilot
from tomofly.simulate.beamline.faults import Delivery, Wishes
from tomofly.simulate.beamline.motion import (
    Motion,
    Motor,
    at_rest,
    jogged,
    moved,
    next_crossing,
    stopped,
)
from tomofly.simulate.beamline.schedule import SETTLING_S, Periodic, StepAndStop

places = st.floats(-400, 400)
speeds = st.floats(0.5, 300)
accelerations = st.floats(1, 2000)
gaps = st.floats(0.0, 20.0)
orders = st.lists(
    st.tuples(st.sampled_from(["move", "jog", "stop"]), gaps, places, speeds, accelerations),
    min_size=1,
    max_size=6,
)


def carry_out(steps: list[tuple[str, float, float, float, float]]) -> tuple[Motion, float, float]:
    """The motion that orders make, when the last was given, and the largest acceleration among them."""
    motion, now = at_rest(0.0), 0.0
    for name, gap, place, speed, acceleration in steps:
        now += gap
        if name == "move":
            motion = moved(motion, now, place, speed, acceleration)
        elif name == "jog":
            motion = jogged(motion, now, math.copysign(speed, place), acceleration)
        else:
            motion = stopped(motion, now, acceleration)
    return motion, now, max(step[4] for step in steps)


@given(steps=orders)
def test_position_and_velocity_never_jump(steps: list[Any]) -> None:
    motion, _, largest = carry_out(steps)
    for leg, following in zip(motion.legs[1:], motion.legs[2:], strict=False):
        position, velocity = leg.at(following.start_s)
        assert following.start_s >= leg.start_s
        assert position == pytest.approx(following.position, abs=1e-6)
        assert velocity == pytest.approx(following.velocity, abs=1e-6)
        assert abs(leg.acceleration) <= largest


@given(steps=orders, target=places, speed=speeds, acceleration=accelerations)
def test_a_move_ends_at_its_target_at_rest(
    steps: list[Any], target: float, speed: float, acceleration: float
) -> None:
    before, now, _ = carry_out(steps)
    motion = moved(before, now + 1.0, target, speed, acceleration)
    assert motion.at(motion.ends_at) == (target, 0.0)
    assert motion.at(motion.ends_at + 5.0) == (target, 0.0)
    initial = abs(motion.at(now + 1.0)[1])
    for moment in np.linspace(now + 1.0, motion.ends_at, 30):
        assert abs(motion.at(moment)[1]) <= max(speed, initial) + 1e-6


@given(target=places, speed=speeds, acceleration=accelerations)
def test_a_move_from_rest_takes_the_time_of_a_trapezium(
    target: float, speed: float, acceleration: float
) -> None:
    motion = moved(at_rest(0.0), 3.0, target, speed, acceleration)
    way = abs(target)
    if way > speed**2 / acceleration:
        expected = way / speed + speed / acceleration
    else:
        expected = 2 * math.sqrt(way / acceleration)
    assert motion.ends_at - 3.0 == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(steps=orders)
def test_the_past_does_not_change(steps: list[Any]) -> None:
    motion, now, _ = carry_out(steps)
    later = moved(motion, now + 2.0, 17.0, 10.0, 100.0)
    for moment in np.linspace(0, now + 1.999, 20):
        assert later.at(moment) == motion.at(moment)


@given(steps=orders, start=st.floats(-5, 5), step=st.floats(0.05, 30))
def test_crossings_lie_on_the_grid_and_none_is_left_out(steps: list[Any], start: float, step: float) -> None:
    motion, now, _ = carry_out(steps)
    after, end = now, now + 3.0
    found = []
    while len(found) < 40:
        crossing = next_crossing(motion, after, start, step)
        if crossing is None or crossing > end:
            break
        found.append(crossing)
        after = crossing
    for crossing in found:
        share = (motion.at(crossing)[0] - start) / step
        assert share == pytest.approx(round(share), abs=1e-5)
    # Between two crossings the position stays within one cell of the grid.
    for before, following in itertools.pairwise(found):
        middle = (motion.at((before + following) / 2)[0] - start) / step
        assert abs(middle - round((motion.at(before)[0] - start) / step)) <= 1 + 1e-6


def test_a_motor_keeps_its_place_when_it_is_called_by_another_number() -> None:
    motor = Motor(0.0, 10.0, 100.0)
    motor.move(400.0, 1.0)
    assert motor.call_it(40.0, 100.0) == pytest.approx(-360.0)
    assert motor.motion.at(100.0)[0] == pytest.approx(40.0)
    assert not motor.is_moving(100.0)
    motor.jog(-1, 101.0)
    assert motor.is_moving(200.0)


def test_back_and_forth_turns_at_the_ends_however_late_it_is_looked_at() -> None:
    motor = Motor(0.0, 1.0, 720.0)
    pilot = Autopilot(motor, "back-and-forth", 90.0)
    for moment in np.arange(100.0, 130.0, 0.31):
        pilot.steer(float(moment))
    way = np.array([motor.motion.at(t)[0] for t in np.arange(100.0, 125.0, 0.01)])
    assert way.min() == pytest.approx(0.0, abs=1e-6)
    assert way.max() == pytest.approx(180.0, abs=0.1)
    turn = 180 / 90 + 90 / 720
    assert motor.motion.at(100.0 + 5 * turn)[0] == pytest.approx(180.0, abs=1e-6)


@pytest.mark.parametrize("pattern", ["interlaced", "golden"])
def test_patterns_that_stop_expose_at_rest(pattern: Any) -> None:
    motor = Motor(0.0, 180.0, 720.0)
    schedule = StepAndStop(motor, pattern, 180.0)
    after, angles = 50.0, []
    for _ in range(12):
        begin = schedule.next_begin(after)
        assert begin >= after + SETTLING_S
        assert schedule.next_begin(after) == begin
        angles.append(motor.motion.at(begin)[0])
        assert motor.motion.at(begin)[1] == motor.motion.at(begin + 0.01)[1] == 0.0
        after = begin + 0.01
    assert len(set(angles)) == 12


@given(first=st.floats(0, 1e9), period=st.floats(1e-3, 10), number=st.integers(0, 10**6))
def test_periods_do_not_drift(first: float, period: float, number: int) -> None:
    schedule = Periodic(first, period)
    begin = schedule.next_begin(first + (number + 0.3) * period)
    assert begin == pytest.approx(first + (number + 1) * period, abs=1e-6 * max(period, 1))


def sent(wishes: Wishes, frames: int, **more: Any) -> tuple[Delivery, list[int]]:
    delivery = Delivery(wishes=wishes, **more)
    ids = [delivery.unique_id(n) for number in range(1, frames + 1) for n in delivery.leaving(number)]
    return delivery, ids


def test_losses_are_those_that_were_asked_for() -> None:
    delivery, ids = sent(Wishes(drop="periodic", drop_period=10), 100)
    assert delivery.dropped == list(range(10, 101, 10))
    assert sorted(ids + delivery.dropped) == list(range(1, 101))
    delivery, ids = sent(Wishes(drop="burst", drop_period=20, drop_burst=3), 60)
    assert delivery.dropped == [1, 2, 20, 21, 22, 40, 41, 42, 60]
    delivery, ids = sent(Wishes(drop="random", drop_share=0.2), 2000)
    assert 300 < len(delivery.dropped) < 500
    assert sorted(ids + delivery.dropped) == list(range(1, 2001))


def test_ids_wrap_at_16_and_at_32_bits_and_begin_anew() -> None:
    _, ids = sent(Wishes(wrap_16_bits=True), 4, first_id=65534)
    assert ids == [65534, 65535, 0, 1]
    delivery, ids = sent(Wishes(), 3, first_id=2**31 - 2)
    assert ids == [2**31 - 2, 2**31 - 1, -(2**31)]
    delivery.restart_ids(3)
    assert delivery.unique_id(4) == 2**31 - 2


def test_doubles_and_wrong_order() -> None:
    delivery, _ = sent(Wishes(), 3)
    delivery.wishes.duplicate_next = True
    assert list(delivery.leaving(4)) == [4, 4]
    delivery.wishes.swap_next = True
    assert [list(delivery.leaving(number)) for number in (5, 6, 7)] == [[], [6, 5], [7]]
