"""Frame alignment finds the motion that was put in, and says how well it knows it."""

import numpy as np
import pytest

from tests.imaging.moving_scenes import moving_scene, rms, shift_error
from tomofly.imaging.motion import align_frames
from tomofly.imaging.motion_metrics import motion_metrics, relion_motion_model

PIXEL = 1.0


@pytest.fixture(scope="module")
def drifting():
    return moving_scene(seed=3)


@pytest.fixture(scope="module")
def aligned(drifting):
    return align_frames(drifting.frames, pixel_size_angstrom=PIXEL, patches=(1, 1))


def test_global_drift_is_found(drifting, aligned):
    error = shift_error(aligned.global_shift_yx_px, -drifting.drift_yx_px)
    assert rms(error) < 0.25
    assert aligned.converged
    assert aligned.flags == ()


def test_first_frame_is_where_shifts_are_counted_from(aligned):
    assert np.all(aligned.global_shift_yx_px[0] == 0)


def test_error_bars_describe_the_errors():
    z_scores = []
    for seed in range(6):
        scene = moving_scene((260, 300), n_frames=12, seed=100 + seed)
        found = align_frames(scene.frames, pixel_size_angstrom=PIXEL, patches=(1, 1))
        error = shift_error(found.global_shift_yx_px, -scene.drift_yx_px)
        z_scores.append(error / found.uncertainty_yx_px)
    assert 0.75 < rms(np.array(z_scores)) < 1.35


def test_moving_every_frame_alike_changes_no_shift(drifting, aligned):
    rolled = np.roll(drifting.frames, (5, -7), axis=(1, 2))
    again = align_frames(rolled, pixel_size_angstrom=PIXEL, patches=(1, 1))
    assert rms(again.global_shift_yx_px - aligned.global_shift_yx_px) < 0.15


def test_playing_the_movie_backwards_reverses_the_path(drifting, aligned):
    backwards = align_frames(drifting.frames[::-1], pixel_size_angstrom=PIXEL, patches=(1, 1))
    shift = backwards.global_shift_yx_px[::-1]
    np.testing.assert_allclose(shift - shift[0], aligned.global_shift_yx_px, atol=0.05)


def test_swapping_the_axes_swaps_the_shifts(drifting, aligned):
    turned = align_frames(
        np.ascontiguousarray(drifting.frames.transpose(0, 2, 1)), pixel_size_angstrom=PIXEL, patches=(1, 1)
    )
    np.testing.assert_allclose(turned.global_shift_yx_px[:, ::-1], aligned.global_shift_yx_px, atol=0.05)


def test_large_drift_is_found():
    scene = moving_scene(n_frames=10, drift=(-34.0, 28.0), contrast=0.3, seed=4)
    found = align_frames(scene.frames, pixel_size_angstrom=PIXEL, patches=(1, 1))
    assert rms(shift_error(found.global_shift_yx_px, -scene.drift_yx_px)) < 0.25


def test_grouping_frames_follows_a_slow_drift_at_low_dose():
    scene = moving_scene(n_frames=32, dose=0.25, drift=(8.0, 5.0), contrast=0.3, seed=5)
    found = align_frames(scene.frames, pixel_size_angstrom=PIXEL, patches=(1, 1), group=4)
    assert rms(shift_error(found.global_shift_yx_px, -scene.drift_yx_px)) < 0.4


def test_gain_and_defects_are_corrected_before_alignment(drifting, aligned):
    rng = np.random.default_rng(0)
    shape = drifting.frames.shape[1:]
    sensitivity = rng.uniform(0.5, 1.5, shape)
    sensitivity[:, 100] = 40.0
    defects = sensitivity > 30
    raw = (drifting.frames * sensitivity).astype(np.float32)
    found = align_frames(
        raw, pixel_size_angstrom=PIXEL, patches=(1, 1), gain=1 / sensitivity, defects=defects
    )
    assert rms(found.global_shift_yx_px - aligned.global_shift_yx_px) < 0.1


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "float32", "float64", ">i2"])
def test_number_type_does_not_matter(drifting, aligned, dtype):
    found = align_frames(drifting.frames.astype(dtype), pixel_size_angstrom=PIXEL, patches=(1, 1))
    np.testing.assert_array_equal(found.global_shift_yx_px, aligned.global_shift_yx_px)


def test_threads_change_nothing(drifting):
    one, two = (
        align_frames(drifting.frames, pixel_size_angstrom=PIXEL, threads=t, patches=(3, 4)) for t in (1, 2)
    )
    np.testing.assert_array_equal(one.global_shift_yx_px, two.global_shift_yx_px)
    np.testing.assert_array_equal(one.patch_shift_yx_px, two.patch_shift_yx_px)


@pytest.fixture(scope="module")
def bending():
    return moving_scene((560, 500), n_frames=16, dose=2.0, local_px=9.0, contrast=0.3, seed=6)


@pytest.fixture(scope="module")
def bent(bending):
    return align_frames(bending.frames, pixel_size_angstrom=PIXEL, patches=(4, 5))


def test_local_motion_is_found(bending, bent):
    y, x = np.linspace(30, 530, 6), np.linspace(30, 470, 7)
    truth = bending.shift_field(y, x)
    local = truth - truth.mean(axis=(1, 2), keepdims=True)
    error = shift_error(bent.shift_field(y, x), truth)
    assert bent.local_model is not None
    assert rms(error) < 0.3
    assert rms(error) < 0.3 * rms(local - local.mean(axis=0))


def test_left_out_patches_are_predicted_a_little_worse_than_fitted_ones(bent):
    assert 0 < bent.fit_residual_px < bent.leave_one_out_residual_px < 1


def test_patches_report_their_own_tracks(bending, bent):
    assert bent.patch_centre_yx_px.shape == (20, 2)
    assert bent.patch_shift_yx_px.shape == (16, 20, 2)
    truth = np.stack([bending.shift_field([y], [x])[:, 0, 0] for y, x in bent.patch_centre_yx_px], axis=1)
    error = shift_error(bent.patch_shift_yx_px + bent.global_shift_yx_px[:, None], truth)
    assert rms(error) < 1.0


def test_without_local_motion_no_local_model_is_kept_silently(drifting):
    found = align_frames(drifting.frames, pixel_size_angstrom=PIXEL, patches=(3, 3))
    if found.local_model is None:
        assert {"local_motion_not_significant", "local_model_rejected"} & set(found.flags)
    else:
        y, x = np.linspace(0, 391, 5), np.linspace(0, 339, 5)
        assert rms(found.local_model.trajectories_at(y[:, None], x)) < 0.5


def test_local_model_is_zero_at_the_first_frame_and_agrees_with_its_field(bent):
    model = bent.local_model
    assert np.allclose(model.shift_at(100.0, 200.0, 0), 0)
    field = model.trajectories_at(np.array([[10.0], [500.0]]), np.array([[20.0, 300.0, 450.0]]))
    assert field.shape == (16, 2, 3, 2)
    np.testing.assert_allclose(field[7, 1, 2], model.shift_at(500.0, 450.0, 7))


def test_relion_model_says_the_same(bent):
    relion = relion_motion_model(bent)
    np.testing.assert_array_equal(relion.shift_x_px, bent.global_shift_yx_px[:, 1])
    y, x, frame = 420.0, 77.0, 15
    v, u = (y + 0.5) / 560 - 0.5, (x + 0.5) / 500 - 0.5
    terms = np.outer([1, u, u * u, v, v * v, u * v], [frame, frame**2, frame**3]).ravel()
    along_x, along_y = relion.coefficients.reshape(2, 18) @ terms
    expected = bent.local_model.shift_at(y, x, frame)
    np.testing.assert_allclose([along_y, along_x], expected, atol=max(0.05, 4 * relion.misfit_px))


def test_single_frame_is_returned_unshifted_with_a_flag():
    found = align_frames(np.ones((1, 130, 170), np.float32), pixel_size_angstrom=PIXEL)
    assert found.flags == ("single_frame",)
    assert np.all(found.global_shift_yx_px == 0)


def test_frames_too_small_for_patches_are_flagged():
    scene = moving_scene((130, 150), n_frames=6, contrast=0.4, seed=8)
    found = align_frames(scene.frames, pixel_size_angstrom=PIXEL)
    assert "too_small_for_patches" in found.flags
    assert found.local_model is None


def test_pure_noise_is_flagged_and_gives_finite_shifts():
    noise = np.random.default_rng(0).poisson(1.0, (8, 200, 230)).astype(np.uint8)
    found = align_frames(noise, pixel_size_angstrom=PIXEL, patches=(1, 1))
    assert np.all(np.isfinite(found.global_shift_yx_px))
    assert {"low_signal", "not_converged", "max_shift_reached"} & set(found.flags)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_frames_without_structure_are_refused_with_their_number(value):
    frames = np.random.default_rng(0).poisson(2.0, (5, 100, 120)).astype(np.float32)
    frames[3] = value
    with pytest.raises(ValueError, match="frame 3"):
        align_frames(frames, pixel_size_angstrom=PIXEL, patches=(1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_size_angstrom": 0.0}, "pixel size"),
        ({"patches": (2, 5)}, "patches"),
        ({"gain": np.ones((3, 4))}, "gain reference has shape"),
        ({"defects": np.zeros((3, 4), bool)}, "defects mask has shape"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_senseless_arguments_are_named(arguments, message):
    frames = np.random.default_rng(0).poisson(2.0, (5, 100, 120))
    with pytest.raises(ValueError, match=message):
        align_frames(frames, **({"pixel_size_angstrom": 1.0} | arguments))


def test_motion_is_measured_in_angstrom_and_split_at_four_electrons(aligned):
    metrics = motion_metrics(aligned, pixel_size_angstrom=1.5, dose_per_frame=1.0)
    assert metrics.total_motion_angstrom == pytest.approx(
        metrics.early_motion_angstrom + metrics.late_motion_angstrom
    )
    assert metrics.step_angstrom.shape == (15,)
    # Frames 1 and 2 end before 4 e/Å², frame 3 at 4.
    assert metrics.early_motion_angstrom == pytest.approx(metrics.step_angstrom[:2].sum())
    assert metrics.total_motion_angstrom == pytest.approx(
        1.5 * np.sum(np.hypot(*np.diff(aligned.global_shift_yx_px, axis=0).T))
    )
