"""Sums that follow a window: what is taken away is what was added, on either backend."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.imaging.xray.angular_weights import angular_weights, coverage_deg
from tomofly.imaging.xray.backend import RingBackend, RingShape, gpu_problem, open_backend
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.ring_cpu import stretch
from tomofly.imaging.xray.running_slices import RunningLevel, RunningSlices, SlicePlan, Window
from tomofly.imaging.xray.slices import plane_line

ROWS, COLUMNS = 67, 45
SHAPE = RingShape(ROWS, COLUMNS, 24)
LINES = (plane_line("y", 12, 7, COLUMNS), plane_line("x", 30, 0, COLUMNS))
PLAN = SlicePlan(LINES, TiltedPlane(30, 12, ROWS), "parzen", 21.3, COLUMNS)
WITHOUT_GPU = pytest.mark.skipif(gpu_problem() is not None, reason=str(gpu_problem()))


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=WITHOUT_GPU)])
def backend(request: pytest.FixtureRequest) -> RingBackend:
    return open_backend(request.param, SHAPE, threads=2)


def projections(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 0.5, (count, ROWS, COLUMNS)).astype(np.float32)


def window_of(slots: np.ndarray, angles: np.ndarray) -> Window:
    return Window(slots.astype(np.int64), angles, angular_weights(angles))


def assert_same(running: RunningSlices, fresh: RunningSlices, tolerance: float = 1e-5) -> None:
    pairs = zip([*running.planes(), running.tilted()], [*fresh.planes(), fresh.tilted()], strict=True)
    for one, other in pairs:
        assert np.abs(one - other).max() < tolerance * np.abs(other).max()


def test_a_thousand_exchanges_leave_no_trace(backend: RingBackend) -> None:
    random = np.random.default_rng(1)
    stock = projections(20, 2)
    slots, free = np.arange(20), 20
    angles, weight = np.arange(20) * 9.0, np.full(20, np.pi / 20)
    for slot in slots:
        backend.store(int(slot), stock[slot])
    running = RunningSlices(backend, PLAN)
    assert running.fill(Window(slots, angles, weight))
    for number in range(1000):
        place = number % 20
        backend.store(free, stock[random.integers(20)])
        slots, angles = slots.copy(), angles.copy()
        slots[place], free = free, int(slots[place])
        angles[place] = angles[place] + 180 + random.normal()
        running.move(Window(slots, angles, weight))
    fresh = RunningSlices(backend, PLAN)
    fresh.fill(Window(slots, angles, weight))
    assert_same(running, fresh)


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(range(12))), st.integers(1, 11), st.integers(0, 9))
def test_adding_and_taking_away_in_any_order_is_the_window_that_is_left(
    order: list[int], left: int, seed: int
) -> None:
    backend = open_backend("cpu", SHAPE, threads=1)
    for slot, image in enumerate(projections(12, seed)):
        backend.store(slot, image)
    angles = np.random.default_rng(seed).uniform(-500, 500, 24)
    running = RunningSlices(backend, PLAN)
    for count in range(1, 13):
        slots = np.array(order[:count])
        running.move(window_of(slots, angles[slots]))
    slots = np.array(order[::-1][:left])
    running.move(window_of(slots, angles[slots]))
    fresh = RunningSlices(backend, PLAN)
    fresh.fill(window_of(slots, angles[slots]))
    # Weights that changed by less than 2 % were left alone.
    assert_same(running, fresh, 0.05)
    running.move(Window(np.array([], np.int64), np.array([]), np.array([])))
    assert max(np.abs(one).max() for one in running.planes()) < 1e-5


def test_a_level_slice_changes_over_to_direct_sums_without_a_trace() -> None:
    backend = open_backend("cpu", SHAPE, threads=2)
    for slot, image in enumerate(projections(24, 4)):
        backend.store(slot, image)
    angles = np.arange(24) * 9.0
    window = Window(np.arange(20), angles[:20], np.full(20, np.pi / 20))
    level = RunningLevel(backend, PLAN, 33, window)
    quick = backend.level(33, "parzen", window.views(PLAN))
    assert np.allclose(level.image(window, change_over=0), quick)
    for step in range(4):
        moved = np.concatenate([np.arange(step, 20), np.arange(20, 20 + step)])
        window = Window(moved, angles[moved], np.full(20, np.pi / 20))
        image = level.image(window, change_over=6)
    fresh = RunningSlices(backend, replace(PLAN, lines=(), plane=TiltedPlane(33, 0, ROWS)))
    fresh.fill(window)
    assert np.abs(image - fresh.tilted()).max() < 1e-5 * np.abs(image).max()


def test_a_sum_may_be_given_up(backend: RingBackend) -> None:
    for slot, image in enumerate(projections(4, 0)):
        backend.store(slot, image)
    answers = iter([False, False, True])
    running = RunningSlices(backend, PLAN)
    assert not running.fill(window_of(np.arange(4), np.arange(4) * 45.0), lambda: next(answers))


def test_coarse_slices_resemble_the_full_ones(backend: RingBackend) -> None:
    s, z = np.arange(COLUMNS) - 21.3, np.arange(ROWS)[:, None]
    ball = 2 * np.sqrt(np.maximum(0, 15.0**2 - s**2 - 0.3 * (z - 30) ** 2))
    angles = np.arange(20) * 9.0
    for slot in range(20):
        backend.store(slot, ball.astype(np.float32))
    window = window_of(np.arange(20), angles)
    running = RunningSlices(backend, PLAN)
    running.fill(window)
    views = window.views(PLAN)
    for coarse, full in zip(backend.coarse_planes(LINES, "parzen", views), running.planes(), strict=True):
        assert coarse.shape == full.shape == (ROWS, COLUMNS)
        assert np.abs(coarse - full).mean() < 0.15 * np.abs(full).mean()
    level, quick = (backend.level(30, "parzen", views, coarse=coarse) for coarse in (False, True))
    assert level.shape == quick.shape == (COLUMNS, COLUMNS)
    assert level[22, 22] == pytest.approx(1, abs=0.1)
    assert np.abs(quick - level)[8:37, 8:37].mean() < 0.15 * level[8:37, 8:37].mean()


def test_stored_projections_can_be_read_in_part(backend: RingBackend) -> None:
    backend.store(3, projections(1, 5)[0])
    whole = backend.projection(3)
    assert whole.shape == (ROWS, COLUMNS)
    assert np.array_equal(backend.projection(3, 10), whole[::10])


def test_a_ring_on_hardware_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, cpu or gpu"):
        open_backend("tpu", SHAPE)  # type: ignore[arg-type]
    if gpu_problem() is not None:
        with pytest.raises(ValueError, match="cannot be used"):
            open_backend("gpu", SHAPE)
        assert open_backend("auto", SHAPE).name == "cpu"


def test_equal_steps_weigh_the_same_over_any_number_of_turns() -> None:
    for turns in (1, 2, 3):
        angles = np.arange(180 * turns, dtype=float)
        weights = angular_weights(angles)
        assert weights.sum() == pytest.approx(np.pi)
    assert np.allclose(angular_weights(np.arange(0, 180, 2.0)), np.pi / 90)
    assert coverage_deg(angular_weights(np.arange(0, 83, 0.5))) == pytest.approx(83)
    # One projection lost is bridged by its neighbours.
    assert angular_weights(np.delete(np.arange(0, 180, 2.0), 17)).sum() == pytest.approx(np.pi)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 1), st.integers(0, 1))
def test_stretching_keeps_slopes(rows: int, columns: int, odd_row: int, odd_column: int) -> None:
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    wide = stretch(3 * y + x, (2 * rows + odd_row, 2 * columns + odd_column))
    fine_y, fine_x = np.mgrid[: 2 * rows, : 2 * columns]
    expected = 3 * ((fine_y + 0.5) / 2 - 0.5) + (fine_x + 0.5) / 2 - 0.5
    inner = slice(1, 2 * rows - 1), slice(1, 2 * columns - 1)
    assert np.allclose(wide[inner], expected[inner], atol=1e-4)
