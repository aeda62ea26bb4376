"""Counts become transmission and absorption, with guards for what no detector should send."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.imaging.xray.normalisation import (
    DARKEST,
    absorption,
    make_reference,
    minus_log,
    transmission,
)

SHAPE = (7, 19)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "i2", "u4", "f8"])
def test_transmission_is_the_share_of_light(kind: str) -> None:
    random = np.random.default_rng(1)
    dark, flat = random.uniform(1, 5, SHAPE), random.uniform(180, 220, SHAPE)
    frame = random.integers(10, 127, SHAPE).astype(kind)
    expected = (frame - dark) / (flat - dark)
    reference = make_reference(dark, flat)
    assert np.allclose(transmission(frame, reference), expected, rtol=1e-5)
    assert np.allclose(absorption(frame, reference), -np.log(expected), atol=2e-6)


@settings(deadline=None)
@given(st.lists(st.floats(2.0**-13, 2.0**20, width=32), min_size=1, max_size=50))
def test_the_logarithm_is_that_of_numpy(values: list[float]) -> None:
    image = np.array([values], np.float32)
    assert np.allclose(minus_log(image), -np.log(image.astype(np.float64)), rtol=3e-7, atol=2e-7)


def test_blind_pixels_let_everything_through() -> None:
    dark, flat = np.full(SHAPE, 10.0), np.full(SHAPE, 1000.0)
    flat[2, 3], dark[4, 5], flat[6, 7] = 10.0, 2000.0, 5.0
    reference = make_reference(dark, flat)
    assert reference.blind == 3
    image = absorption(np.full(SHAPE, 500, np.uint16), reference)
    assert image[2, 3] == image[4, 5] == image[6, 7] == 0
    assert image[0, 0] > 0


def test_zero_negative_and_saturated_counts_stay_finite() -> None:
    reference = make_reference(np.full(SHAPE, 100.0), np.full(SHAPE, 30000.0), saturation=65535)
    frame = np.zeros(SHAPE, np.uint16)
    frame[0] = 65535
    image = transmission(frame, reference)
    assert np.allclose(image[0], 1)
    assert np.allclose(image[1:], DARKEST)
    broken = np.full(SHAPE, np.nan, np.float32)
    broken[0], broken[1] = np.inf, -np.inf
    assert np.isfinite(absorption(broken, reference)).all()


def test_fields_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="not brighter"):
        make_reference(np.full(SHAPE, 100.0), np.full(SHAPE, 90.0))
    with pytest.raises(ValueError, match="differ in shape"):
        make_reference(np.zeros((3, 4)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="not finite"):
        make_reference(np.full(SHAPE, np.nan), np.ones(SHAPE))
    with pytest.raises(ValueError, match="does not fit"):
        transmission(np.ones((3, 4)), make_reference(np.zeros(SHAPE), np.ones(SHAPE)))
