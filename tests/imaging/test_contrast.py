"""Previews show the middle of the grey values, whatever the outliers."""

import numpy as np
import pytest

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.contrast import preview, stretched


def test_binning_averages_blocks_and_leaves_the_rest_out():
    image = np.arange(7 * 11, dtype=np.float32).reshape(7, 11)
    expected = image[:6, :9].reshape(2, 3, 3, 3).mean(axis=(1, 3))
    assert np.allclose(bin_mean(image, 3), expected)
    with pytest.raises(ValueError, match="bin factor"):
        bin_mean(image, 8)


def test_an_outlier_does_not_darken_the_picture():
    image = np.random.default_rng(1).normal(100, 5, (130, 170)).astype(np.float32)
    image[3, 5] = 1e9
    picture = stretched(image)
    assert picture.dtype == np.uint8
    assert 100 < np.median(picture) < 155


def test_pictures_keep_the_proportions_and_the_limit():
    picture = preview(np.random.default_rng(1).random((1300, 1700), np.float32), longest_side_px=500)
    assert picture.shape == (325, 425)


def test_values_that_are_not_finite_become_black_and_a_constant_grey():
    image = np.full((13, 17), 4.0, np.float32)
    image[2, 3] = np.nan
    picture = stretched(image)
    assert picture[2, 3] == 0
    assert picture[5, 5] == 127
    assert not stretched(np.full((13, 17), np.nan, np.float32)).any()
