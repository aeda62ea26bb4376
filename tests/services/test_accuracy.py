"""Accuracy counts what is right, what is missed and what is invented, and forgives what nobody could know."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.services.accuracy import mean_square, score_picks

HEIGHT, WIDTH = 430, 610


def truth(*positions: tuple[float, float], **more: Any) -> dict[str, Any]:
    particles = [{"y_px": y, "x_px": x, "diameter_angstrom": 60.0} for y, x in positions]
    plain = {"frame_yx_px": (HEIGHT, WIDTH), "pixel_size_angstrom": 1.5, "carbon": None, "discs": []}
    return {**plain, "particles": particles, **more}


def score(picks: list[tuple[float, float]], facts: dict[str, Any]) -> tuple[int, int, int]:
    found = score_picks(np.array(picks, np.float64).reshape(-1, 2), facts)
    return found.found, found.missed, found.invented


def test_a_pick_is_right_within_half_a_radius_and_only_once() -> None:
    facts = truth((100, 200), (300, 500))
    assert score([(109, 200), (300, 500)], facts) == (2, 0, 0)
    assert score([(111, 200), (300, 500)], facts) == (1, 1, 1)
    assert score([(101, 200), (99, 200), (300, 500)], facts) == (2, 0, 1)


def test_axes_are_not_swapped() -> None:
    assert score([(200, 100)], truth((100, 200))) == (0, 1, 1)


def test_what_nobody_could_pick_is_neither_missed_nor_wrong() -> None:
    edge, dirty = (5, 200), (200, 300)
    facts = truth(edge, dirty, (300, 500), discs=[{"y_px": 205, "x_px": 300, "radius_px": 25, "kind": "ice"}])
    assert score([(300, 500)], facts) == (1, 0, 0)
    assert score([(300, 500), edge, dirty], facts) == (1, 0, 0)
    assert score([(300, 500), (HEIGHT - 6, 400)], facts) == (1, 0, 0)
    hole = {"centre_y_px": 300, "centre_x_px": 300, "radius_px": 100}
    assert score([], truth((300, 310), (300, 500), carbon=hole)) == (0, 1, 0)


def test_no_particles_make_every_pick_invented() -> None:
    assert score([(10, 10), (20, 20)], truth()) == (0, 0, 2)
    assert score([], truth((100, 100))) == (0, 1, 0)


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_a_constant_shift_is_no_error(y: float, x: float) -> None:
    rng = np.random.default_rng(7)
    error = rng.normal(size=(13, 17, 19, 2))
    assert mean_square(error + np.array([y, x])) == pytest.approx(mean_square(error))
    assert mean_square(np.broadcast_to([y, x], (13, 2)).copy()) == pytest.approx(0, abs=1e-9)
