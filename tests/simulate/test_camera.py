"""Counting: the law of the counts, the gain, and the pixels that fail."""

import numpy as np
import pytest

from tomofly.simulate import SpaMicroscope, camera, expose, gain_reference

EMPTY = SpaMicroscope(
    detector_yx_px=(170, 230),
    frames=12,
    particles_per_micrograph=(0, 0),
    ice_noise=0,
    ice_gradient=0,
    carbon_edge_fraction=0,
    contamination_fraction=0,
    hot_pixel_fraction=0,
    dead_pixel_fraction=0,
    gain_variation=0.1,
)


@pytest.mark.parametrize("electrons", [0.3, 2.25, 14.0, 75.0, 900.0])
def test_counts_follow_poissons_law(electrons: float) -> None:
    flat = np.ones((512, 512), np.float32)
    none = np.empty((0, 2), np.int64)
    perfect = camera.Camera(flat, flat, none, np.empty(0), none)
    counts = np.empty((512, 512), np.uint16)
    camera.count_electrons(flat, perfect, electrons, np.random.default_rng(8), counts)
    error = 1 / np.sqrt(electrons * counts.size)
    assert counts.mean() / electrons == pytest.approx(1, abs=4 * error)
    assert counts.var() / electrons == pytest.approx(1, abs=4 * np.sqrt((2 + 1 / electrons) / counts.size))
    if electrons < 3:
        empty = np.exp(-electrons)
        assert np.mean(counts == 0) == pytest.approx(empty, abs=4 * np.sqrt(empty / counts.size))


def test_frames_and_neighbours_are_independent() -> None:
    frames = expose(EMPTY, 0).frames.astype(float)
    frames -= frames.mean()
    limit = 5 / np.sqrt(frames[0].size)
    assert abs(np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1]) < limit + 0.05
    flat = frames - frames.mean(axis=0)
    assert abs(np.corrcoef(flat[0, :, 1:].ravel(), flat[0, :, :-1].ravel())[0, 1]) < limit
    assert abs(np.corrcoef(flat[0, 1:].ravel(), flat[0, :-1].ravel())[0, 1]) < limit


@pytest.mark.parametrize("super_resolution", [False, True])
def test_mean_count_is_dose_times_pixel_area_over_the_gain(super_resolution: bool) -> None:
    microscope = EMPTY.model_copy(update={"super_resolution": super_resolution})
    movie = expose(microscope, 0)
    pixel = movie.truth.pixel_size_angstrom
    expected = microscope.dose_per_frame_e_per_a2 * pixel**2 * float(np.mean(1 / gain_reference(microscope)))
    error = float(np.sqrt(expected / movie.frames.size))
    assert movie.frames.mean() == pytest.approx(expected, abs=5 * error)


def test_raw_frames_times_the_gain_are_flat() -> None:
    microscope = EMPTY.model_copy(update={"frames": 60})
    gain = gain_reference(microscope)
    raw = expose(microscope, 0).frames.sum(axis=0, dtype=float)
    corrected = raw * gain
    assert gain.mean() == pytest.approx(1, abs=1e-6)
    assert gain.std() == pytest.approx(0.1, rel=0.25)
    assert np.corrcoef(raw.ravel(), gain.ravel())[0, 1] < -0.5
    assert abs(np.corrcoef(corrected.ravel(), gain.ravel())[0, 1]) < 5 / np.sqrt(raw.size)


def test_dead_pixels_never_count_and_hot_ones_count_too_much() -> None:
    update = {"hot_pixel_fraction": 1e-3, "dead_pixel_fraction": 2e-3}
    microscope = EMPTY.model_copy(update=update)
    movie = expose(microscope, 0)
    total = movie.frames.sum(axis=0, dtype=float)
    defects = movie.truth.camera
    hot, dead = np.array(defects.hot_yx_px), np.array(defects.dead_yx_px)
    assert (len(hot), len(dead)) == (39, 78)
    assert not total[dead[:, 0], dead[:, 1]].any()
    assert total[hot[:, 0], hot[:, 1]].min() > 2 * np.median(total)
    assert expose(microscope, 1).truth.camera == defects


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "float32"])
def test_frames_have_the_cameras_number_type_and_do_not_wrap(dtype: str) -> None:
    update = {"dtype": dtype, "dose_per_frame_e_per_a2": 60, "frames": 2}
    frames = expose(EMPTY.model_copy(update=update), 0).frames
    assert frames.dtype == dtype
    assert frames.shape == (2, 170, 230)
    assert frames.min() >= 0
    if dtype == "int8":
        assert frames.max() == 127
        assert np.mean(frames == 127) > 0.3
