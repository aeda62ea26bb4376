"""Particles of a known size are found where they are, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from tomofly.imaging.tomogram_picking import pick_by_size

SHAPE = (60, 110, 124)
DIAMETER, VOXEL = 200.0, 10.0
CENTRES = np.array([[22, 30, 30], [35, 70, 40], [28, 40, 80], [40, 85, 100], [30, 85, 66], [38, 25, 104.0]])


def _tomogram(centres: np.ndarray, noise: float = 1.0, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    balls = np.zeros(SHAPE)
    for centre in centres:
        balls -= np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) < 10
    return (gaussian_filter(balls, 1.0) + random.normal(0, noise, SHAPE)).astype(np.float32)


def _right(found: np.ndarray, truth: np.ndarray, near: float = 5.0) -> int:
    if not len(found):
        return 0
    distance, index = cKDTree(found).query(truth)
    return len(np.unique(index[distance < near]))


def test_particles_are_found_where_they_are() -> None:
    picks = pick_by_size(_tomogram(CENTRES), VOXEL, DIAMETER, threads=2)
    assert len(picks) == len(CENTRES) == _right(picks.zyx, CENTRES, 2.0)
    assert (np.diff(picks.score) <= 0).all() and picks.score[-1] > picks.threshold
    assert len(picks.above(picks.score[1])) == 2


def test_bright_particles_are_found_on_request_only() -> None:
    bright = -_tomogram(CENTRES)
    assert len(pick_by_size(bright, VOXEL, DIAMETER)) == 0
    assert len(pick_by_size(bright, VOXEL, DIAMETER, dark=False)) == len(CENTRES)


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_particles(seed: int) -> None:
    assert len(pick_by_size(_tomogram(CENTRES[:0], seed=seed), VOXEL, DIAMETER)) == 0


def test_outside_of_the_slab_and_at_gold_nothing_is_picked() -> None:
    volume = _tomogram(CENTRES)
    slab = pick_by_size(volume, VOXEL, DIAMETER, slab_z=(20, 36))
    assert _right(slab.zyx, CENTRES) == len(slab) == 4
    gold = pick_by_size(volume, VOXEL, DIAMETER, gold_zyx=CENTRES[:2] + 3.0)
    assert _right(gold.zyx, CENTRES[2:]) == len(gold) == 4


def test_picks_keep_their_distance() -> None:
    touching = np.array([[30, 50, 40], [30, 50, 60], [30, 50, 100.0]])
    near, far = (
        pick_by_size(_tomogram(touching, 0.3), VOXEL, DIAMETER, distance_angstrom=d) for d in (160.0, 260.0)
    )
    assert len(near) == 3 and len(far) == 2


def test_a_finer_volume_gives_the_same_places() -> None:
    volume = _tomogram(CENTRES)
    finer = np.repeat(np.repeat(np.repeat(volume, 2, 0), 2, 1), 2, 2)
    picks = pick_by_size(finer, VOXEL / 2, DIAMETER)
    assert _right((picks.zyx - 0.5) / 2, CENTRES, 2.0) == len(CENTRES)


def test_particles_of_a_few_voxels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3\.0 voxels wide"):
        pick_by_size(np.zeros((8, 9, 10), np.float32), 10.0, 30.0)
