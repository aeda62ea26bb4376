"""The disk is never filled, and the copying goes on when there is room."""

import hypothesis.strategies as st
from hypothesis import given

from tomofly.flow.space import GO_ON_AT, SpaceGuard, free_space

GIGABYTE = 10**9
FREE = st.integers(0, 10**13)
GUARD = SpaceGuard(5 * GIGABYTE)


def test_short_space_pauses_and_says_what_to_do() -> None:
    verdict = GUARD.judge(4_900_000_000, paused=False)
    assert verdict.pause
    assert verdict.message == (
        "Paused: 4.9 GB are free, less than the 5.0 GB that must stay so."
        " Make room; it goes on by itself at 6.0 GB."
    )


def test_enough_space_says_nothing() -> None:
    verdict = GUARD.judge(100 * GIGABYTE, paused=False, backlog_bytes=20 * GIGABYTE)
    assert (verdict.pause, verdict.message) == (False, "")


def test_a_little_room_does_not_end_a_pause_but_enough_does() -> None:
    assert not GUARD.judge(int(5.5 * GIGABYTE), paused=False).pause
    assert GUARD.judge(int(5.5 * GIGABYTE), paused=True).pause
    assert not GUARD.judge(6 * GIGABYTE, paused=True).pause


def test_a_backlog_that_will_not_fit_is_said_in_advance() -> None:
    verdict = GUARD.judge(30 * GIGABYTE, paused=False, backlog_bytes=26 * GIGABYTE)
    assert not verdict.pause
    assert "26.0 GB that wait will not fit: 30.0 GB are free and 5.0 GB must stay" in verdict.message


def test_a_minimum_of_nothing_never_pauses() -> None:
    verdict = SpaceGuard(0).judge(0, paused=True, backlog_bytes=GIGABYTE)
    assert (verdict.pause, verdict.message) == (False, "")


@given(free=FREE, backlog=FREE, paused=st.booleans())
def test_below_the_minimum_it_always_rests(free: int, backlog: int, paused: bool) -> None:
    verdict = GUARD.judge(free, paused, backlog)
    if free < GUARD.minimum_free_bytes:
        assert verdict.pause
    if free >= GUARD.minimum_free_bytes * GO_ON_AT:
        assert not verdict.pause
    assert not verdict.pause or verdict.message


@given(free=FREE, paused=st.booleans())
def test_judging_again_changes_nothing(free: int, paused: bool) -> None:
    once = GUARD.judge(free, paused)
    assert GUARD.judge(free, once.pause) == once or not once.pause


def test_the_disk_of_a_folder_that_is_still_to_be_made_is_measured(tmp_path) -> None:
    space = free_space(tmp_path / "session" / "not yet" / "transfer")
    assert 0 < space.free <= space.total == free_space(tmp_path).total
