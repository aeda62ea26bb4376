"""Shell correlation, and the filters for viewing that are made from it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.tomogram_filter import (
    apply_radial,
    deconvolve_for_view,
    filter_by_halves,
    smooth_for_view,
)
from tomofly.imaging.tomogram_fsc import central_part, half_resolution, shell_correlation

SHAPE = (40, 54, 62)


def _halves(noise: float, smooth: float = 1.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    truth = gaussian_filter(random.normal(size=SHAPE), smooth)
    truth /= truth.std()
    first, second = (truth + random.normal(0, noise, SHAPE) for _ in range(2))
    return truth.astype(np.float32), first.astype(np.float32), second.astype(np.float32)


def test_a_volume_agrees_with_itself_and_not_with_its_negative() -> None:
    truth, _, _ = _halves(0)
    frequency, same = shell_correlation(truth, truth * 3 + 1)
    np.testing.assert_allclose(same, 1.0, atol=1e-5)
    np.testing.assert_allclose(shell_correlation(truth, -truth)[1], -1.0, atol=1e-5)
    assert len(frequency) == 20 and frequency[0] == pytest.approx(0.0125)


def test_correlation_is_what_signal_and_noise_make_it() -> None:
    random = np.random.default_rng(5)
    common, first, second = random.normal(size=(3, 48, 50, 52)).astype(np.float32)
    _, correlation = shell_correlation(common + first, common + second, taper=0.02)
    assert correlation[4:].mean() == pytest.approx(0.5, abs=0.02)


def test_the_missing_wedge_is_left_out() -> None:
    random = np.random.default_rng(4)
    truth = random.normal(size=(48, 40, 48)).astype(np.float32)
    kz, kx = np.fft.fftfreq(48)[:, None, None], np.fft.rfftfreq(48)[None, None, :]
    measured = np.abs(kz) <= np.tan(np.deg2rad(50)) * kx
    spectrum = np.fft.rfftn(truth) * measured
    half = np.fft.irfftn(spectrum, s=truth.shape, axes=(0, 1, 2)).astype(np.float32)
    everywhere = shell_correlation(truth, half, taper=0.0)[1][3:].mean()
    within = shell_correlation(truth, half, taper=0.0, tilt_range_deg=(-45, 45))[1][3:].mean()
    assert within > 0.97 and everywhere < 0.8


def test_resolution_is_finer_with_less_noise_and_never_beyond_the_voxel() -> None:
    resolutions = [half_resolution(*_halves(noise)[1:], 5.0) for noise in (0.5, 2.0, 8.0)]
    assert 10.0 <= resolutions[0] < resolutions[1] < resolutions[2]
    truth = _halves(0)[0]
    assert half_resolution(truth, truth, 5.0) == 10.0
    assert half_resolution(truth, -truth, 5.0) == float("inf")


def test_filtering_by_halves_comes_closer_to_the_truth() -> None:
    truth, first, second = _halves(2.0)
    filtered = filter_by_halves(first, second)
    assert filtered.shape == SHAPE and filtered.dtype == np.float32
    plain = np.square((first + second) / 2 - truth).mean()
    assert np.square(filtered - truth).mean() < 0.4 * plain


def test_deconvolution_gives_low_frequencies_their_weight_back() -> None:
    optics = CtfOptics(300.0, 2.7, 0.07)
    dot = np.zeros(SHAPE, np.float32)
    dot[20, 27, 31] = 1
    filtered = deconvolve_for_view(dot, 10.0, 30000.0, optics)
    power = np.abs(np.fft.rfftn(filtered))[0, 0]
    assert power[3] > 2 * power[20]
    assert power[0] < 0.1 * power[3]
    assert np.argmax(filtered) == np.argmax(dot)
    unflipped = deconvolve_for_view(dot, 10.0, 30000.0, optics, corrected="none")
    assert (np.fft.rfftn(np.fft.ifftshift(unflipped))[0, 0].real < -1e-3).any()


def test_what_a_wiener_filter_has_restored_is_raised_less() -> None:
    optics = CtfOptics(300.0, 2.7, 0.07)
    dot = np.zeros(SHAPE, np.float32)
    dot[20, 27, 31] = 1
    flipped, restored = (
        np.abs(np.fft.rfftn(deconvolve_for_view(dot, 10.0, 30000.0, optics, corrected=corrected)))[0, 0]
        for corrected in ("flip", "wiener")
    )
    # The first maximum of the CTF is left alone by either; before it the Wiener filter has done its share.
    assert restored[8] < flipped[8] and restored[3] > 1


def test_smoothing_halves_what_it_is_told_to() -> None:
    first, _, _ = _halves(1.0)
    before, after = (
        np.abs(np.fft.rfftn(volume))[0, 0] for volume in (first, smooth_for_view(first, 5.0, 50.0))
    )
    # 62 voxels of 5 Å: the frequency 1/50 Å lies at 6.2 of the transform.
    assert after[6] / before[6] == pytest.approx(0.5 ** (6 / 6.2) ** 2, rel=0.01)
    assert after[20] < 1e-3 * before[20]


def test_the_central_part_keeps_the_middle() -> None:
    volume = np.zeros((9, 10, 11), np.float32)
    volume[4, 5, 5] = 1
    part = central_part(volume, (5, 20, 7))
    assert part.shape == (5, 10, 7) and part[2, 5, 3] == 1


def test_radial_weights_of_one_change_nothing_and_shapes_are_checked() -> None:
    truth, first, _ = _halves(1.0)
    np.testing.assert_allclose(apply_radial(truth, np.ones(5)), truth, atol=1e-5)
    with pytest.raises(ValueError, match="cannot be compared"):
        shell_correlation(first, first[1:])
