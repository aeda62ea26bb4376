"""What the CTF of a tilt series is made of: tile spectra, depth, likelihood, chain and hand."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.imaging.tilted_thon import tilted_thon_image
from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.tilt_ctf_model import demodulate, evaluate, plane_depth, tilt_view
from tomofly.imaging.tilt_ctf_search import defocus_grid, nominal_log_prior, settle_chain
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_hand import judge_hand
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra, tile_spectra_from

OPTICS = CtfOptics(300.0, 2.7, 0.07)
BAND = (40.0, 5.0)


@pytest.fixture(scope="module")
def tilted() -> TileSpectra:
    image = tilted_thon_image((520, 610), 3.0, 48.0, 12.0, 25300.0, 24700.0, 40.0, contrast_a2=0.3, seed=2)
    return tile_spectra(image, pixel_size_angstrom=3.0)


def test_spectra_come_back_from_their_arrays(tilted: TileSpectra) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **tilted.arrays())
    file.seek(0)
    with np.load(file) as arrays:
        back = tile_spectra_from(arrays)
    assert np.array_equal(back.power, tilted.power)
    assert np.array_equal(back.centre_yx_px, tilted.centre_yx_px)
    assert (back.tile_px, back.pixel_size_angstrom) == (tilted.tile_px, tilted.pixel_size_angstrom)
    assert back.cells is tilted.cells


def test_tiles_cover_the_image_evenly_about_its_origin(tilted: TileSpectra) -> None:
    # The middle of an even image lies half a pixel before its origin.
    assert np.allclose(tilted.centre_yx_px.mean(axis=0), -0.5)
    extent = np.ptp(tilted.centre_yx_px, axis=0) + tilted.tile_px
    assert extent.tolist() == [520, 610]


def test_white_noise_is_white_in_every_cell() -> None:
    image = np.random.default_rng(5).normal(1000, 3, (700, 810))
    spectra = tile_spectra(image, pixel_size_angstrom=2.0)
    count = spectra.cells.count
    assert np.average(spectra.power.mean(axis=0, dtype=np.float64), weights=count) == pytest.approx(
        1, abs=0.01
    )
    variance = ((spectra.power.astype(np.float64) - 1) ** 2 * count).mean()
    assert variance == pytest.approx(1.0, abs=0.1)


def test_threads_and_units_do_not_change_the_spectra(tilted: TileSpectra) -> None:
    image = tilted_thon_image((520, 610), 3.0, 48.0, 12.0, 25300.0, 24700.0, 40.0, contrast_a2=0.3, seed=2)
    again = tile_spectra(1e-6 * image, pixel_size_angstrom=3.0, threads=2)
    assert np.allclose(again.power, tilted.power, rtol=2e-3)


def test_a_dark_bar_takes_its_tiles_out() -> None:
    image = np.random.default_rng(6).poisson(20, (1000, 700)).astype(np.float32)
    image[:400] = 0
    spectra = tile_spectra(image, pixel_size_angstrom=2.5)
    assert spectra.centre_yx_px[:, 0].min() > -200


@pytest.mark.parametrize(
    ("image", "pixel", "message"),
    [
        (np.zeros((300, 400), np.float32), 2.0, "constant or zero"),
        (np.full((300, 400), np.nan, np.float32), 2.0, "NaN"),
        (np.zeros((2, 300, 400), np.float32), 2.0, "one image"),
        (np.ones((30, 400), np.float32), 2.0, "too small"),
        (np.ones((300, 400), np.float32), 20.0, "too little"),
        (np.ones((300, 400), np.float32), -1.0, "positive"),
    ],
)
def test_images_that_can_have_no_spectra_are_refused(image: np.ndarray, pixel: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tile_spectra(image, pixel_size_angstrom=pixel)


angles = st.floats(-65, 65)


@given(angles, st.floats(-180, 180), st.floats(-15, 15), st.tuples(angles, angles), st.tuples(angles, angles))
def test_a_point_of_the_plane_has_its_own_depth_where_it_is_seen(
    tilt: float, axis: float, x_tilt: float, shift: tuple[float, float], point: tuple[float, float]
) -> None:
    geometry = TiltGeometry(np.array([tilt]), np.array([axis]), np.array([shift]), x_tilt)
    zyx = np.array([[0.0, *point]])
    depth, _ = plane_depth(geometry, 0, geometry.project(zyx)[0])
    assert np.allclose(depth, geometry.depth(zyx)[0], atol=1e-6)


# Near the truth: where there are no rings, the noise's own curves take turns and the derivative jumps.
@pytest.mark.parametrize(
    ("defocus", "along", "diagonal"), [(25000, 0, 250), (24900, 100, 350), (25100, 50, 150)]
)
def test_derivatives_are_those_of_the_likelihood(
    tilted: TileSpectra, defocus: float, along: float, diagonal: float
) -> None:
    hand = 1
    view = tilt_view(tilted, nominal_geometry([48.0], 12.0), 0, OPTICS, BAND)
    vector = np.array([along, diagonal])
    here = evaluate(demodulate(view, hand), defocus, vector, np.inf)

    def gain(turn: np.ndarray, scale: float) -> float:
        return evaluate(demodulate(view, hand * scale), defocus, vector + turn, np.inf).gain

    # Defocus itself also changes what finite tiles leave of the rings, which the derivative takes as given.
    found = [(gain(step, 1) - gain(-step, 1)) / 4 for step in 2.0 * np.eye(2)]
    found.append((gain(np.zeros(2), 1.002) - gain(np.zeros(2), 0.998)) / 0.004)
    unit = np.sqrt(np.diag(here.information))[1:]
    assert np.allclose(found / unit, here.gradient[1:] / unit, rtol=0.05, atol=0.3)


def test_the_likelihood_is_highest_at_the_truth(tilted: TileSpectra) -> None:
    view = tilt_view(tilted, nominal_geometry([48.0], 12.0), 0, OPTICS, BAND)
    truth = 300 * np.array([np.cos(np.deg2rad(80)), np.sin(np.deg2rad(80))])
    tried = np.arange(20000.0, 30001.0, 250.0)
    gains = [evaluate(demodulate(view, 1), value, truth, np.inf).gain for value in tried]
    assert abs(tried[int(np.argmax(gains))] - 25000) <= 250
    assert max(gains) > evaluate(demodulate(view, -1), 25000, truth, np.inf).gain
    assert max(gains) > evaluate(demodulate(view, 1), 25000, -truth, np.inf).gain


def bumps(grid: np.ndarray, centres: list[float], heights: list[float], width: float = 300.0) -> np.ndarray:
    return np.stack(
        [h * np.exp(-0.5 * ((grid - c) / width) ** 2) for c, h in zip(centres, heights, strict=True)]
    )


def test_a_doubtful_tilt_follows_its_neighbours_and_a_clear_one_does_not() -> None:
    grid = defocus_grid((10000, 50000))
    evidence = bumps(grid, [30000] * 7, [40, 40, 40, 3, 40, 40, 40])
    evidence[3] = bumps(grid, [42000], [4])[0] + bumps(grid, [30200], [3])[0]
    assert abs(settle_chain(evidence, grid, np.arange(7.0)).defocus[3] - 30200) <= 200
    evidence[3] = bumps(grid, [42000], [40])[0]
    chain = settle_chain(evidence, grid, np.arange(7.0))
    assert chain.defocus[3] == 42000
    assert chain.expected_precision[3] * 2000**2 < 0.1
    assert chain.expected_precision[1] * 2000**2 > 1


def test_a_nominal_defocus_only_weighs() -> None:
    grid = defocus_grid((10000, 50000))
    evidence = bumps(grid, [20000], [10]) + bumps(grid, [40000], [9.5])
    prior = nominal_log_prior(grid, 41000.0)
    assert settle_chain(evidence + prior, grid, np.zeros(1)).defocus[0] == 40000
    assert settle_chain(4 * evidence + prior, grid, np.zeros(1)).defocus[0] in (20000, 40000)
    strong = bumps(grid, [20000], [30]) + prior
    assert settle_chain(strong, grid, np.zeros(1)).defocus[0] == 20000
    assert not nominal_log_prior(grid, None).any()


def test_hands_need_tilt_and_agreement() -> None:
    angles = np.array([-50.0, -30, -10, 10, 30, 50])
    gain = np.array([9.0, 8, 30, 30, 7, 10])
    assert judge_hand(gain, np.zeros(6), angles).verdict == "right"
    assert judge_hand(np.zeros(6), gain, angles).verdict == "inverted"
    assert judge_hand(gain, np.zeros(6), angles / 10).verdict == "undecided"
    # One tilt that speaks alone, against the others, is not enough.
    alone = np.array([60.0, -8, 0, 0, -8, -8])
    judged = judge_hand(alone, np.zeros(6), angles)
    assert (judged.verdict, judged.likelier) == ("undecided", 1)
    assert 0.5 <= judged.certainty < 0.99


def test_a_wrong_hand_is_the_mirror_of_the_right_one() -> None:
    angles = np.linspace(-60, 60, 9)
    gain = np.random.default_rng(0).normal(3, 2, 9)
    there, back = judge_hand(gain, 0 * gain, angles), judge_hand(0 * gain, gain, angles)
    assert there.log_likelihood_difference == pytest.approx(-back.log_likelihood_difference)
    assert there.certainty == pytest.approx(back.certainty)
