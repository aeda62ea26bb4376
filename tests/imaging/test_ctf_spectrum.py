"""The tile-averaged power spectrum."""

from itertools import pairwise

import numpy as np
import pytest

from tomofly.imaging.spectrum import (
    taper_coherence,
    taper_noise,
    tile_length_px,
    tile_power_spectrum,
    tile_starts,
)


def white(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_white_noise_has_a_flat_spectrum() -> None:
    power = tile_power_spectrum(white((700, 900)), 2.0, 128).power
    assert power.shape == (128, 65)
    assert power[3:60, 3:60].mean() == pytest.approx(1.0, abs=0.02)
    assert power[3:30, 3:60].mean() == pytest.approx(power[30:60, 3:60].mean(), abs=0.03)


@pytest.mark.parametrize("pixel", [0.5, 1.0, 1.4, 3.0])
def test_a_wave_appears_at_its_own_frequency(pixel: float) -> None:
    y, x = np.mgrid[:590, :610] * pixel
    wave = np.cos(2 * np.pi * (x / 17.0 - y / 31.0))
    spectrum = tile_power_spectrum(wave, pixel, 128)
    row, column = np.unravel_index(int(spectrum.power.argmax()), spectrum.power.shape)
    assert column * spectrum.step == pytest.approx(1 / 17.0, abs=0.6 * spectrum.step)
    assert (row - spectrum.box_px) * spectrum.step == pytest.approx(-1 / 31.0, abs=0.6 * spectrum.step)


def test_small_pixels_are_cropped_to_a_useful_nyquist() -> None:
    assert tile_power_spectrum(white((600, 600)), 0.7, 256).nyquist == pytest.approx(1 / 2.8, rel=0.02)
    assert tile_power_spectrum(white((600, 600)), 2.0, 256).nyquist == pytest.approx(1 / 4.0)


def test_threads_change_nothing() -> None:
    image = white((500, 400))
    one, three = (tile_power_spectrum(image, 1.3, 128, threads).power for threads in (1, 3))
    np.testing.assert_allclose(one, three, rtol=1e-12)


def test_degrees_of_freedom_predict_the_scatter_of_an_average() -> None:
    spectra = [tile_power_spectrum(white((390, 520), seed), 2.0, 128) for seed in range(120)]
    # Two bands, compared with each other so that the tiles' own normalisation drops out.
    ratio = [s.power[4:30, 4:60].mean() / s.power[34:60, 4:60].mean() for s in spectra]
    samples = spectra[0].degrees_of_freedom * (26 * 56) / (128 * 64)
    assert np.var(ratio) * samples / 2 == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("shape", [(128, 128), (150, 170), (390, 520)])
def test_independent_tiles_predict_the_scatter_of_one_sample(shape: tuple[int, int]) -> None:
    spectra = [tile_power_spectrum(white(shape, seed), 2.0, 128) for seed in range(20)]
    power = np.concatenate([s.power[4:60, 4:60].ravel() for s in spectra])
    assert power.var() / power.mean() ** 2 * spectra[0].independent_tiles == pytest.approx(1.0, abs=0.12)


def test_an_echo_in_the_image_is_a_ripple_as_deep_as_the_taper_leaves_it() -> None:
    lag = 40
    noise = white((1100, 1100))
    echo = noise + np.roll(noise, lag, axis=1)
    spectrum = tile_power_spectrum(echo, 2.0, 128)
    columns = np.arange(spectrum.power.shape[1])
    profile = spectrum.power[8:120].mean(axis=0)[4:60]
    ripple = np.cos(2 * np.pi * lag * columns / 128)[4:60]
    depth = 2 * np.mean(profile * ripple) / profile.mean()
    assert depth == pytest.approx(float(taper_coherence(np.array(lag / 128))), abs=0.05)


def test_taper_tables_start_at_one_and_end_at_zero() -> None:
    for table in (taper_coherence, taper_noise):
        values = table(np.array([0.0, 0.2, 0.5, 0.8, 1.0, 3.0]))
        assert values[0] == 1.0
        assert np.all(np.diff(values) <= 0)
        assert values[-1] == 0.0


@pytest.mark.parametrize(("length", "tile"), [(512, 512), (513, 512), (4096, 720), (1200, 512), (3838, 720)])
def test_tiles_cover_the_axis(length: int, tile: int) -> None:
    starts = tile_starts(length, tile)
    assert starts[0] == 0
    # A remainder too thin to be worth a tile of its own may be left.
    assert 0 <= length - tile - starts[-1] < 0.1 * tile
    assert all(b - a <= tile for a, b in pairwise(starts))


def test_tile_never_exceeds_the_image_and_is_even() -> None:
    assert tile_length_px((301, 777), 1.0, 512) == 300


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((200, 200)), "constant or zero"),
        (np.full((200, 200), 7.0), "constant or zero"),
        (np.full((200, 200), np.nan), "NaN"),
        (np.where(np.arange(40000).reshape(200, 200) == 77, np.inf, 1.0), "NaN or infinite"),
        (np.ones((200, 30)), "too small"),
        (np.ones(200), r"\(y, x\)"),
        (np.ones((200, 200), dtype=complex), "real image"),
        (np.ones((0, 200, 200)), "too small"),
    ],
)
def test_images_without_a_spectrum_are_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tile_power_spectrum(image, 1.0, 128)


@pytest.mark.parametrize(
    ("pixel", "box"), [(0.0, 128), (-1.0, 128), (float("nan"), 128), (1.0, 127), (1.0, 8)]
)
def test_senseless_sampling_is_refused(pixel: float, box: int) -> None:
    with pytest.raises(ValueError, match="got"):
        tile_power_spectrum(white((200, 200)), pixel, box)


def test_one_bright_tile_does_not_rule_the_average() -> None:
    image = white((800, 800))
    image[:200, :200] *= 300
    plain = tile_power_spectrum(white((800, 800)), 2.0, 128).power[4:60, 4:60]
    marred = tile_power_spectrum(image, 2.0, 128).power[4:60, 4:60]
    assert marred.std() < 2 * plain.std()
