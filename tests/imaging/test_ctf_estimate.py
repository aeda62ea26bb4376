"""CTF estimation on micrographs whose CTF is known."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from tests.imaging.thon_micrograph import thon_micrograph
from tomofly.imaging.ctf_estimate import CtfEstimate, estimate_ctf

PIXEL = 1.5
SHAPE = (900, 1040)


def estimate(image: np.ndarray, pixel: float = PIXEL, **settings: Any) -> CtfEstimate:
    optics = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.07}
    return estimate_ctf(image, pixel_size_angstrom=pixel, **(optics | settings))


def angle_between(a: float, b: float) -> float:
    return abs((a - b + 90) % 180 - 90)


@pytest.fixture(scope="module")
def astigmatic() -> np.ndarray:
    return thon_micrograph(SHAPE, PIXEL, 16000, 15200, 35.0, seed=1)


@pytest.fixture(scope="module")
def astigmatic_estimate(astigmatic: np.ndarray) -> CtfEstimate:
    return estimate(astigmatic)


@pytest.mark.parametrize(
    ("u", "v", "angle"), [(5300, 4900, 10), (9000, 8000, 100), (20000, 19800, 60), (35500, 34500, 150)]
)
def test_defocus_and_astigmatism_are_found(u: float, v: float, angle: float) -> None:
    result = estimate(thon_micrograph(SHAPE, PIXEL, u, v, angle, seed=int(u)))
    assert abs(result.defocus_angstrom - (u + v) / 2) < max(30, 4 * result.defocus_error_angstrom)
    assert abs(result.astigmatism_angstrom - (u - v)) < 4 * result.astigmatism_error_angstrom
    assert angle_between(result.astigmatism_angle_deg, angle) < 4 * result.angle_error_deg
    assert not {"no_thon_rings", "ambiguous_defocus", "defocus_at_bound"} & set(result.flags)


@pytest.mark.parametrize(
    ("voltage", "pixel", "cs"), [(200.0, 1.9, 2.7), (100.0, 1.2, 1.6), (300.0, 0.7, 0.01)]
)
def test_other_microscopes_are_served(voltage: float, pixel: float, cs: float) -> None:
    image = thon_micrograph((1010, 990), pixel, 12000, 11500, 75.0, voltage_kv=voltage, cs_mm=cs, seed=3)
    result = estimate(image, pixel, voltage_kv=voltage, spherical_aberration_mm=cs)
    assert abs(result.defocus_angstrom - 11750) < max(30, 4 * result.defocus_error_angstrom)


def test_u_is_the_larger_defocus(astigmatic_estimate: CtfEstimate) -> None:
    assert astigmatic_estimate.defocus_u_angstrom >= astigmatic_estimate.defocus_v_angstrom
    assert 0 <= astigmatic_estimate.astigmatism_angle_deg < 180


def test_a_quarter_turn_of_the_image_turns_the_angle(
    astigmatic: np.ndarray, astigmatic_estimate: CtfEstimate
) -> None:
    turned = estimate(np.ascontiguousarray(np.rot90(astigmatic)))
    difference = angle_between(turned.astigmatism_angle_deg, astigmatic_estimate.astigmatism_angle_deg + 90)
    assert difference < 2.0
    assert turned.defocus_u_angstrom == pytest.approx(astigmatic_estimate.defocus_u_angstrom, abs=15)


def test_a_mirror_image_mirrors_the_angle(astigmatic: np.ndarray, astigmatic_estimate: CtfEstimate) -> None:
    mirrored = estimate(np.ascontiguousarray(astigmatic[:, ::-1]))
    assert angle_between(mirrored.astigmatism_angle_deg, -astigmatic_estimate.astigmatism_angle_deg) < 2.0


@pytest.mark.parametrize(("gain", "offset"), [(1e-30, 0.0), (1e30, 0.0), (1e5, -3e6), (-1.0, 200.0)])
def test_brightness_and_contrast_change_nothing(
    astigmatic: np.ndarray, astigmatic_estimate: CtfEstimate, gain: float, offset: float
) -> None:
    result = estimate(gain * astigmatic.astype(np.float64) + offset)
    assert result.defocus_u_angstrom == pytest.approx(astigmatic_estimate.defocus_u_angstrom, abs=1.0)
    assert result.fit_quality == pytest.approx(astigmatic_estimate.fit_quality, abs=1e-3)


def test_number_types_of_cameras_give_the_same(
    astigmatic: np.ndarray, astigmatic_estimate: CtfEstimate
) -> None:
    result = estimate(astigmatic.astype(np.uint16))
    assert result.defocus_u_angstrom == pytest.approx(astigmatic_estimate.defocus_u_angstrom, abs=0.01)


def test_spectra_of_frame_sums_are_averaged() -> None:
    sums = np.stack([thon_micrograph((700, 640), PIXEL, 14000, 13500, 80, seed=s) for s in range(3)])
    together, alone = estimate(sums), estimate(sums[0])
    assert together.defocus_angstrom == pytest.approx(13750, abs=60)
    assert together.defocus_error_angstrom < 0.75 * alone.defocus_error_angstrom


def test_phase_shift_is_found_when_asked_for() -> None:
    image = thon_micrograph(SHAPE, PIXEL, 11000, 10700, 20, phase_shift_deg=85, seed=8)
    result = estimate(image, phase_shift_range_deg=(0, 180))
    assert abs(result.phase_shift_deg - 85) < max(5, 4 * result.phase_shift_error_deg)
    assert abs(result.defocus_angstrom - 10850) < max(60, 4 * result.defocus_error_angstrom)


def test_phase_shift_stays_zero_when_not_asked_for(astigmatic_estimate: CtfEstimate) -> None:
    assert astigmatic_estimate.phase_shift_deg == 0.0
    assert astigmatic_estimate.phase_shift_error_deg == 0.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_has_no_thon_rings(seed: int) -> None:
    image = np.random.default_rng(seed).poisson(3.0, (600, 640))
    result = estimate(image)
    assert "no_thon_rings" in result.flags
    assert result.fit_quality < 0.1


def test_a_brightness_ramp_is_flagged() -> None:
    y, x = np.mgrid[:600, :700]
    assert estimate(0.3 * y + x).flags


def test_few_counts_give_numbers_and_not_nan() -> None:
    image = thon_micrograph((640, 700), PIXEL, 15000, 15000, 0, electrons_per_pixel=0.05, seed=2)
    result = estimate(image)
    numbers = (result.defocus_u_angstrom, result.defocus_error_angstrom, result.fit_quality)
    assert np.all(np.isfinite(numbers))
    for curve in (result.profile.measured, result.profile.background, result.profile.agreement):
        assert np.all(np.isfinite(curve))


def test_a_defocus_beyond_the_range_is_flagged() -> None:
    image = thon_micrograph((700, 700), PIXEL, 22000, 22000, 0, seed=4)
    result = estimate(image, defocus_range_angstrom=(5000, 21960))
    assert "defocus_at_bound" in result.flags


def test_better_data_fit_to_finer_resolution() -> None:
    sharp, blurred = (
        estimate(thon_micrograph(SHAPE, PIXEL, 15000, 15000, 0, b_factor=b, seed=6)) for b in (30, 400)
    )
    assert sharp.fit_resolution_angstrom is not None
    assert blurred.fit_resolution_angstrom is not None
    assert sharp.fit_resolution_angstrom < 4.0
    assert blurred.fit_resolution_angstrom > 5.0


def test_rings_too_narrow_for_the_tiles_are_flagged() -> None:
    image = thon_micrograph((600, 600), PIXEL, 40000, 40000, 0, contrast=0.6, seed=5)
    result = estimate(image, box_px=256)
    assert abs(result.defocus_angstrom - 40000) < 100
    assert result.aliasing_resolution_angstrom is not None
    assert "aliasing" in result.flags


def test_the_box_grows_with_the_defocus() -> None:
    image = thon_micrograph((1400, 1400), PIXEL, 38000, 38000, 0, seed=5)
    assert estimate(image, box_px=256).box_px > 256


def test_crystalline_ice_is_seen_and_does_not_move_the_defocus(astigmatic: np.ndarray) -> None:
    ky = np.fft.fftfreq(SHAPE[0], PIXEL)[:, None]
    k = np.hypot(ky, np.fft.rfftfreq(SHAPE[1], PIXEL))
    noise = np.fft.rfft2(np.random.default_rng(9).standard_normal(SHAPE))
    ring = np.fft.irfft2(noise * np.exp(-(((k - 1 / 3.67) / 0.004) ** 2)), s=SHAPE)
    icy, clear = estimate(astigmatic + 30 * ring), estimate(astigmatic)
    assert icy.ice_ring is not None
    assert clear.ice_ring is not None
    assert clear.ice_ring == pytest.approx(1.0, abs=0.15)
    assert icy.ice_ring > 1.5
    assert icy.defocus_angstrom == pytest.approx(clear.defocus_angstrom, abs=60)


def test_large_pixels_cannot_tell_ice() -> None:
    image = thon_micrograph((700, 700), 2.6, 18000, 17500, 30, seed=7)
    result = estimate(image, 2.6)
    assert result.ice_ring is None
    assert abs(result.defocus_angstrom - 17750) < max(60, 4 * result.defocus_error_angstrom)


def test_profile_shows_the_fitted_rings(astigmatic_estimate: CtfEstimate) -> None:
    profile = astigmatic_estimate.profile
    assert np.all(np.diff(profile.frequency) > 0)
    seen = profile.frequency < 1 / 6
    assert np.corrcoef(profile.measured[seen], profile.fitted[seen])[0, 1] > 0.8
    assert profile.fitted.min() >= 0
    assert profile.fitted.max() <= 1


def test_displayed_spectrum_obeys_friedel_outside_the_model(astigmatic_estimate: CtfEstimate) -> None:
    shown = astigmatic_estimate.spectrum_2d
    centre = shown.shape[0] // 2
    assert shown.dtype == np.float32
    upper_right = shown[centre - 100 : centre, centre + 1 : centre + 100]
    lower_left = shown[centre + 1 : centre + 101, centre - 99 : centre]
    np.testing.assert_allclose(upper_right, lower_left[::-1, ::-1], rtol=1e-5)


def test_errors_are_as_large_as_they_claim() -> None:
    scores = []
    for seed in range(16):
        defocus = 7000 + 1500 * seed
        image = thon_micrograph((640, 600), PIXEL, defocus + 200, defocus - 200, 7 * seed, seed=seed)
        result = estimate(image)
        scores.append((result.defocus_angstrom - defocus) / result.defocus_error_angstrom)
    assert 0.6 < np.std(scores) < 1.6
    assert abs(np.mean(scores)) < 0.7


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((300, 300)), "constant or zero"),
        (np.full((300, 300), 3), "constant or zero"),
        (np.full((300, 300), np.nan, dtype=np.float32), "NaN"),
        (np.ones((20, 300)), "too small"),
    ],
)
def test_images_that_can_have_no_ctf_are_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimate(image)


@pytest.mark.parametrize(
    "settings",
    [
        {"defocus_range_angstrom": (20000, 5000)},
        {"defocus_range_angstrom": (0, 5000)},
        {"resolution_range_angstrom": (5, 30)},
        {"phase_shift_range_deg": (90, 10)},
        {"phase_shift_range_deg": (0, 200)},
        {"voltage_kv": 0.0},
        {"pixel": 0.0},
        {"resolution_range_angstrom": (6.0, 5.9)},
    ],
)
def test_senseless_settings_are_refused(astigmatic: np.ndarray, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got|too few"):
        estimate(astigmatic, **settings)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["May08_03.05.02", "May08_03.43.44", "May08_05.55.31"])
def test_real_apoferritin_has_the_defocus_it_was_taken_at(real_data: Path, name: str) -> None:
    image = mrcfile.read(real_data / "spa_apoferritin" / f"{name}.mrc")
    result = estimate(image)
    assert 15000 < result.defocus_v_angstrom <= result.defocus_u_angstrom < 25000
    assert result.defocus_error_angstrom < 50
    assert result.fit_resolution_angstrom is not None
    assert result.fit_resolution_angstrom < 6
    assert result.flags == ()
