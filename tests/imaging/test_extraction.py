"""Boxes hold what lies around a pick, at the origin that transforms expect, in RELION's grey values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.imaging.extraction import bin_boxes, extract_boxes, normalise_relion

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(50, 3, (73, 97)).astype(np.float32)


@given(st.floats(0, 72), st.floats(0, 96))
@settings(deadline=None)
def test_the_pixel_nearest_the_position_lies_at_half_the_box(y, x):
    stack, kept = extract_boxes(IMAGE, [[y, x]], 16, edge="mean")
    assert kept.tolist() == [0]
    assert stack[0, 8, 8] == IMAGE[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]


def test_a_box_over_the_edge_is_dropped_or_filled_as_asked():
    position = [[30.2, 40.7], [3.0, 50.0], [70.0, 94.0], [-40.0, 10.0]]
    stack, kept = extract_boxes(IMAGE, position, 16)
    assert kept.tolist() == [0]
    assert np.array_equal(stack[0], IMAGE[22:38, 33:49])
    filled, kept = extract_boxes(IMAGE, position, 16, edge="mean")
    assert kept.tolist() == [0, 1, 2]
    assert np.array_equal(filled[1, 5:], IMAGE[0:11, 42:58])
    assert np.allclose(filled[1, :5], IMAGE[0:11, 42:58].mean())


def test_a_box_as_large_as_the_image_is_cut_whole():
    square = IMAGE[:72, :72]
    stack, kept = extract_boxes(square, [[36, 36]], 72)
    assert kept.tolist() == [0]
    assert np.array_equal(stack[0], square)


def test_inverted_boxes_change_sign():
    straight, _ = extract_boxes(IMAGE, [[30, 40]], 12)
    inverted, _ = extract_boxes(IMAGE, [[30, 40]], 12, invert=True)
    assert np.array_equal(inverted, -straight)


def test_no_positions_give_an_empty_stack():
    stack, kept = extract_boxes(IMAGE, np.zeros((0, 2)), 12, binned_box_px=6)
    assert stack.shape == (0, 6, 6)
    assert kept.size == 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"box_px": 15}, "even"),
        ({"box_px": 80}, "does not fit"),
        ({"box_px": 16, "binned_box_px": 18}, "binned"),
    ],
)
def test_an_impossible_box_is_refused(how, says):
    with pytest.raises(ValueError, match=says):
        extract_boxes(IMAGE, [[30, 40]], **how)


def test_binning_keeps_the_mean_the_centre_and_what_both_samplings_hold():
    yy, xx = np.mgrid[-24:24, -24:24]
    blob = np.exp(-((yy - 4) ** 2 + (xx + 8) ** 2) / (2 * 5.0**2)).astype(np.float32)[None] + 3
    binned = bin_boxes(blob, 24)
    assert binned.mean() == pytest.approx(blob.mean(), rel=1e-5)
    assert np.abs(binned[0] - blob[0, ::2, ::2]).max() < 1e-3
    assert np.unravel_index(binned[0].argmax(), (24, 24)) == (14, 8)


@given(st.floats(0.01, 1e4), st.floats(-1e3, 1e3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_background_has_mean_0_and_deviation_1(scale, offset_sigma, ramp):
    # An offset of a million deviations would leave nothing of them in single precision.
    stack = ((RNG.normal(0, 1, (3, 32, 32)) + offset_sigma) * scale).astype(np.float32)
    out = normalise_relion(stack, 24, ramp=ramp)
    offsets = np.arange(32) - 16
    outside = offsets[:, None] ** 2 + offsets[None] ** 2 > 12**2
    assert np.abs(out[:, outside].mean(axis=1)).max() < 1e-3
    assert np.abs(out[:, outside].std(axis=1) - 1).max() < 1e-3


def test_normalising_takes_a_ramp_away_and_keeps_the_particle():
    yy, xx = np.mgrid[-20:20, -20:20]
    particle = 5.0 * (yy**2 + xx**2 < 10**2)
    noise = RNG.normal(0, 1, (40, 40))
    out = normalise_relion((particle + noise + 0.5 * xx - 0.2 * yy).astype(np.float32)[None], 28)
    assert np.abs(out[0] - (particle + noise)).max() < 0.4


def test_a_box_with_a_constant_background_stays_finite():
    out = normalise_relion(np.full((2, 20, 20), 7.0, np.float32), 12)
    assert np.abs(out).max() < 1e-5


def test_a_circle_that_leaves_no_background_is_refused():
    with pytest.raises(ValueError, match="no background"):
        normalise_relion(np.zeros((1, 20, 20), np.float32), 40)
