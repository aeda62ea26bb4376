"""Sums of frames: what is added, how it is moved, and what gain and defects do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.imaging.moving_scenes import MARGIN, moving_scene, random_structure, rms
from tomofly.imaging.dose_weighting import accumulated_dose, dose_weights, normalised_dose_weights
from tomofly.imaging.frame_sum import sum_frames
from tomofly.imaging.motion import FrameAlignment, align_frames


def alignment_with(shift_yx_px, frame_shape):
    shift = np.asarray(shift_yx_px, dtype=float)
    return FrameAlignment(
        shift, np.zeros_like(shift), np.zeros((0, 2)), np.zeros((len(shift), 0, 2)), None, np.nan, np.nan,
        frame_shape, (), 1, True,
    )  # fmt: skip


def counts(n_frames=7, shape=(130, 171), seed=0):
    return np.random.default_rng(seed).poisson(3.0, (n_frames, *shape)).astype(np.uint8)


def test_without_shifts_and_dose_it_is_the_plain_mean():
    frames = counts()
    sums = sum_frames(frames, None, pixel_size_angstrom=1.0)
    exact = frames.sum(axis=0).astype(np.float32) / np.float32(len(frames))
    np.testing.assert_array_equal(sums.average, exact)
    assert sums.dose_weighted is None
    assert sums.even is None


def test_whole_pixel_shifts_are_exact_inside():
    frames = counts(2)
    alignment = alignment_with([[0, 0], [3, -5]], frames.shape[1:])
    average = sum_frames(frames, alignment, pixel_size_angstrom=1.0).average
    expected = (frames[0] + np.roll(frames[1].astype(float), (3, -5), axis=(0, 1))) / 2
    np.testing.assert_array_equal(average[3:, :-5], expected[3:, :-5].astype(np.float32))


def test_shifted_copies_add_up_to_the_original_away_from_the_edges():
    rng = np.random.default_rng(1)
    spline = ndimage.spline_filter(random_structure((300, 340), rng, 0.3, bfactor_px2=150.0), order=5)
    y, x = np.mgrid[:200, :240].astype(float)
    moves = np.array([[0, 0], [1.3, -2.7], [-4.45, 3.5], [7.81, 0.06]])
    frames = np.stack(
        [
            ndimage.map_coordinates(spline, [y + 50 - dy, x + 50 - dx], order=5, prefilter=False)
            for dy, dx in moves
        ]
    )
    average = sum_frames(frames, alignment_with(-moves, (200, 240)), pixel_size_angstrom=1.0).average
    inside = (slice(14, -14), slice(14, -14))
    assert np.abs(average - frames[0])[inside].max() < 0.01 * frames[0].std()


def test_aligned_local_motion_restores_contrast():
    scene = moving_scene((420, 380), n_frames=12, dose=2.0, local_px=8.0, contrast=0.3, seed=9)
    found = align_frames(scene.frames, pixel_size_angstrom=1.0, patches=(3, 3))
    still, moved = (sum_frames(scene.frames, a, pixel_size_angstrom=1.0).average for a in (None, found))
    truth = moving_scene((420, 380), n_frames=1, dose=2.0, contrast=0.3, seed=9, counting=False).frames[0]
    inside = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    # The local shift has its zero at frame 0, so the sum shows what frame 0 shows.
    likeness = [
        np.corrcoef(picture[inside].ravel(), truth[inside].ravel())[0, 1] for picture in (still, moved)
    ]
    assert likeness[1] > likeness[0] + 0.05


def test_even_and_odd_frames_make_up_all():
    frames = counts(7)
    shift = np.random.default_rng(2).normal(0, 2, (7, 2))
    sums = sum_frames(frames, alignment_with(shift, frames.shape[1:]), pixel_size_angstrom=1.0, even_odd=True)
    np.testing.assert_allclose((4 * sums.even + 3 * sums.odd) / 7, sums.average, rtol=1e-5, atol=1e-5)
    only_even = sum_frames(frames[::2], alignment_with(shift[::2], frames.shape[1:]), pixel_size_angstrom=1.0)
    np.testing.assert_allclose(sums.even, only_even.average, rtol=1e-5, atol=1e-5)


def test_frame_range_adds_only_these_frames():
    frames = counts(7)
    chosen = sum_frames(frames, None, pixel_size_angstrom=1.0, frame_range=(2, 5)).average
    np.testing.assert_array_equal(chosen, sum_frames(frames[2:5], None, pixel_size_angstrom=1.0).average)
    with pytest.raises(ValueError, match="frame range"):
        sum_frames(frames, None, pixel_size_angstrom=1.0, frame_range=(5, 5))


def test_gain_flattens_and_defects_vanish():
    rng = np.random.default_rng(3)
    sensitivity = rng.uniform(0.7, 1.3, (100, 140))
    frames = np.broadcast_to(sensitivity, (3, 100, 140)).astype(np.float32).copy()
    frames[:, 40, :] = 900.0
    frames[:, 10:30, 20:60] = 0.0
    defects = frames[0] != sensitivity.astype(np.float32)
    shift = np.array([[0, 0], [0.4, 0.7], [-3.2, 5.5]])
    average = sum_frames(
        frames,
        alignment_with(shift, (100, 140)),
        pixel_size_angstrom=1.0,
        gain=1 / sensitivity,
        defects=defects,
    ).average
    np.testing.assert_allclose(average, 1.0, atol=1e-5)


@given(
    binning=st.sampled_from([1.5, 2.0, 3.0]),
    shape=st.tuples(st.integers(60, 90), st.integers(60, 90)),
)
@settings(max_examples=12, deadline=None)
def test_fourier_cropping_keeps_the_mean_and_smooth_detail(binning, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = 5 + np.cos(2 * np.pi * (3 * y / shape[0] + 2 * x / shape[1]))
    small = sum_frames(wave[None].astype(np.float32), None, pixel_size_angstrom=1.0, binning=binning).average
    rows, columns = small.shape
    assert abs(rows - shape[0] / binning) <= 1
    v, u = np.mgrid[:rows, :columns]
    np.testing.assert_allclose(small, 5 + np.cos(2 * np.pi * (3 * v / rows + 2 * u / columns)), atol=1e-3)


def exact_dose_weighted(frames, dose, voltage_kv=300.0):
    """One transform per frame, as the formula is written."""
    k = np.hypot(np.fft.fftfreq(frames.shape[1])[:, None], np.fft.rfftfreq(frames.shape[2]))
    q = dose_weights(k.ravel(), dose, voltage_kv).reshape(len(frames), *k.shape)
    norm = np.sqrt(np.sum(q**2, axis=0) * len(frames))
    return np.fft.irfft2(np.sum(np.fft.rfft2(frames) * q, axis=0) / norm, s=frames.shape[1:])


@pytest.mark.parametrize("n_frames", [1, 5, 40])
def test_dose_weighted_sum_equals_the_frame_by_frame_formula(n_frames):
    frames = counts(n_frames, (97, 131))
    sums = sum_frames(
        frames, None, pixel_size_angstrom=1.0, dose_per_frame=1.3, pre_exposure=2.0, voltage_kv=200.0
    )
    exact = exact_dose_weighted(frames, accumulated_dose(n_frames, 1.3, 2.0), 200.0)
    assert rms(sums.dose_weighted - exact) < 2e-3 * rms(exact - exact.mean())


def test_dose_weighting_keeps_white_noise_white_and_the_mean():
    frames = counts(30, (256, 200), seed=5)
    sums = sum_frames(frames, None, pixel_size_angstrom=1.0, dose_per_frame=1.5)
    assert sums.dose_weighted.mean() == pytest.approx(sums.average.mean(), rel=1e-4)
    power = np.abs(np.fft.rfft2(sums.dose_weighted - sums.dose_weighted.mean())) ** 2
    expected = 3.0 / 30 * power[:, 1:].size
    assert power[5:60, 5:60].mean() / (3.0 / 30 * 256 * 200) == pytest.approx(1, abs=0.1)
    assert power[100:150, 60:].mean() / (3.0 / 30 * 256 * 200) == pytest.approx(1, abs=0.1)
    assert expected > 0


def test_normalised_weights_have_unit_noise_and_mean():
    weights = normalised_dose_weights(dose_weights([0.0, 0.1, 0.4], accumulated_dose(20, 1.0)))
    np.testing.assert_allclose((weights**2).sum(axis=0) * 20, 1.0)
    assert weights[:, 0].sum() == pytest.approx(1.0)
