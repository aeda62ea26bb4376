"""Zingers are replaced by the median about them, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tomofly.imaging.xray.outliers import remove_zingers


@pytest.mark.parametrize("radius", [2, 3, 4])
def test_it_is_the_selective_median_of_its_radius(radius: int) -> None:
    random = np.random.default_rng(radius)
    image = random.gamma(2, 0.5, (37, 41)).astype(np.float32) + 0.1
    median = median_filter(image, size=2 * radius + 1)
    expected = np.where(np.abs(image - median) > 0.5 * median, median, image)
    inner = slice(radius, -radius)
    assert np.allclose(remove_zingers(image, radius)[inner, inner], expected[inner, inner])


def test_single_zingers_go_and_the_rest_stays_as_it_was() -> None:
    random = np.random.default_rng(0)
    clean = (1 + 0.05 * random.normal(size=(30, 50))).astype(np.float32)
    image = clean.copy()
    image[0, 0], image[15, 20], image[29, 49], image[10, 10] = 8, 3, 5, 0.1
    result = remove_zingers(image, 2)
    assert np.abs(result - clean).max() < 0.3
    untouched = image == clean
    assert np.array_equal(result[untouched], clean[untouched])


def test_radius_0_does_nothing_and_1_is_unknown() -> None:
    image = np.ones((5, 6), np.float32)
    assert np.array_equal(remove_zingers(image, 0), image)
    with pytest.raises(ValueError, match="one of"):
        remove_zingers(image, 1)
