"""The rotation axis is found where it is, and said to be uncertain where nothing shows it."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.imaging.xray.discs import SCENE, Disc, project
from tomofly.imaging.xray.centre_search import half_turn, opposite_pairs, search_centre

FloatArray = npt.NDArray[np.float32]
ANGLES = np.deg2rad(np.arange(0, 180, 1.5))


def _sinograms(centre: float, width: int = 141, noise: float = 0.002) -> FloatArray:
    rng = np.random.default_rng(4)
    rows = [project(SCENE, ANGLES, width, centre), project(SCENE[1:], ANGLES, width, centre)]
    sinograms = np.stack(rows)
    return (sinograms + rng.normal(0, noise, sinograms.shape)).astype(np.float32)


@pytest.mark.parametrize("centre", [70.0, 66.35, 75.8, 60.5])
def test_the_centre_is_found_to_a_fraction_of_a_pixel(centre: float) -> None:
    found = search_centre(_sinograms(centre), threads=2)
    assert found.pixel == pytest.approx(centre, abs=0.15)
    assert found.certainty > 0.5
    assert found.spread_px < 0.3


@pytest.mark.parametrize("centre", [310.4, 401.9])
def test_wide_sinograms_are_searched_coarsely_first(centre: float) -> None:
    discs = [Disc(5 * d.x, 5 * d.y, 5 * d.radius, d.mu / 5) for d in SCENE]
    sinogram = project(discs, ANGLES, 720, centre)[None]
    assert search_centre(sinogram, threads=2).pixel == pytest.approx(centre, abs=0.25)


def test_noise_alone_shows_no_axis() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (2, 120, 141)).astype(np.float32)
    assert search_centre(noise).certainty < 0.2


def test_only_the_neighbourhood_of_a_guess_is_searched() -> None:
    found = search_centre(_sinograms(75.8), guess=60.0, half_width=6.0)
    assert 52 <= found.pixel <= 68


def test_nothing_to_see_and_nowhere_to_look_are_refused() -> None:
    with pytest.raises(ValueError, match="centre"):
        search_centre(_sinograms(70.0), guess=2.0, half_width=1.0)


def test_opposite_projections_are_found_in_any_order_of_angles() -> None:
    angles = np.random.default_rng(2).permutation(np.arange(72)) * 5.0
    pairs = opposite_pairs(angles, 1e-6, 6)
    assert 4 <= len(pairs) <= 6
    assert all(abs(abs(angles[a] - angles[b]) - 180) < 1e-6 for a, b in pairs)
    assert opposite_pairs(np.rad2deg(ANGLES), 0.1, 5) == []


@pytest.mark.parametrize("degrees", [np.arange(0, 180, 2.0), np.arange(-90, 91, 2.0), np.arange(360, 0, -2.0),
                                     np.arange(200) * 137.508])  # fmt: skip
def test_half_a_turn_is_chosen_of_any_scan(degrees: npt.NDArray[np.float64]) -> None:
    chosen = half_turn(degrees)
    assert chosen is not None
    turned = np.mod(degrees[chosen] - degrees.min(), 360)
    assert (np.diff(turned) > 0).all() and turned.max() < 180 and len(chosen) >= 88


def test_a_missing_wedge_has_no_half_turn() -> None:
    assert half_turn(np.arange(0, 120, 1.0)) is None
