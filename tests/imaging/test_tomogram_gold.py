"""Gold is found by how dark it is, in whatever voxels."""

import numpy as np
import pytest

from tomofly.imaging.tomogram_gold import find_gold

BEADS = np.array([[14.0, 30.0, 22.0], [25.0, 12.0, 51.0], [10.0, 55.0, 40.0]])
PROTEIN = np.array([[20.0, 44.0, 20.0], [22.0, 40.0, 62.0]])


def _volume(voxel: float, beads: np.ndarray, noise: float = 0.004) -> np.ndarray:
    """Beads of 100 Å and proteins of 200 Å at these places in units of 10 Å; gold ten times as dense."""
    scale = 10.0 / voxel
    shape = tuple(int(n * scale) for n in (36, 66, 74))
    z, y, x = (grid / scale for grid in np.indices(shape))
    volume = np.random.default_rng(3).normal(0, noise, shape)
    for places, radius, density in ((beads, 5.0, 0.005), (PROTEIN, 10.0, 0.0005)):
        for place in places:
            squared = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2
            volume -= density * voxel * (squared <= radius**2)
    return volume.astype(np.float32)


@pytest.mark.parametrize("voxel", [10.0, 5.0, 20.0])
def test_gold_is_found_in_any_voxels_and_nothing_else(voxel: float) -> None:
    found = find_gold(_volume(voxel, BEADS), voxel, 100.0)
    assert len(found) == len(BEADS)
    apart = np.linalg.norm(found[:, None] * voxel / 10 - BEADS[None], axis=2)
    assert apart.min(axis=0).max() < 2.5 and apart.min(axis=1).max() < 2.5


def test_where_there_is_no_gold_none_is_found() -> None:
    assert find_gold(_volume(10.0, BEADS[:0]), 10.0, 100.0).shape == (0, 3)


def test_gold_of_less_than_three_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\.5 voxels wide"):
        find_gold(np.zeros((9, 10, 11), np.float32), 40.0, 100.0)
