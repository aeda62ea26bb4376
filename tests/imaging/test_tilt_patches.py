"""Patches are followed through an aligned series, and what they leave tells of local movement."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.interpolate import RegularGridInterpolator

from tests.imaging.tilt_scenes import TiltScene, seen_at, tilt_scene
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_local import LocalDeformation, fit_deformation, straightened
from tomofly.imaging.tilt_patch_fit import fit_patches, patch_residuals, residual_of_tilts
from tomofly.imaging.tilt_patches import follow_patches, patch_centres
from tomofly.imaging.tilt_preparation import prepare_tilts
from tomofly.imaging.tilt_refinement import SlabState

Array = npt.NDArray[np.float64]
TILTS = np.arange(-48.0, 49.0, 8.0)


def true_geometry(scene: TiltScene) -> TiltGeometry:
    return TiltGeometry(
        scene.nominal_tilt_deg + scene.offset_deg,
        np.full(len(scene.images), scene.axis_angle_deg),
        scene.shift_yx_px,
        scene.x_tilt_deg,
    )


@pytest.fixture(scope="module")
def scene() -> TiltScene:
    return tilt_scene((270, 310), TILTS, thickness_px=40.0, particles_per_megapixel=9000.0, seed=2)


def test_patches_are_seen_where_the_geometry_has_them(scene: TiltScene) -> None:
    images = prepare_tilts(scene.images).images
    geometry = true_geometry(scene)
    tracks = follow_patches(
        images, SlabState(geometry, 40.0, np.ones(len(TILTS))), side_px=90, highest=0.2, threads=2
    )
    expected = geometry.project(tracks.centre_zyx_px).transpose(1, 0, 2)
    off = np.hypot(*np.moveaxis(tracks.track_yx_px - expected, -1, 0))
    assert len(tracks.centre_zyx_px) >= 9
    assert np.nanmedian(off) < 0.5
    assert np.nanmedian(tracks.error_yx_px) < 1.0
    assert np.array_equal(np.isnan(tracks.error_yx_px), np.isnan(tracks.track_yx_px))


def test_a_geometry_that_is_off_is_found_by_its_patches(scene: TiltScene) -> None:
    images = prepare_tilts(scene.images).images
    geometry = true_geometry(scene)
    turned = replace(geometry, axis_angle_deg=geometry.axis_angle_deg + 1.0)
    fit = fit_patches(images, SlabState(turned, 40.0, np.ones(len(TILTS))), 12.0, highest=0.2, threads=2)
    assert fit is not None
    assert abs(fit.bundle.geometry.axis_angle_deg[0] - scene.axis_angle_deg) < 0.4
    assert 0.02 < fit.axis_uncertainty_deg < 0.5
    residual = residual_of_tilts(patch_residuals(fit, fit.bundle.geometry))
    assert residual.shape == (len(TILTS),) and 0.05 < np.nanmedian(residual) < 0.6


def test_images_too_small_for_patches_have_none(scene: TiltScene) -> None:
    images = prepare_tilts(scene.images[:, :120, :130]).images
    state = SlabState(true_geometry(scene), 40.0, np.ones(len(TILTS)))
    assert fit_patches(images, state, 12.0, highest=0.2) is None


def test_patch_centres_lie_in_the_image_of_an_axis_at_any_angle() -> None:
    for axis in (0.0, 35.0, -84.0):
        geometry = nominal_geometry(TILTS, axis)
        centres = patch_centres(geometry, (200, 330), 60)
        place = geometry.project(centres)[len(TILTS) // 2]
        assert np.all(np.abs(place) <= (100, 165)) and np.all(centres[:, 0] == 0)
        assert len(centres) >= 20


def moving(places: Array, orders: Array, size: float) -> Array:
    """A bowl that grows with the exposures: displacements (exposure, point, 3) as z, y, x."""
    y, x = places[:, 1] / 200.0, places[:, 2] / 250.0
    field = np.stack([0.5 * x * y, y - 0.4 * x * y, 0.6 * x**2 - y**2], axis=-1)
    return np.asarray(size * (orders / orders.max())[:, None, None] * field[None])


def residuals_of(
    points: Array, size: float, noise: float, seed: int
) -> tuple[Array, Array, Array, TiltGeometry]:
    rng = np.random.default_rng(seed)
    geometry = nominal_geometry(TILTS, 70.0)
    order = np.argsort(np.argsort(np.abs(TILTS), kind="stable")).astype(float)
    moved = points[None] + moving(points, order, size)
    at = np.stack([np.stack(seen_at(moved[i], t, 70.0, 0.0), axis=-1) for i, t in enumerate(TILTS)], axis=1)
    still = np.stack([np.stack(seen_at(points, t, 70.0, 0.0), axis=-1) for t in TILTS], axis=1)
    return at - still + rng.normal(0, noise, at.shape), at - still, order, geometry


def lattice() -> Array:
    y, x = np.meshgrid(np.linspace(-160, 160, 5), np.linspace(-200, 200, 6), indexing="ij")
    return np.stack([np.zeros(y.size), y.ravel(), x.ravel()], axis=1)


def unplaced(error: Array, geometry: TiltGeometry) -> Array:
    """Take the place of every point (point, tilt, 2) and the shift of every tilt out of errors."""
    view = geometry.rotations()[:, 1::-1, :].reshape(-1, 3)
    for _ in range(30):
        error = error - error.mean(axis=0)
        flat = error.reshape(len(error), -1)
        error = (flat - (flat @ np.linalg.pinv(view).T) @ view.T).reshape(error.shape)
    return error


def test_a_movement_that_grows_with_exposure_is_found_and_undone() -> None:
    points = lattice()
    residual, true, order, geometry = residuals_of(points, 3.0, 0.2, seed=1)
    weight = np.full(residual.shape[:2], 1 / 0.2**2)
    fit = fit_deformation(residual, weight, points, geometry, order, (200.0, 250.0))
    assert fit.deformation is not None and fit.gain > 0.5
    shift = sampled(fit.deformation, points)
    before = np.sqrt(np.mean(unplaced(true, geometry) ** 2))
    after = np.sqrt(np.mean(unplaced(true + shift, geometry) ** 2))
    assert after < 0.35 * before


def sampled(local: LocalDeformation, points: Array) -> Array:
    """Interpolate (point, tilt, 2) linearly between the nearest positions, independently of the package."""
    rows, columns = local.grid_yx
    y, x = local.centre_zyx_px[::columns, 1], local.centre_zyx_px[:columns, 2]
    grid = local.shift_yx_px.transpose(1, 0, 2).reshape(rows, columns, len(local.shift_yx_px), 2)
    return np.asarray(RegularGridInterpolator((y, x), grid, method="cubic")(points[:, 1:]))


def test_noise_alone_is_no_movement() -> None:
    points = lattice()
    residual, _, order, geometry = residuals_of(points, 0.0, 0.4, seed=3)
    fit = fit_deformation(
        residual, np.full(residual.shape[:2], 1 / 0.4**2), points, geometry, order, (200.0, 250.0)
    )
    assert fit.deformation is None and fit.gain < 0.08


def test_too_few_patches_tell_no_movement() -> None:
    points = lattice()[:5]
    residual, _, order, geometry = residuals_of(points, 3.0, 0.1, seed=1)
    fit = fit_deformation(
        residual, np.full(residual.shape[:2], 100.0), points, geometry, order, (200.0, 250.0)
    )
    assert fit.deformation is None


def test_straightened_images_show_points_where_the_geometry_has_them() -> None:
    """One blob per image, moved by a known field: after straightening it is where it should be."""
    geometry = replace(
        nominal_geometry(TILTS, 70.0), shift_yx_px=np.linspace(-6, 6, 2 * len(TILTS)).reshape(-1, 2)
    )
    places = np.stack(np.meshgrid(np.linspace(-120, 120, 7), np.linspace(-140, 140, 7), indexing="ij"), -1)
    centre = np.concatenate([np.zeros((49, 1)), places.reshape(-1, 2)], axis=1)
    shift = np.stack([0.02 * centre[:, 1:] * i / len(TILTS) + (0.5, -0.3) for i in range(len(TILTS))])
    local = LocalDeformation(centre, shift, (7, 7))
    point = np.array([0.0, 33.0, -41.0])
    expected = geometry.project(point[None])[:, 0]
    y, x = np.arange(240) - 120, np.arange(270) - 135
    images = np.empty((len(TILTS), 240, 270), dtype=np.float32)
    for i in range(len(TILTS)):
        v, u = expected[i] - (0.02 * point[1:] * i / len(TILTS) + (0.5, -0.3))
        images[i] = np.exp(-((y[:, None] - v) ** 2 + (x[None, :] - u) ** 2) / (2 * 3.0**2))
    found = straightened(images, geometry, local, threads=2)
    some = straightened(images[2:5], geometry.subset([2, 3, 4]), local.subset([2, 3, 4]))
    assert np.array_equal(some, found[2:5])
    for i in range(len(TILTS)):
        weight = np.clip(found[i], 0.05, None) - 0.05
        at = np.array([(weight.sum(1) * y).sum(), (weight.sum(0) * x).sum()]) / weight.sum()
        assert np.abs(at - expected[i]).max() < 0.1
