"""Beads that are found and followed, and series that they align."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.imaging.bead_scenes import BeadScene, bead_scene
from tomofly.imaging.tilt_alignment import TiltAlignment
from tomofly.imaging.tilt_beads import estimate_bead_diameter, find_beads
from tomofly.imaging.tilt_beads_level import level_beads
from tomofly.imaging.tilt_beads_points import measured_again
from tomofly.imaging.tilt_beads_tracking import common_offset
from tomofly.imaging.tilt_fiducials import align_by_fiducials
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
DIAMETER = 8.0


def aligned(scene: BeadScene, **settings: float) -> TiltAlignment:
    given = {"pixel_size_angstrom": 10.0, "bead_diameter_angstrom": 10 * DIAMETER} | settings
    return align_by_fiducials(scene.images, scene.nominal_tilt_deg, scene.axis_angle_deg - 4.0, **given)


def unexplained(scene: BeadScene, shift_yx_px: FloatArray) -> FloatArray:
    """Errors (tilt, 2) of shifts that no movement of the specimen explains."""
    tilt, axis = np.deg2rad(scene.nominal_tilt_deg + scene.offset_deg), np.deg2rad(scene.axis_angle_deg)
    x, z = np.cos(tilt), np.sin(tilt)
    one = np.ones_like(tilt)
    v = np.stack([x * np.sin(axis), one * np.cos(axis), z * np.sin(axis)], axis=1)
    u = np.stack([x * np.cos(axis), -one * np.sin(axis), z * np.cos(axis)], axis=1)
    design = np.stack([v, u], axis=1).reshape(-1, 3)
    error = (shift_yx_px - scene.shift_yx_px).ravel()
    return np.asarray((error - design @ np.linalg.lstsq(design, error)[0]).reshape(-1, 2))


def rms(error_yx: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(error_yx**2, axis=1))))


@pytest.fixture(scope="module")
def scene() -> BeadScene:
    return bead_scene(offset_deg=5.0, strays=3)


@pytest.fixture(scope="module")
def result(scene: BeadScene) -> TiltAlignment:
    return aligned(scene)


def test_every_bead_is_found_once_and_centred_below_a_pixel(scene: BeadScene) -> None:
    half = np.array(scene.images.shape[1:]) / 2 - DIAMETER / 2 - 1
    for beads, true in zip(find_beads(scene.images, DIAMETER), scene.place_yx_px, strict=True):
        apart = np.linalg.norm(true[:, None] - true[None], axis=2) + 99 * np.eye(len(true))
        clear = np.all(np.abs(true) < half, axis=1) & (apart.min(axis=1) > 1.5 * DIAMETER)
        distance = np.linalg.norm(beads.centre_yx_px[:, None] - true[clear][None], axis=2)
        # A stray disc may hide one.
        near = distance.min(axis=0) < 1.0
        assert near.sum() >= clear.sum() - 1
        assert np.median(distance.min(axis=0)) < 0.2
        assert np.all((distance < 2.0).sum(axis=0) <= 1)


def test_noise_and_grains_hold_no_beads() -> None:
    empty = bead_scene(count=0, tilts=np.array([0.0, 48.0]))
    assert max(len(beads) for beads in find_beads(empty.images, DIAMETER)) <= 1
    assert np.isnan(estimate_bead_diameter(empty.images[0]))


@pytest.mark.parametrize("diameter", [5.0, 8.0, 13.0])
def test_the_size_of_beads_is_estimated(diameter: float) -> None:
    one = bead_scene(tilts=np.array([0.0]), diameter_px=diameter)
    assert estimate_bead_diameter(one.images[0]) == pytest.approx(diameter, rel=0.15, abs=0.6)


def test_shifts_axis_and_level_are_those_of_the_microscope(scene: BeadScene, result: TiltAlignment) -> None:
    assert rms(unexplained(scene, result.geometry.shift_yx_px)) < 0.15
    assert result.axis_angle_deg == pytest.approx(scene.axis_angle_deg, abs=0.1)
    assert result.tilt_offset_deg == pytest.approx(scene.offset_deg, abs=0.3)
    assert result.geometry.x_tilt_deg == pytest.approx(0.0, abs=0.3)
    assert result.used.all()
    assert result.flags == ()


def test_errors_and_residuals_are_of_the_size_of_the_truth(scene: BeadScene, result: TiltAlignment) -> None:
    error = unexplained(scene, result.geometry.shift_yx_px)
    assert 0.5 < np.sqrt(np.mean((error / result.shift_uncertainty_yx_px) ** 2)) < 2.0
    assert 0.3 < np.median(result.residual_angstrom) < 3.0
    assert np.median(result.residual_angstrom) < result.leave_one_out_angstrom < 4.0
    assert result.axis_uncertainty_deg < 0.1


def test_middle_between_surfaces_is_at_height_zero(scene: BeadScene, result: TiltAlignment) -> None:
    # As drawn, the beads lie level at heights of equal size, so that they appear where the alignment has
    # them, but for a movement within the plane.
    moved = result.geometry.project(scene.beads_zyx_px) - scene.place_yx_px
    assert np.std(moved, axis=1).max() < 0.5
    view = result.geometry.rotations()[:, 1::-1, :]
    common = np.linalg.lstsq(view.reshape(-1, 3), moved.mean(axis=1).ravel())[0]
    assert abs(common[2]) < 0.5


def test_strays_and_a_bead_that_slides_do_not_spoil_the_fit() -> None:
    scene = bead_scene(strays=8, seed=4)
    images = scene.images.copy()
    y, x = np.ogrid[: images.shape[1], : images.shape[2]]
    for tilt, image in enumerate(images):
        place = scene.place_yx_px[tilt].mean(axis=0) + np.array([2.5 * (tilt - 9), -40.0])
        image[np.hypot(y - 126 - place[0], x - 142 - place[1]) < DIAMETER / 2] *= 0.5
    result = align_by_fiducials(
        images, scene.nominal_tilt_deg, 82.0, pixel_size_angstrom=10.0, bead_diameter_angstrom=80.0
    )
    assert rms(unexplained(scene, result.geometry.shift_yx_px)) < 0.2


def test_beads_near_edges_and_leaving_the_field_are_followed_while_they_are_whole() -> None:
    scene = bead_scene(tracking_px=25.0, seed=7, count=14)
    inside = np.all(np.abs(scene.place_yx_px) < np.array(scene.images.shape[1:]) / 2 - 5, axis=2)
    assert not inside.all()
    result = aligned(scene)
    assert rms(unexplained(scene, result.geometry.shift_yx_px)) < 0.2
    assert result.axis_angle_deg == pytest.approx(scene.axis_angle_deg, abs=0.1)


def test_beads_that_cross_are_set_aside_where_they_cross() -> None:
    beads = np.array([[40.0, 10.0, 0.0], [-40.0, 10.0, 3.0], [0.0, 60.0, 50.0]])
    scene = bead_scene(beads_zyx_px=beads, axis_deg=0.0, tracking_px=0.0)
    geometry = TiltGeometry(scene.nominal_tilt_deg, np.zeros(19), scene.shift_yx_px)
    every = np.ones(19, dtype=bool)
    found = [np.empty((0, 2))] * 19
    track = measured_again(scene.images, geometry, beads, found, every, DIAMETER, 1)
    apart = np.linalg.norm(scene.place_yx_px[:, 0] - scene.place_yx_px[:, 1], axis=1)
    assert np.isnan(track[0, apart < 0.8 * DIAMETER]).all()
    assert np.isfinite(track[0, apart > 1.5 * DIAMETER]).all()
    assert np.isfinite(track[2]).all()
    error = track - scene.place_yx_px.transpose(1, 0, 2)
    assert np.nanmax(np.abs(error)) < 0.6


def test_a_tilt_that_was_far_off_is_brought_back() -> None:
    scene = bead_scene(seed=9)
    shift = scene.shift_yx_px.copy()
    geometry = TiltGeometry(scene.nominal_tilt_deg, np.full(19, 84.0), shift + np.eye(19)[:, [3, 3]] * 30.0)
    found = [beads.centre_yx_px for beads in find_beads(scene.images, DIAMETER)]
    every = np.ones(19, dtype=bool)
    track = measured_again(scene.images, geometry, scene.beads_zyx_px, found, every, DIAMETER, 1)
    assert np.isfinite(track[:, 3, 0]).sum() >= 8


def test_two_surfaces_of_unequal_numbers_are_seen_as_parallel() -> None:
    rng = np.random.default_rng(7)
    y, x = rng.uniform(-150, 150, (2, 14))
    upper = np.arange(14) < 4
    z = np.where(upper, 60.0, -60.0) + 0.15 * x - 0.05 * y + rng.normal(0, 1, 14)
    level = level_beads(np.column_stack([z, y, x]))
    assert level.offset_deg == pytest.approx(-np.rad2deg(np.arctan(0.15)), abs=0.5)
    assert level.thickness_px == pytest.approx(120 / np.sqrt(1 + 0.15**2 + 0.05**2), abs=2)
    geometry = level.applied(TiltGeometry(np.zeros(1), np.zeros(1), np.zeros((1, 2))))
    assert geometry.x_tilt_deg == pytest.approx(np.rad2deg(np.arctan(-0.05)), abs=0.5)


def test_scattered_beads_do_not_tell_how_the_specimen_lies() -> None:
    points = np.random.default_rng(5).uniform(-60, 60, (6, 3))
    level = level_beads(points)
    assert level.offset_deg == 0
    assert np.isnan(level.offset_error_deg)


def test_an_offset_is_found_among_false_beads() -> None:
    rng = np.random.default_rng(6)
    expected = rng.uniform(-100, 100, (9, 2))
    moved = expected[:7] + np.array([31.0, -22.0])
    found = np.concatenate([moved, rng.uniform(-120, 120, (9, 2))])
    offset, pairs = common_offset(expected, found, np.full(9, 3.0), np.array([50.0, 50.0]), DIAMETER)
    assert offset == pytest.approx((31.0, -22.0), abs=1.0)
    assert {(i, i) for i in range(7)} <= set(pairs)


def test_too_few_beads_leave_the_nominal_geometry() -> None:
    scene = bead_scene(count=2, tilts=np.arange(-40.0, 41.0, 10.0))
    result = aligned(scene)
    assert "too_few_beads" in result.flags
    assert not result.geometry.shift_yx_px.any()
    assert aligned(scene, bead_diameter_angstrom=10.0).flags == ("too_few_beads",)


def test_large_beads_are_measured_on_binned_images_in_the_same_frame() -> None:
    scene = bead_scene(
        shape=(401, 362), count=8, diameter_px=21.0, tilts=np.arange(-45.0, 46.0, 15.0), seed=2, dose=50.0
    )
    result = aligned(scene, bead_diameter_angstrom=0.0)
    assert "bead_size_estimated" in result.flags
    seen = result.geometry.project(scene.beads_zyx_px) - scene.place_yx_px
    error = unexplained(scene, result.geometry.shift_yx_px)
    assert rms(error) < 0.3
    assert np.std(seen, axis=1).max() < 0.6


def test_a_dark_tilt_is_left_out_and_gets_its_neighbours_shift() -> None:
    scene = bead_scene(seed=11, tracking_px=3.0)
    images = scene.images.copy()
    images[4] = 0.0
    result = align_by_fiducials(
        images, scene.nominal_tilt_deg, 84.0, pixel_size_angstrom=10.0, bead_diameter_angstrom=80.0
    )
    assert not result.used[4]
    assert result.used.sum() == 18
    assert "tilts_left_out" in result.flags
    assert np.isnan(result.residual_angstrom[4])


def test_images_and_angles_must_belong_together() -> None:
    with pytest.raises(ValueError, match="tilt angles"):
        align_by_fiducials(np.zeros((3, 64, 64)), [0.0, 3.0], 84.0, pixel_size_angstrom=10.0)
    with pytest.raises(ValueError, match="at least"):
        find_beads(np.zeros((1, 64, 64)), 2.0)
