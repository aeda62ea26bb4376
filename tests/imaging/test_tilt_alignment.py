"""Tilt series are aligned to a fraction of a pixel, and what cannot be aligned is said."""

import numpy as np
import pytest

from tests.imaging.tilt_scenes import TiltScene, tilt_scene
from tomofly.imaging.tilt_alignment import TiltAlignment, align_tilt_series
from tomofly.imaging.tilt_coarse import align_coarsely
from tomofly.imaging.tilt_geometry import nominal_geometry
from tomofly.imaging.tilt_preparation import prepare_tilts

TILTS = np.arange(-60.0, 61.0, 5.0)


def unexplained_yx_px(scene: TiltScene, found: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Errors (tilt, 2) of the chosen shifts that no movement of the specimen as a whole explains."""
    tilt, axis = np.deg2rad(scene.nominal_tilt_deg + scene.offset_deg), np.deg2rad(scene.axis_angle_deg)
    across = np.stack([np.cos(tilt), np.zeros_like(tilt), np.sin(tilt)], axis=-1)
    along = np.broadcast_to([0.0, 1.0, 0.0], across.shape)
    seen = np.stack(
        [across * np.sin(axis) + along * np.cos(axis), across * np.cos(axis) - along * np.sin(axis)], 1
    )
    design = seen[chosen].reshape(-1, 3)
    error = (found - scene.shift_yx_px)[chosen].ravel()
    return (error - design @ np.linalg.lstsq(design, error)[0]).reshape(-1, 2)


def rms(error_yx: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(error_yx**2, axis=1))))


def aligned(scene: TiltScene, axis_deg: float, **changes: np.ndarray) -> TiltAlignment:
    images = changes.get("images", scene.images)
    return align_tilt_series(images, scene.nominal_tilt_deg, axis_deg, pixel_size_angstrom=10.0, threads=2)


def test_shifts_axis_and_pre_tilt_are_found_with_their_errors():
    scene = tilt_scene(
        (230, 250), TILTS, offset_deg=6.0, thickness_px=60.0, particles_per_megapixel=9000.0, seed=3
    )
    found = aligned(scene, 92.0)
    everything = np.ones(len(TILTS), dtype=bool)
    assert found.used.all()
    assert rms(unexplained_yx_px(scene, found.geometry.shift_yx_px, everything)) < 0.5
    assert abs(found.axis_angle_deg - 84.0) < 0.5
    assert abs(found.tilt_offset_deg - 6.0) < 1.0
    assert 0 < found.axis_uncertainty_deg < 0.5
    assert 0.002 < np.median(found.shift_uncertainty_yx_px) < 0.5
    assert found.ncc_at_deg[0] > found.ncc_at_deg[60] > 0


@pytest.fixture(scope="module")
def short_scene() -> TiltScene:
    return tilt_scene((230, 250), np.arange(-10.0, 11.0, 2.5), thickness_px=60.0, seed=3)


def test_an_axis_turned_around_gives_the_same_shifts(short_scene: TiltScene):
    """Up to a movement of the specimen: with the axis turned, heights change their sign."""
    everything = np.ones(len(short_scene.images), dtype=bool)
    shifts = [aligned(short_scene, axis).geometry.shift_yx_px for axis in (84.0, -96.0, 264.0)]
    assert np.abs(shifts[1] - shifts[2]).max() < 0.02
    for found in shifts:
        assert rms(unexplained_yx_px(short_scene, found, everything)) < 0.3


def test_blank_images_are_left_out_and_the_others_aligned(short_scene: TiltScene):
    images = short_scene.images.copy()
    images[1] = 0.0
    images[6] = np.nan
    found = aligned(short_scene, 84.0, images=images)
    assert np.flatnonzero(~found.used).tolist() == [1, 6]
    assert rms(unexplained_yx_px(short_scene, found.geometry.shift_yx_px, found.used)) < 0.3
    assert np.all(np.isfinite(found.geometry.shift_yx_px))
    assert "tilts_left_out" in found.flags


def test_missing_tilts_and_any_order_and_a_repeated_angle_are_survived():
    tilts = np.array([0.0, 3, -3, 6, -6, 9, -12, 12, 12, 18, -18, 21, -24, 33, -30, 36])
    scene = tilt_scene((230, 250), tilts, thickness_px=60.0, seed=5)
    found = aligned(scene, 87.0)
    assert rms(unexplained_yx_px(scene, found.geometry.shift_yx_px, np.ones(len(tilts), bool))) < 0.6


def test_a_jump_of_forty_pixels_beside_zero_is_followed():
    tilts = np.arange(-9.0, 10.0, 3.0)
    scene = tilt_scene((230, 250), tilts, thickness_px=40.0, tracking_px=0.5, seed=4)
    jumped = np.where(tilts[:, None] < 0, (0.0, 40.0), (0.0, 0.0))
    moved = tilt_scene(
        (230, 250), tilts, thickness_px=40.0, tracking_px=0.5, extra_shift_yx_px=jumped, seed=4
    )
    prepared = prepare_tilts(moved.images)
    coarse = align_coarsely(prepared.images, nominal_geometry(tilts, 84.0), prepared.has_content)
    step = coarse.geometry.shift_yx_px[3] - coarse.geometry.shift_yx_px[2]
    assert np.abs(step - (moved.shift_yx_px[3] - moved.shift_yx_px[2])).max() < 2.5
    assert np.abs(moved.shift_yx_px - scene.shift_yx_px - jumped).max() < 1e-9


def test_two_tilts_are_aligned_and_said_to_be_few():
    scene = tilt_scene((230, 250), np.array([0.0, 3.0]), thickness_px=40.0, seed=6)
    found = aligned(scene, 84.0)
    step = np.diff(found.geometry.shift_yx_px - scene.shift_yx_px, axis=0)[0]
    assert np.hypot(*step) < 1.5
    assert {"few_tilts", "nominal_axis_kept", "level_not_measured"} <= set(found.flags)
    assert np.isnan(found.axis_uncertainty_deg)


@pytest.mark.parametrize(
    "images", [np.zeros((5, 64, 72)), np.full((5, 64, 72), 7.0), np.full((5, 64, 72), np.nan)]
)
def test_a_series_of_blank_images_keeps_its_nominal_geometry(images: np.ndarray):
    found = align_tilt_series(images, [-6, -3, 0, 3, 6], 84.0, pixel_size_angstrom=10.0)
    assert not found.used.any()
    assert "nothing_to_align" in found.flags
    assert np.all(found.geometry.shift_yx_px == 0)


def test_angles_that_do_not_belong_to_the_images_are_refused():
    with pytest.raises(ValueError, match="as many finite tilt angles"):
        align_tilt_series(np.zeros((3, 64, 64)), [0.0, 3.0], 0.0, pixel_size_angstrom=10.0)
