"""Frames are accounted for exactly, whatever their ids do."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tomofly.live.frame_numbers import Arrival
from tomofly.live.losses import LossCounter


def numbers(ids: Iterable[int], counter: LossCounter, times: Iterable[float] | None = None) -> list[int]:
    stamps = times or iter(lambda: math.nan, None)
    return [counter.receive(unique_id, at).number for unique_id, at in zip(ids, stamps, strict=False)]


@given(first=st.integers(-(2**31), 2**31 - 1), kept=st.lists(st.booleans(), min_size=1, max_size=80))
def test_what_came_and_what_did_not_make_up_the_whole(first: int, kept: list[bool]) -> None:
    counter = LossCounter()
    sent = [first + n for n, keep in enumerate(kept) if keep]
    for number in sent:
        counter.receive((number + 2**31) % 2**32 - 2**31)
    account = counter.account()
    assert account.received == len(sent)
    assert account.received + account.missing == account.last - account.first + 1
    if sent:
        assert account.last - account.first == sent[-1] - sent[0]


@given(
    order=st.permutations(range(40)),
    repeated=st.lists(st.integers(0, 39), max_size=10),
    stamped=st.booleans(),
    lap=st.sampled_from([100, 65_520, 2**31 - 20]),
)
@example(order=list(range(40)), repeated=[16, 17], stamped=False, lap=65_520)
def test_order_and_repetition_lose_and_invent_nothing(
    order: list[int], repeated: list[int], stamped: bool, lap: int
) -> None:
    counter = LossCounter()
    # Not so far out of order that the first to come is from beyond a wrap.
    near = sorted(order, key=lambda n: (n // 4, order.index(n)))
    # From 65535 to 1 is the step of a camera that knows no 0: a 0 that comes after that came twice.
    assume(lap != 65_520 or near.index(16) < near.index(17))
    for n in [*near, *repeated]:
        unique_id = lap + n if lap < 2**16 else (lap + n + 2**31) % 2**32 - 2**31
        counter.receive(
            unique_id % 65_536 if lap == 65_520 else unique_id, 100.0 + n if stamped else math.nan
        )
    account = counter.account()
    assert (account.received, account.missing) == (40, 0)
    assert account.duplicates == len(repeated)
    assert account.last - account.first == 39


def test_sixteen_bits_wrap_to_zero_or_to_one() -> None:
    for after in (0, 1):
        counter = LossCounter()
        assert numbers([65_534, 65_535, after, after + 1], counter) == [65_534, 65_535, 65_536, 65_537]
        assert counter.account().missing == 0


def test_frames_lost_around_a_wrap_are_counted() -> None:
    counter = LossCounter()
    assert numbers([65_530, 3], counter) == [65_530, 65_539]
    assert counter.account().missing == 8


def test_a_frame_from_before_the_wrap_may_come_after_it() -> None:
    counter = LossCounter()
    assert numbers([65_534, 0, 65_535, 1], counter) == [65_534, 65_536, 65_535, 65_537]
    account = counter.account()
    assert (account.missing, account.late, account.duplicates) == (0, 1, 0)


def test_many_laps_of_sixteen_bits_are_one_line() -> None:
    counter = LossCounter()
    seen = numbers((n % 65_536 for n in range(0, 150_000, 7)), counter)
    assert seen == list(range(0, 150_000, 7))


@pytest.mark.parametrize("after", [-(2**31), 0])
def test_thirty_two_bits_wrap_to_the_least_number_or_to_zero(after: int) -> None:
    counter = LossCounter()
    end = 2**31 - 1
    assert numbers([end - 1, end, after, after + 1], counter) == [end - 1, end, end + 1, end + 2]


@pytest.mark.parametrize("anew", [0, 1, 37])
def test_a_camera_that_counts_anew_loses_nothing(anew: int) -> None:
    counter = LossCounter()
    assert numbers([8000, 8001, anew, anew + 1], counter) == [8000, 8001, 8002, 8003]
    account = counter.account()
    assert (account.restarts, account.missing) == (1, 0)


def test_time_stamps_tell_a_new_start_from_a_late_frame() -> None:
    counter = LossCounter()
    assert numbers([5, 6, 8, 7], counter, [1.0, 2.0, 4.0, 3.0]) == [5, 6, 8, 7]
    assert counter.receive(6, 5.0).arrival is Arrival.RESTART
    assert counter.receive(7, 6.0).number == 10
    account = counter.account()
    assert (account.late, account.restarts, account.missing) == (1, 1, 0)


def test_without_time_stamps_the_first_id_again_is_a_new_start() -> None:
    counter = LossCounter()
    assert numbers([100, 101, 1, 2, 3], counter) == [100, 101, 102, 103, 104]
    assert counter.account().restarts == 1


def test_a_clock_set_back_with_the_camera_is_a_new_start_too() -> None:
    counter = LossCounter()
    assert numbers([70_001, 70_002, 1, 2], counter, [1e9, 1e9 + 1, 5.0, 6.0])[-2:] == [70_003, 70_004]


def test_a_jump_no_camera_can_make_is_a_new_start() -> None:
    counter = LossCounter()
    assert numbers([10, 50_000_000, 50_000_001], counter) == [10, 11, 12]
    assert counter.account().missing == 0


def test_the_same_frame_sent_twice_is_one_frame() -> None:
    counter = LossCounter()
    assert counter.receive(4, 1.0).arrival is Arrival.NEXT
    assert counter.receive(4, 1.0).arrival is Arrival.DUPLICATE
    assert counter.account().received == 1


def test_a_lap_is_known_until_the_camera_starts_anew() -> None:
    counter = LossCounter()
    assert [counter.receive(n).lap for n in (65_535, 0, 1, 40_000, 12)] == [0, 65_536, 65_536, 65_536, 0]


def test_losses_of_each_stage_are_added_up() -> None:
    counter = LossCounter()
    numbers([1, 2, 5], counter)
    counter.lose("reconstruction queue full")
    counter.lose("reconstruction queue full")
    counter.lose("unreadable", 3)
    account = counter.account()
    assert account.lost == {"reconstruction queue full": 2, "unreadable": 3}
    assert account.total == 2 + 5
    assert account.summary()["lost, unreadable"] == 3


def test_nothing_received_is_nothing_missing() -> None:
    account = LossCounter().account()
    assert account.received + account.missing == account.last - account.first + 1 == 0
