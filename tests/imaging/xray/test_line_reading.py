"""Rows read at evenly spaced places, by either way, and arrays turned in squares."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from tomofly.imaging.xray.blocks import LANES, turned
from tomofly.imaging.xray.line_reading import MARGIN, PICKS, add_along, add_picked, add_read

Reader = Callable[..., Any]
COLUMNS = 301

with_registers = pytest.param(
    add_picked,
    marks=pytest.mark.skipif(not PICKS, reason="this processor has no AVX-512"),
)


def padded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate([values, np.full(MARGIN, np.nan, np.float32)])


@pytest.mark.parametrize("add", [add_read, with_registers])
@given(
    slope=st.floats(-1, 1, width=32),
    start=st.floats(0, 1, width=32),
    count=st.integers(1, 300),
    seed=st.integers(0, 2**16),
)
@example(slope=1.0, start=0.0, count=300, seed=0)
@example(slope=-1.0, start=1.0, count=300, seed=0)
@example(slope=0.0, start=0.5, count=17, seed=0)
@settings(max_examples=150, deadline=None)
def test_values_are_those_of_linear_interpolation(
    add: Reader, slope: float, start: float, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    line = random.normal(size=COLUMNS).astype(np.float32)
    # All places lie on the line, wherever it is begun.
    room = COLUMNS - 1 - abs(slope) * (count - 1)
    origin = start * room * 0.9999 + (abs(slope) * (count - 1) if slope < 0 else 0)
    before = random.normal(size=count).astype(np.float32)
    total = before.copy()
    add(total, padded(line)[: COLUMNS + MARGIN], np.float32(origin), np.float32(slope))
    places = np.clip(np.float32(origin) + np.float32(slope) * np.arange(count), 0, COLUMNS - 1)
    expected = before + np.interp(places, np.arange(COLUMNS), line)
    np.testing.assert_allclose(total, expected, atol=1e-3)


@pytest.mark.parametrize("add", [add_read, with_registers])
def test_nothing_is_written_beside_what_is_asked_for(add: Reader) -> None:
    line = padded(np.ones(COLUMNS, np.float32))
    for count in range(1, 50):
        total = np.zeros(count + 32, np.float32)
        add(total[16 : 16 + count], line, np.float32(3.25), np.float32(0.7))
        assert (total[16 : 16 + count] == 1).all()
        assert total.sum() == count


def test_one_of_the_two_ways_is_taken() -> None:
    assert add_along in (add_picked, add_read)


@given(
    columns=st.integers(1, 70), rows=st.integers(1, LANES), stride=st.integers(0, 5), seed=st.integers(0, 99)
)
@settings(deadline=None)
def test_turned_is_the_transpose_as_far_as_there_is_room(
    columns: int, rows: int, stride: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(columns, LANES + stride))
    room = np.full((rows + 2, columns), 7, np.float32)
    turned(values[:, :LANES], room[1:-1])
    np.testing.assert_array_equal(room[1:-1], values[:, :rows].T.astype(np.float32))
    assert (room[[0, -1]] == 7).all()


def test_compiled_code_may_call_either() -> None:
    @njit
    def through(total: Any, line: Any) -> None:
        add_along(total, line, np.float32(0), np.float32(1))

    total = np.zeros(40, np.float32)
    through(total, padded(np.arange(COLUMNS, dtype=np.float32)))
    np.testing.assert_array_equal(total, np.arange(40))


@pytest.mark.skipif(not PICKS, reason="this processor has no AVX-512")
def test_values_with_gaps_are_refused_when_compiling() -> None:
    line = padded(np.ones(COLUMNS, np.float32))
    with pytest.raises(Exception, match="values that follow each other are needed"):
        add_picked(np.zeros(80, np.float32)[::2], line, np.float32(0), np.float32(1))
