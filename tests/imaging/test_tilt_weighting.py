"""The filters of weighted back-projection, and what they have in common with what they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import iradon, radon

from tests.imaging.tilted_blobs import blob_images, blob_volume
from tomofly.imaging.dose_weighting import critical_dose
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_weighting import (
    exact_filter,
    hamming_cutoff,
    overlap,
    ramp_filter,
    sirt_like_filter,
    tilt_contrast,
    view_filter,
    weight_tilts,
)
from tomofly.imaging.tomogram import reconstruct_tomogram

TILTS = np.arange(-60.0, 61.0, 3.0)
FREQUENCY = np.linspace(0, 0.5, 65)


def test_exact_filter_is_the_ramp_where_views_overlap_and_flat_beyond() -> None:
    exact, ramp = (make(TILTS, FREQUENCY, 60.0)[20] for make in (exact_filter, ramp_filter))
    middle = (FREQUENCY > 0.05) & (FREQUENCY < 0.2)
    np.testing.assert_allclose(exact[middle], ramp[middle], rtol=0.15)
    crowther = 1 / (60.0 * np.sin(np.deg2rad(3.0)))
    np.testing.assert_allclose(exact[crowther * 1.001 < FREQUENCY], 1 / 60.0)


@given(st.lists(st.integers(-65, 65), min_size=2, max_size=30), st.floats(20, 300))
@settings(max_examples=30, deadline=None)
def test_repeated_views_share_the_weight_of_one(angles: list[int], thickness: float) -> None:
    once = exact_filter(np.unique(angles), FREQUENCY, thickness)
    doubled = exact_filter(np.repeat(np.unique(angles), 2), FREQUENCY, thickness)
    np.testing.assert_allclose(2 * doubled[::2], once)
    np.testing.assert_allclose(
        ramp_filter(np.repeat(np.unique(angles), 2), FREQUENCY, thickness)[::2] * 2,
        ramp_filter(np.unique(angles), FREQUENCY, thickness),
    )


def test_views_beside_a_gap_count_more() -> None:
    kept = np.delete(TILTS, [19, 20, 21])
    weights = exact_filter(kept, FREQUENCY, 60.0)[:, 8]
    assert weights[18] > 1.2 * weights[5] and weights[19] > 1.2 * weights[-6]


def test_one_iteration_of_the_sirt_like_filter_is_none_and_many_are_exact() -> None:
    np.testing.assert_allclose(sirt_like_filter(TILTS, FREQUENCY, 80.0, 1), 1 / (80.0 * len(TILTS)))
    np.testing.assert_allclose(
        sirt_like_filter(TILTS, FREQUENCY, 80.0, 5000), exact_filter(TILTS, FREQUENCY, 80.0), rtol=1e-6
    )
    assert (overlap(TILTS, FREQUENCY, 80.0) >= 1).all()


def test_sirt_like_filter_looks_like_sirt() -> None:
    random = np.random.default_rng(2)
    geometry = TiltGeometry(TILTS, np.zeros(41), np.zeros((41, 2)))
    points = random.uniform([-10, -12, -25], [10, 12, 25], (12, 3))
    images = blob_images(points, 1.5, geometry, (40, 80))
    shape = (36, 34, 70)
    sirt = reconstruct_tomogram(images, geometry, shape, method="sirt", iterations=8)
    like = reconstruct_tomogram(images, geometry, shape, filtering="sirt-like", iterations=8)
    weighted = reconstruct_tomogram(images, geometry, shape, filtering="exact")
    middle = (slice(None), slice(None), slice(10, -10))
    alike, other = (np.corrcoef(sirt[middle].ravel(), v[middle].ravel())[0, 1] for v in (like, weighted))
    assert alike > 0.93 and alike > other


def test_filter_names_are_checked_and_the_cutoff_falls_to_its_end() -> None:
    with pytest.raises(ValueError, match="exact, ramp or sirt-like, not 'gauss'"):
        view_filter("gauss", TILTS, FREQUENCY, 60.0)  # type: ignore[arg-type]
    window = hamming_cutoff(FREQUENCY, 0.25, 0.4)
    assert (window[FREQUENCY <= 0.25] == 1).all() and (window[FREQUENCY > 0.4] == 0).all()
    assert (np.diff(window) <= 0).all()


def test_slices_agree_with_those_of_another_program() -> None:
    angles = np.arange(-90.0, 90.0, 2.0)
    disc = np.hypot(*(np.indices((64, 64)) - 32)) < 30
    truth = disc * blob_volume(np.array([[0, 0, 0], [9.0, 0, 14], [-12, 0, -7]]), 2.2, (64, 1, 64))[:, 0]
    sinogram = radon(truth, theta=angles, circle=True)
    theirs = iradon(sinogram, theta=angles, circle=True, filter_name="ramp")
    geometry = TiltGeometry(-angles, np.zeros(len(angles)), np.zeros((len(angles), 2)))
    images = np.repeat(sinogram.T[:, None, :], 9, axis=1).astype(np.float32)
    ours = reconstruct_tomogram(images, geometry, (64, 9, 64), filtering="ramp", cutoff=(0.5, 0.5))[:, 4]
    assert np.corrcoef(ours[disc], theirs[disc])[0, 1] > 0.995
    own_error, their_error = (float(np.std((volume - truth)[disc])) for volume in (ours, theirs))
    assert own_error < 1.5 * their_error < 0.015 * truth.max()


def test_dose_weights_lower_late_tilts_at_high_frequencies_and_leave_noise_as_it_is() -> None:
    random = np.random.default_rng(5)
    images = random.normal(size=(30, 48, 52)).astype(np.float32)
    dose = np.arange(30) * 4.0
    weighted = weight_tilts(images, 5.0, tilt_angle_deg=np.linspace(-58, 58, 30), dose_e_per_angstrom2=dose)
    assert np.square(weighted).mean() == pytest.approx(np.square(images).mean(), rel=0.03)
    power = np.abs(np.fft.rfft2(weighted)) ** 2 / np.abs(np.fft.rfft2(images)) ** 2
    ratio = power[29, 0, 20] / power[0, 0, 20]
    expected = np.exp(-dose[29] / critical_dose(20 / 52 / 5.0))
    assert ratio == pytest.approx(float(expected), rel=0.05)


def test_tilts_lose_amplitude_with_the_cosine() -> None:
    images = np.random.default_rng(5).normal(size=(3, 16, 18)).astype(np.float32)
    weighted = weight_tilts(images, 5.0, tilt_angle_deg=[0, 60, 0])
    np.testing.assert_allclose(weighted[1] / images[1], 0.5 * weighted[0] / images[0], rtol=0.02)


def test_contrast_does_not_know_the_number_of_electrons() -> None:
    image = np.random.default_rng(1).poisson(40, (2, 12, 14)).astype(np.float32)
    np.testing.assert_allclose(tilt_contrast(image * 7), tilt_contrast(image), atol=1e-6)
    with pytest.raises(ValueError, match="image 1"):
        tilt_contrast(image * np.array([1, 0], np.float32)[:, None, None])
