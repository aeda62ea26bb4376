"""The ramp as a sum over columns is the ramp."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.imaging.xray.blocks import LANES, bin_blocks, count_blocks, from_blocks, to_blocks
from tomofly.imaging.xray.filters import FILTER_NAMES, filter_response, filter_rows, ramp_samples, window
from tomofly.imaging.xray.row_filter import ramp_filter


def filtered(rows: np.ndarray) -> np.ndarray:
    out = np.empty((count_blocks(len(rows)), rows.shape[1], LANES), np.float32)
    ramp_filter(rows, out)
    return from_blocks(out, len(rows))


def exact(rows: np.ndarray) -> np.ndarray:
    kernel = ramp_samples(rows.shape[1])
    columns = np.arange(rows.shape[1])
    return rows.astype(np.float64) @ kernel[np.abs(columns[:, None] - columns[None, :])]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.integers(4, 400), st.integers(0, 99))
def test_noise_is_filtered_exactly_enough(rows: int, columns: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    error = filtered(image) - exact(image)
    assert np.sqrt((error**2).mean()) < 1e-4 * np.sqrt((exact(image) ** 2).mean())


@pytest.mark.parametrize("columns", [64, 333, 1024, 1399, 1400, 2448])
def test_an_object_is_filtered_to_about_a_ten_thousandth(columns: int) -> None:
    s = (np.arange(columns) - 0.48 * columns) / (0.45 * columns)
    shapes = np.stack([np.sqrt(np.maximum(0, 1 - s * s)), s > 0, np.exp(-9 * s * s)]).astype(np.float32)
    error, truth = filtered(shapes) - exact(shapes), exact(shapes)
    assert (np.sqrt((error**2).mean(axis=1)) < 1.6e-4 * np.sqrt((truth**2).mean(axis=1))).all()


def test_through_fourier_space_it_is_the_same() -> None:
    image = np.random.default_rng(0).normal(size=(3, 157)).astype(np.float32)
    assert np.allclose(filter_rows(image), exact(image), atol=1e-6)


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_windows_start_at_1_and_never_grow(name: str) -> None:
    values = window(name, np.linspace(0, 0.5, 200))
    assert values[0] == pytest.approx(1)
    assert (np.diff(values) <= 1e-12).all()
    response = filter_response(name, 57)
    assert response[0] < 0.01


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="parzen, shepp_logan, ramp"):
        window("hanning", 0.1)  # type: ignore[arg-type]


@given(st.integers(1, 3 * LANES), st.integers(1, 9))
def test_blocks_hold_what_was_put_in(rows: int, columns: int) -> None:
    image = np.random.default_rng(rows).normal(size=(2, rows, columns)).astype(np.float32)
    assert np.array_equal(from_blocks(to_blocks(image), rows), image)


@pytest.mark.parametrize(("rows", "columns"), [(10, 8), (64, 7), (70, 9), (130, 12), (257, 5)])
def test_binned_blocks_are_means_of_four(rows: int, columns: int) -> None:
    image = np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)
    out = np.full((count_blocks(rows // 2), columns // 2, LANES), np.nan, np.float32)
    bin_blocks(to_blocks(image), out)
    even = image[: rows // 2 * 2, : columns // 2 * 2]
    expected = even.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    assert np.allclose(from_blocks(out, rows // 2), expected, atol=1e-6)
