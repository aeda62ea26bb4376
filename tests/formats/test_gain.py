"""Gain references: read from every format, and refused when they cannot be one."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomofly.formats.errors import BadFile
from tomofly.formats.gain import read_gain
from tomofly.formats.mrc import write_image

GAIN = (1 + 0.1 * np.random.default_rng(0).normal(size=(13, 17))).astype(np.float32)


@pytest.mark.parametrize("name", ["a.mrc", "a.tif", "a.gain"])
def test_a_gain_comes_the_way_round_that_its_movies_do(tmp_path: Path, name: str) -> None:
    gain = GAIN.copy()
    gain[3, 5] = 0
    if name == "a.mrc":
        write_image(tmp_path / name, gain, 1.0)
    else:
        tifffile.imwrite(tmp_path / name, gain)
    got = read_gain(tmp_path / name, shape_yx=(13, 17))
    assert got.pixels.dtype == np.float32
    assert np.array_equal(got.pixels, gain[::-1] if name == "a.tif" else gain)
    assert got.dead_pixels == 1
    assert got.is_divisor is (name == "a.gain")


def test_a_gain_turned_by_a_quarter_fits(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mrc", GAIN.T.copy(), 1.0)
    assert read_gain(tmp_path / "a.mrc", shape_yx=(13, 17)).pixels.shape == (17, 13)


def spoilt(value: float, pixels: int) -> np.ndarray:
    gain = GAIN.copy()
    gain.flat[:pixels] = value
    return gain


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (GAIN[:11], "is 17 x 11 pixels, the movies are 17 x 13"),
        (np.stack([GAIN, GAIN]), "holds 2 images"),
        (spoilt(np.nan, 3), "3 pixels that are no numbers"),
        (spoilt(np.inf, 2), "2 pixels that are no numbers"),
        (spoilt(-1, 4), "4 negative pixels"),
        (spoilt(0, 100), "zero in 100 of 221 pixels"),
    ],
)
def test_what_cannot_be_a_gain_is_refused(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    write_image(tmp_path / "a.mrc", array, 1.0)
    with pytest.raises(BadFile, match=reason):
        read_gain(tmp_path / "a.mrc", shape_yx=(13, 17))
