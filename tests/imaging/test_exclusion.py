"""Bad areas are masked, and ice with particles in it is not."""

import numpy as np
import pytest

from tests.imaging.picking_scenes import Scene, expose
from tomofly.imaging.exclusion import exclusion_mask
from tomofly.imaging.picking import find_particles, select_picks

HOW = {"pixel_size_angstrom": 2.5, "diameter_angstrom": 125.0}


def full_size(mask, scale, shape):
    rows = np.minimum(np.arange(shape[0]) // scale, mask.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // scale, mask.shape[1] - 1)
    return mask[np.ix_(rows, columns)]


@pytest.mark.parametrize("kind", ["shell", "ball", "lobes"])
@pytest.mark.parametrize("count", [0, 3, 15, 60, 120])
def test_ice_with_any_number_of_particles_is_not_excluded(kind, count):
    image, _, _ = expose(Scene(kind=kind, count=count, seed=count + 1))
    assert exclusion_mask(image, **HOW).fraction < 0.005


@pytest.mark.parametrize("gradient", [0.0, 0.1, 0.25])
def test_a_slope_of_the_ice_is_not_a_step_to_carbon(gradient):
    image, _, _ = expose(Scene(kind="ball", count=40, seed=2, gradient=gradient))
    assert exclusion_mask(image, **HOW).fraction < 0.005


@pytest.mark.parametrize("seed", [3, 5, 7])
def test_contamination_and_carbon_are_covered_and_little_else(seed):
    image, _, bad = expose(Scene(kind="ball", count=40, seed=seed, carbon=True, contamination=2))
    found = exclusion_mask(image, **HOW)
    covered = full_size(found.mask, found.scale, image.shape)
    assert covered[bad].mean() > 0.95
    assert covered[~bad].mean() < 0.06


def test_carbon_is_called_carbon_and_contamination_contamination():
    carbon = exclusion_mask(expose(Scene(count=40, seed=3, carbon=True))[0], **HOW)
    assert carbon.carbon_fraction > 0.15
    assert carbon.contamination_fraction < 0.05
    grains = exclusion_mask(expose(Scene(count=40, seed=3, contamination=2))[0], **HOW)
    assert grains.carbon_fraction == 0.0
    assert grains.contamination_fraction + grains.gold_or_edge_fraction > 0.02


def test_fractions_by_cause_add_up():
    image, _, _ = expose(Scene(count=20, seed=5, carbon=True, contamination=3))
    found = exclusion_mask(image, **HOW)
    parts = found.carbon_fraction + found.contamination_fraction + found.gold_or_edge_fraction
    assert parts == pytest.approx(found.fraction, abs=1e-9)


def test_no_more_than_a_twentieth_of_the_picks_lie_on_bad_areas():
    for seed in (2, 4):
        image, _, bad = expose(Scene(kind="shell", count=50, seed=seed, carbon=True, contamination=2))
        position = select_picks(find_particles(image, **HOW)).position_yx_px
        y, x = np.round(position).astype(int).T
        assert bad[y, x].mean() <= 0.05
        assert len(position) > 30


def test_a_dead_border_is_excluded():
    image, _, _ = expose(Scene(kind="shell", count=40, seed=6))
    image = image.copy()
    image[:, :60] = 0.0
    found = exclusion_mask(image, **HOW)
    assert full_size(found.mask, found.scale, image.shape)[:, :50].mean() > 0.95
    assert found.gold_or_edge_fraction == pytest.approx(60 / 760, abs=0.05)


def test_positions_are_looked_up_in_unbinned_pixels():
    image, _, bad = expose(Scene(count=0, seed=3, carbon=True))
    found = exclusion_mask(image, **HOW)
    assert found.at(np.array([[700.0, 755.0], [100.0, 20.0]])).tolist() == [True, False]
    assert bad[700, 755]


def test_a_constant_image_is_refused():
    with pytest.raises(ValueError, match="constant"):
        exclusion_mask(np.ones((400, 410), np.float32), **HOW)
