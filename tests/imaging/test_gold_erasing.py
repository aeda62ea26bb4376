"""Gold goes, and what is beside it stays."""

import numpy as np
import pytest

from tomofly.imaging.gold_erasing import erase_beads, erase_gold, fill_holes
from tomofly.imaging.tilt_geometry import TiltGeometry

GEOMETRY = TiltGeometry(np.array([-50.0, 0.0, 40.0]), np.full(3, 30.0), np.array([[3.0, 2], [0, 0], [-4, 1]]))
# Centred (z, y, x); the last is outside of every image.
BEADS = np.array([[5.0, 10.0, -12.0], [-8.0, -16.0, 14.0], [2.0, 24.0, 3.0], [0.0, 400.0, 0.0]])


def _images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sloping background with noise, the same with beads of radius 4, and where they are."""
    random = np.random.default_rng(1)
    y, x = np.indices((70, 82))
    clean = np.stack([100 + 0.3 * y + 0.1 * x + random.normal(0, 1.0, (70, 82)) for _ in range(3)])
    gold, where = clean.copy(), np.zeros(clean.shape, bool)
    places = GEOMETRY.project(BEADS) + np.array([35, 41])
    for index in range(3):
        for place_y, place_x in places[index]:
            where[index] |= np.hypot(y - place_y, x - place_x) < 4
    gold[where] -= 60
    return clean.astype(np.float32), gold.astype(np.float32), where


def test_discs_are_filled_with_what_surrounds_them() -> None:
    clean, gold, where = _images()
    erased = erase_beads(gold, GEOMETRY, BEADS, 5.0)
    difference = erased - clean
    assert abs(float(difference[where].mean())) < 0.5
    assert 0.7 < float(difference[where].std()) / np.sqrt(2) < 1.4
    far = ~np.isclose(erased, gold)
    assert far.sum() < 2.0 * where.sum()
    np.testing.assert_array_equal(erased, erase_beads(gold, GEOMETRY, BEADS, 5.0, threads=2))


def test_gold_goes_without_knowing_where() -> None:
    clean, gold, where = _images()
    erased = erase_gold(gold, 8.0)
    assert np.abs(erased - clean)[where].max() < 8
    assert (erased[~where] == gold[~where]).mean() > 0.97
    np.testing.assert_array_equal(erase_gold(clean, 8.0), clean)


def test_a_hole_larger_than_the_fill_reaches_gets_the_mean() -> None:
    image = np.full((300, 310), 4.0, np.float32)
    holes = np.ones(image.shape, bool)
    holes[:5] = False
    image[holes] = -100
    fill_holes(image, holes)
    np.testing.assert_allclose(image, 4.0, rtol=1e-4)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 pixels"):
        erase_beads(np.zeros((3, 9, 9)), GEOMETRY, BEADS, 0)
    with pytest.raises(ValueError, match="2 images do not fit"):
        erase_beads(np.zeros((2, 9, 9)), GEOMETRY, BEADS, 3)
    with pytest.raises(ValueError, match="above 0 pixels"):
        erase_gold(np.zeros((2, 9, 9)), -2)
