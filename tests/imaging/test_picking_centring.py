"""Particles that are not round are centred on the whole of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tomofly.imaging.centring import turned_centres
from tomofly.imaging.matching import match_picks
from tomofly.imaging.picking import find_particles, select_picks
from tomofly.simulate import SpaMicroscope, expose

SHAPE = (113, 97)


def four_bars(centre_yx_px, angle_rad, noise, seed):
    """Four parallel bars (y, x) about a centre, like a barrel's rings seen from the side, in white noise."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dy, dx = yy - centre_yx_px[0], xx - centre_yx_px[1]
    along = dx * np.cos(angle_rad) + dy * np.sin(angle_rad)
    across = dy * np.cos(angle_rad) - dx * np.sin(angle_rad)
    bars = sum(np.exp(-0.5 * ((along - at) / 2.2) ** 2) for at in (-16.5, -5.5, 5.5, 16.5))
    image = bars / (1 + np.exp((np.abs(across) - 13) / 1.2))
    image = image - gaussian_filter(image, 12) + noise * np.random.default_rng(seed).standard_normal(SHAPE)
    return gaussian_filter(image, 1.0).astype(np.float32)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0, np.pi), st.floats(-5, 5), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_the_centre_of_bars_is_found_from_nearby(y, x, angle, dy, dx):
    truth = np.array([55 + y, 48 + x])
    found = turned_centres(four_bars(truth, angle, 0.2, 1), truth[None] + [[dy, dx]], np.array([46.0]), 8.0)
    np.testing.assert_allclose(found.centre_yx_px[0], truth, atol=1.0)  # bars slide along themselves
    assert found.symmetry[0] > 0.5


def test_symmetry_is_one_without_noise_and_near_nothing_in_noise():
    clear = turned_centres(four_bars((55, 48), 0.4, 0.0, 1), np.array([[56.0, 47.0]]), np.array([46.0]), 6.0)
    assert clear.symmetry[0] == pytest.approx(1.0, abs=0.01)
    assert clear.symmetry_before[0] <= clear.symmetry[0] + 1e-6
    noise = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    assert turned_centres(noise, np.array([[55.0, 48.0]]), np.array([46.0]), 6.0).symmetry[0] < 0.2


def test_a_position_stays_where_no_centre_is_in_reach():
    image = four_bars((55, 48), 0.0, 0.0, 1)
    start = np.array([[55.0, 44.6]])
    found = turned_centres(image, start, np.array([46.0]), 2.0)
    np.testing.assert_array_equal(found.centre_yx_px, start)
    assert found.symmetry[0] == 0.0


@pytest.mark.parametrize("diameter", [153.0, (115.0, 155.0)])
def test_barrels_are_picked_once_and_on_their_centre(diameter):
    microscope = SpaMicroscope(
        seed=4, structures=("barrel",), detector_yx_px=(620, 560), frames=2, dtype="uint16",
        dose_per_frame_e_per_a2=15, carbon_edge_fraction=0, contamination_fraction=0,
        drift_rms_angstrom_per_frame=0, early_drift_angstrom=0, beam_induced_angstrom=0,
        gain_variation=0, hot_pixel_fraction=0, dead_pixel_fraction=0,
    )  # fmt: skip
    exposure = expose(microscope, 0)
    truth = np.array([(p.y_px, p.x_px) for p in exposure.truth.particles])
    image = exposure.frames.sum(axis=0, dtype=np.float32)
    picks = select_picks(find_particles(image, pixel_size_angstrom=1.5, diameter_angstrom=diameter))
    whole = ((truth > 52) & (truth < np.array(image.shape) - 53)).all(axis=1)
    matching = match_picks(picks.position_yx_px, truth[whole], 12)
    assert len(matching.pairs) == whole.sum() >= 5
    assert np.median(matching.distance_px) < 1.5
    matched = match_picks(picks.position_yx_px, truth, 25)
    assert len(matched.pairs) == len(picks)
