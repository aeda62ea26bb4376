"""Dark, blocked, saturated and shifted tilts are told from good ones, by their images alone."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tomofly.imaging.tilt_screening import (
    block_means,
    dark_tilts,
    gross_shift,
    reference_brightness,
    screen_tilt,
)

SHAPE = (230, 310)


def scene(seed: int = 3, shape: tuple[int, int] = SHAPE) -> npt.NDArray[np.float64]:
    """Make a field with features of many sizes, about 1, from noise that is smoothed."""
    noise = np.random.default_rng(seed).normal(size=shape)
    total = sum(ndimage.gaussian_filter(noise, s, mode="wrap") * s for s in (2.0, 5.0, 12.0))
    return np.asarray(1.0 + 0.2 * total / np.std(total))


def counted(field: npt.NDArray[np.float64], electrons: float, seed: int = 5) -> npt.NDArray[np.float32]:
    """Count electrons."""
    rng = np.random.default_rng(seed)
    return rng.poisson(np.clip(field, 0, None) * electrons).astype(np.float32)


def test_a_good_tilt_has_nothing_against_it() -> None:
    measured = screen_tilt(counted(scene(), 4.0))
    assert measured.mean == pytest.approx(4.0, rel=0.02)
    assert measured.spread > 0
    assert measured.blocked_fraction == 0.0
    assert measured.saturated_fraction == 0.0
    assert measured.unusable_fraction == 0.0


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_grid_bar_is_measured_by_its_area(part: float) -> None:
    field = scene()
    field[:, : round(part * SHAPE[1])] *= 0.02
    assert screen_tilt(counted(field, 4.0)).blocked_fraction == pytest.approx(part, abs=0.04)


def test_thick_ice_is_not_taken_for_metal() -> None:
    field = scene()
    field[:, 100:] *= 0.5
    assert screen_tilt(counted(field, 4.0)).blocked_fraction < 0.02


def test_a_blank_image_has_no_spread_and_is_blocked() -> None:
    measured = screen_tilt(np.zeros(SHAPE, dtype=np.uint16))
    assert (measured.mean, measured.spread, measured.blocked_fraction) == (0.0, 0.0, 1.0)


def test_saturated_pixels_are_counted() -> None:
    image = np.full((40, 50), 7, dtype=np.uint8)
    image[:10] = 255
    assert screen_tilt(image).saturated_fraction == 0.25
    assert screen_tilt(image.astype(np.float32)).saturated_fraction == 0.0
    assert screen_tilt(image.astype(np.float32), saturated_at=255).saturated_fraction == 0.25


def test_pixels_that_are_no_numbers_spoil_nothing_else() -> None:
    image = counted(scene(), 4.0)
    clean = screen_tilt(image)
    image[7, 9], image[100:102, 200] = np.inf, np.nan
    measured = screen_tilt(image)
    assert measured.mean == pytest.approx(clean.mean, rel=1e-3)
    assert measured.unusable_fraction == pytest.approx(3 / image.size)
    assert screen_tilt(np.full((40, 50), np.nan)).blocked_fraction == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 7), (31, 33)])
def test_small_images_can_be_measured(shape: tuple[int, int]) -> None:
    measured = screen_tilt(np.ones(shape))
    assert (measured.mean, measured.blocked_fraction) == (1.0, 0.0)


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4), (7,)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        screen_tilt(np.ones(shape))


def test_blocks_are_means() -> None:
    image = np.arange(64 * 96, dtype=np.float64).reshape(64, 96)
    blocks = block_means(image)
    assert blocks.shape == (32, 48)
    assert blocks[3, 5] == image[6:8, 10:12].mean()


ANGLES = np.arange(-60.0, 61.0, 3.0)


def brightness(thickness: float, angles: npt.NDArray[np.float64] = ANGLES) -> npt.NDArray[np.float64]:
    """A slab so many mean free paths thick lets through less of a tilted beam (Beer's law)."""
    return 50.0 * np.exp(-thickness / np.cos(np.deg2rad(angles)))


@pytest.mark.parametrize("thickness", [0.0, 0.5, 1.0, 1.3])
def test_no_tilt_of_a_slab_is_dark_however_thick(thickness: float) -> None:
    dark, _ = dark_tilts(brightness(thickness), ANGLES)
    assert not dark.any()


@given(st.sets(st.integers(0, 40), min_size=1, max_size=12), st.floats(0.0, 1.0))
def test_dark_tilts_are_found_among_good_ones(which: set[int], thickness: float) -> None:
    means = brightness(thickness)
    means[sorted(which)] *= 0.05
    dark, _ = dark_tilts(means, ANGLES)
    assert set(np.flatnonzero(dark)) == which


def test_a_tilt_without_any_counts_is_dark_among_others_as_well() -> None:
    means = brightness(0.5)
    means[[0, 20]] = 0.0, np.nan
    assert list(np.flatnonzero(dark_tilts(means, ANGLES)[0])) == [0, 20]


def test_a_pretilted_lamella_is_not_dark() -> None:
    angles = ANGLES + 10.0
    means = 50.0 * np.exp(-1.0 / np.cos(np.deg2rad(angles - 10.0)))
    assert not dark_tilts(means, angles)[0].any()


def test_a_series_dark_throughout_needs_others_to_be_known() -> None:
    means = 0.01 * brightness(0.5)
    assert not dark_tilts(means, ANGLES)[0].any()
    assert dark_tilts(means, ANGLES, usual=30.0)[0].all()
    assert dark_tilts(np.zeros(41), ANGLES)[0].all()


@given(st.floats(1e-3, 1e4))
def test_the_scale_of_counts_does_not_matter(scale: float) -> None:
    means = brightness(0.7)
    means[5] *= 0.1
    assert list(np.flatnonzero(dark_tilts(scale * means, ANGLES)[0])) == [5]
    assert reference_brightness(scale * means, ANGLES) == pytest.approx(
        scale * reference_brightness(means, ANGLES)
    )


def test_means_without_angles_are_refused() -> None:
    with pytest.raises(ValueError, match="angles"):
        dark_tilts([1.0, 2.0], [0.0])
    assert dark_tilts([], [])[0].size == 0


@pytest.mark.parametrize("shift", [(0, 0), (23, -40), (-70, 15), (5, 100)])
def test_a_gross_shift_is_what_brings_the_image_onto_the_reference(shift: tuple[int, int]) -> None:
    """Cut from a wider field, so that what leaves on one side does not come back on the other."""
    wide = scene(shape=(500, 700))
    y, x = 130, 190
    fixed = wide[y : y + SHAPE[0], x : x + SHAPE[1]]
    moved = wide[y + shift[0] : y + shift[0] + SHAPE[0], x + shift[1] : x + shift[1] + SHAPE[1]]
    got_y, got_x, height = gross_shift(counted(moved, 3.0, seed=1), counted(fixed, 3.0, seed=2))
    assert got_y == pytest.approx(shift[0] / SHAPE[0], abs=0.02)
    assert got_x == pytest.approx(shift[1] / SHAPE[1], abs=0.02)
    assert height > 6


def test_images_with_nothing_in_common_have_no_peak() -> None:
    _, _, height = gross_shift(counted(scene(1), 3.0, seed=1), counted(scene(2), 3.0, seed=2))
    assert height < 6


def test_images_of_other_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        gross_shift(np.ones((40, 50)), np.ones((50, 40)))
    assert gross_shift(np.ones((40, 50)), np.ones((40, 50)))[2] == 0.0
    assert math.isfinite(gross_shift(np.zeros((40, 50)), scene(shape=(40, 50)))[2])
