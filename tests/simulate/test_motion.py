"""Movement of the specimen, and that the truth about it has the right size and sign."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, spline_filter
from skimage.registration import phase_cross_correlation

from tomofly.simulate import SpaMicroscope, camera, expose, gain_reference, motion

# So many electrons that what is measured is the movement and not the noise.
BRIGHT = SpaMicroscope(
    detector_yx_px=(390, 470),
    frames=5,
    dose_per_frame_e_per_a2=60,
    beam_induced_decay_e_per_a2=100,
    ice_diffusion_angstrom2_per_dose=0,
    damage=False,
    dtype="uint16",
    hot_pixel_fraction=0,
    dead_pixel_fraction=0,
    drift_rms_angstrom_per_frame=2,
    early_drift_angstrom=6,
    seed=21,
)


def measured_shift(reference: NDArray[np.float64], moving: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift (y, x) that brings `moving` onto `reference`, by another package's correlation."""
    window = np.outer(*(np.hanning(side) for side in reference.shape))
    images = [(image - image.mean()) * window for image in (reference, moving)]
    shift, _, _ = phase_cross_correlation(*images, upsample_factor=40, normalization=None)
    return np.asarray(shift)


def test_global_shifts_are_those_that_an_independent_correlation_finds() -> None:
    microscope = BRIGHT.model_copy(update={"beam_induced_angstrom": 0.0})
    movie = expose(microscope, 0)
    frames = movie.frames * gain_reference(microscope).astype(float)
    truth = np.array(movie.truth.shift_yx_px)
    assert np.all(truth[0] == 0)
    assert np.abs(truth[1:]).max() > 1
    found = np.array([measured_shift(frames[0], frame) for frame in frames])
    assert np.abs(found - truth).max() < 0.1


def test_local_shifts_are_those_that_an_independent_correlation_finds() -> None:
    update = {"drift_rms_angstrom_per_frame": 0.0, "early_drift_angstrom": 0.0, "beam_induced_angstrom": 8.0}
    microscope = BRIGHT.model_copy(update=update)
    movie = expose(microscope, 1)
    frames = movie.frames * gain_reference(microscope).astype(float)
    local = np.array(movie.truth.local_shift_yx_px)
    side = 140
    found, expected = [], []
    for i, j in ((2, 2), (2, 6), (4, 4), (6, 2), (6, 6)):
        y, x = (
            int(grid[k]) - side // 2 for grid, k in ((movie.truth.grid_y_px, i), (movie.truth.grid_x_px, j))
        )
        patch = frames[:, max(0, y) : y + side, max(0, x) : x + side]
        found.append(measured_shift(patch[0], patch[-1]))
        expected.append(local[-1, i, j])
    # The field differs over the image by more than the correlation of a patch can be wrong.
    assert np.ptp(expected, axis=0).max() > 2
    assert np.sqrt(np.mean((np.array(found) - expected) ** 2)) < 0.35


def test_the_centre_of_the_local_field_is_the_global_shift() -> None:
    truth = expose(SpaMicroscope(detector_yx_px=(66, 92), frames=7), 3).truth
    local = np.array(truth.local_shift_yx_px)
    assert local.shape == (7, len(truth.grid_y_px), len(truth.grid_x_px), 2)
    assert local[:, 4, 4] == pytest.approx(np.array(truth.shift_yx_px))
    assert truth.grid_y_px[-1] == 65
    assert truth.grid_x_px[-1] == 91
    assert np.array(truth.mean_shift_yx_px)[0] == pytest.approx(0)


def test_early_frames_move_more_than_late_ones() -> None:
    microscope = SpaMicroscope(frames=40, dose_per_frame_e_per_a2=1, drift_rms_angstrom_per_frame=0.05)
    steps = [
        np.linalg.norm(np.diff(motion.draw_motion(microscope, index).shift_yx_px, axis=0), axis=-1)
        for index in range(6)
    ]
    per_frame = np.mean(steps, axis=(0, 2, 3))
    assert per_frame[:4].mean() > 4 * per_frame[-10:].mean()


def test_the_beam_induced_field_has_the_size_asked_for() -> None:
    microscope = SpaMicroscope(drift_rms_angstrom_per_frame=0, early_drift_angstrom=0)
    fields = [motion.draw_motion(microscope, index).shift_yx_px[-1] for index in range(40)]
    spread = [np.sum(field.std(axis=(0, 1)) ** 2) for field in fields]
    size = np.sqrt(np.mean(spread)) * microscope.pixel_size_angstrom
    assert size == pytest.approx(microscope.beam_induced_angstrom, rel=0.4)


@given(st.integers(0, 19), st.floats(5, 1018), st.floats(5, 1018))
def test_a_point_seen_in_another_frame_shifts_back_to_where_it_was(frame: int, y: float, x: float) -> None:
    movement = motion.draw_motion(SpaMicroscope(), 2)
    seen_y, seen_x = movement.seen_at(frame, y, x)
    dy, dx = movement.at(frame, seen_y, seen_x)
    assert (seen_y + dy, seen_x + dx) == pytest.approx((y, x), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4))
def test_warping_by_a_constant_is_a_fourier_shift(dy: float, dx: float) -> None:
    margin, shape = 11, (58 + 22, 46 + 22)
    noise = np.random.default_rng(3).normal(size=shape)
    image = gaussian_filter(noise, 2.0, mode="wrap")
    image /= image.std()
    coefficients = spline_filter(image, mode="grid-wrap").astype(np.float32)
    out = np.empty((58, 46), np.float32)
    camera.warp(coefficients, np.full((5, 6, 2), (dy, dx)), margin, out)
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    # The frame shows at q what lies at q + shift.
    moved = np.fft.ifft2(np.fft.fft2(image) * np.exp(2j * np.pi * (ky * dy + kx * dx))).real
    assert np.abs(out - moved[margin:-margin, margin:-margin]).max() < 0.02


def test_a_margin_too_narrow_for_the_shift_is_refused() -> None:
    out = np.empty((20, 23), np.float32)
    with pytest.raises(ValueError, match="margin of 5 px"):
        camera.warp(np.zeros((30, 33), np.float32), np.full((5, 6, 2), 4.0), 5, out)
