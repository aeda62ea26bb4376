"""The angular ring: which projections make a slice, however the angles come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.live.ring import AngularRing


def run(ring: AngularRing, angles: np.ndarray, first: int = 0) -> None:
    for number, angle in enumerate(angles, first):
        ring.place(float(angle), number)
        ring.release()


def numbers(ring: AngularRing) -> list[int]:
    return [entry.number for entry in ring.entries()]


def test_continuous_turning_keeps_the_latest_half_turn() -> None:
    ring = AngularRing(360, 4, 0.5)
    run(ring, np.arange(1000) * 0.5 - 33)
    assert numbers(ring) == list(range(640, 1000))
    assert ring.coverage_deg() == pytest.approx(180)
    assert np.allclose(ring.window().weight, np.pi / 360)


def test_lost_projections_leave_the_older_ones_in_place() -> None:
    ring = AngularRing(200, 4, 0.5, step_deg=1.0)
    angles = np.arange(700.0)
    kept = np.delete(np.arange(700), [600, 601, 650])
    for number in kept:
        ring.place(angles[number], int(number))
        ring.release()
    assert len(ring) == 180
    assert {420, 421, 470} <= set(numbers(ring))


def test_back_and_forth_keeps_the_newest_of_each_angle() -> None:
    ring = AngularRing(400, 4, 0.5)
    there = np.arange(0, 180, 0.5)
    run(ring, np.concatenate([there, there[::-1], there[:100]]))
    assert len(ring) == 360
    assert set(numbers(ring)) == set(range(360, 620)) | set(range(720, 820))


def test_part_of_a_turn_tells_how_much_is_seen() -> None:
    ring = AngularRing(1800, 4, 83 / 360)
    run(ring, np.arange(500) * 0.4)
    assert ring.coverage_deg() == pytest.approx(83, abs=0.5)
    assert numbers(ring)[-1] == 499


def test_several_turns_are_averaged_each_angle_with_its_share() -> None:
    ring = AngularRing(800, 4, 1.5)
    run(ring, np.arange(900) * 1.0)
    assert len(ring) == 540
    assert ring.window().weight.sum() == pytest.approx(np.pi)


def test_interlaced_angles_find_their_cells() -> None:
    ring = AngularRing(720, 4, 0.5)
    # Four passes of 90 angles each, shifted by a quarter of their step.
    passes = [np.arange(90) * 2.0 + shift for shift in (0, 1, 0.5, 1.5)]
    run(ring, np.concatenate(passes * 3))
    assert len(ring) >= 350
    assert ring.coverage_deg() == pytest.approx(180, abs=1)


def test_golden_angles_cover_the_half_turn() -> None:
    ring = AngularRing(300, 4, 0.5, step_deg=0.6)
    run(ring, np.arange(900) * 111.2461179749811)
    assert ring.coverage_deg() > 178
    assert len(ring) > 250
    assert ring.window().weight.sum() == pytest.approx(np.pi, rel=0.02)


def test_slots_that_left_are_free_only_after_release() -> None:
    ring = AngularRing(4, 2, 0.5, step_deg=45)
    for number in range(6):
        ring.place(45.0 * number, number)
    assert ring.can_take == 0
    with pytest.raises(ValueError, match="no slot is free"):
        ring.place(0, 7)
    ring.release()
    assert ring.can_take == 2


def test_angles_that_are_not_seen_any_more_leave_after_some_windows() -> None:
    ring = AngularRing(400, 4, 0.5)
    run(ring, np.arange(360) * 1.0)
    # From now on the stage goes to and fro between 20 and 79.
    there = np.arange(20.0, 80.0)
    run(ring, np.concatenate([there, there[::-1]] * 2), first=360)
    assert len(ring) == 180
    run(ring, np.concatenate([there, there[::-1]] * 2), first=600)
    assert len(ring) == 60
    assert min(numbers(ring)) >= 600


def test_angles_that_moved_on_as_a_whole_keep_their_number() -> None:
    """As after a change of rate: each new angle takes the place of the old one beside it."""
    ring = AngularRing(1000, 4, 0.5)
    run(ring, np.arange(720) * 1.0)
    run(ring, np.arange(720) * 1.0 + 0.45, first=720)
    assert ring.step_deg == pytest.approx(1.0)
    assert numbers(ring) == list(range(1260, 1440))


def test_cells_become_narrower_where_the_steps_do() -> None:
    ring = AngularRing(1000, 4, 0.5)
    run(ring, np.arange(90) * 6.0)
    assert len(ring) == 30
    run(ring, np.arange(180) * 3.0, first=90)
    assert len(ring) == 60


def test_projections_without_an_angle_are_refused() -> None:
    with pytest.raises(ValueError, match="without an angle"):
        AngularRing(4, 2, 0.5).place(float("nan"), 0)


def test_the_opposite_is_half_a_turn_away() -> None:
    ring = AngularRing(400, 4, 1.0, step_deg=1.0)
    run(ring, np.arange(360) * 1.0)
    found = ring.opposite(10.0)
    assert found is not None
    assert found.angle_deg == 190
    assert AngularRing(400, 4, 1.0).opposite(10.0) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=120),
    st.integers(1, 40),
    st.floats(0.05, 3),
    st.none() | st.floats(0.1, 30),
)
def test_no_slot_is_held_twice_or_lost(
    angles: list[float], slots: int, turns: float, step: float | None
) -> None:
    ring = AngularRing(slots, 3, turns, step)
    for number, angle in enumerate(angles):
        entry, _ = ring.place(angle, number)
        assert entry.slot in {one.slot for one in ring.entries()} or ring.longest_life is not None
        ring.release()
        held = [one.slot for one in ring.entries()]
        assert len(set(held)) == len(held) <= slots
        assert ring.can_take + len(held) == slots + 3
        weight = ring.window().weight
        assert (weight >= 0).all()
        assert weight.sum() <= np.pi * (1 + 1e-9)
