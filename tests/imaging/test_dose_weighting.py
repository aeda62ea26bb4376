"""Dose weights follow Grant & Grigorieff (2015)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.imaging.dose_weighting import accumulated_dose, critical_dose, dose_weights, separable_weights


@pytest.mark.parametrize(("resolution", "expected"), [(20, 38.7), (10, 14.1), (7, 9.1), (5, 6.4), (3, 4.3)])
def test_critical_dose_has_the_published_values(resolution, expected):
    assert critical_dose(1 / resolution) == pytest.approx(expected, abs=0.06)


@given(k=st.floats(1e-3, 0.6), dose=st.floats(0, 300), voltage=st.floats(100, 300))
def test_weights_are_shares_that_fall_with_dose_and_frequency(k, dose, voltage):
    now = dose_weights(k, dose, voltage)
    assert 0 <= now <= 1
    assert dose_weights(k, dose + 1, voltage) <= now
    assert dose_weights(k * 1.1, dose, voltage) <= now


def test_lower_voltage_damages_more():
    assert critical_dose(0.2, 200) == pytest.approx(0.8 * critical_dose(0.2, 300))
    assert critical_dose(0.2, 100) == pytest.approx(0.532 * critical_dose(0.2, 300))


def test_frequency_zero_is_never_damaged():
    assert np.all(dose_weights(0.0, [0.0, 10.0, 1000.0]) == 1)


def test_dose_counts_what_came_before_and_each_frame_to_its_end():
    np.testing.assert_allclose(accumulated_dose(3, 1.5, 10.0), [11.5, 13.0, 14.5])
    np.testing.assert_allclose(accumulated_dose(3, [1.0, 2.0, 4.0]), [1.0, 3.0, 7.0])
    with pytest.raises(ValueError, match="one for each of 3 frames"):
        accumulated_dose(3, [1.0, 2.0])
    with pytest.raises(ValueError, match="not negative"):
        accumulated_dose(3, -1.0)


@pytest.mark.parametrize("n_frames", [1, 2, 40, 200])
def test_few_factors_carry_all_weights(n_frames):
    weights = dose_weights(np.linspace(0, 0.7, 500), accumulated_dose(n_frames, 1.0))
    temporal, spectral = separable_weights(weights, 1e-3)
    assert temporal.shape[1] <= 8
    assert np.abs(temporal @ spectral - weights).max() <= 1e-3
