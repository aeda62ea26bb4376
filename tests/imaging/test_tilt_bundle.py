"""A bundle fit finds the geometry behind points that were followed, and says what they do not tell."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.tilt_scenes import seen_at
from tomofly.imaging.tilt_bundle import BundleFit, fit_bundle
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry

TILTS = np.arange(-57.0, 58.0, 6.0)


def tracks(
    points_zyx: np.ndarray,
    *,
    axis_deg: float = 84.0,
    offset_deg: float = 0.0,
    x_tilt_deg: float = 0.0,
    shift_yx: np.ndarray | None = None,
) -> np.ndarray:
    shifts = np.zeros((len(TILTS), 2)) if shift_yx is None else shift_yx
    seen = [np.stack(seen_at(points_zyx, tilt + offset_deg, axis_deg, x_tilt_deg), axis=-1) for tilt in TILTS]
    return np.stack(seen, axis=1) - shifts[None]


def level_points(rng: np.random.Generator, count: int, depth: float = 0.0) -> np.ndarray:
    """Points whose plane of least squares lies level, up to ``depth`` above and below it."""
    points = rng.uniform(-0.5, 0.5, (count, 3)) * (2 * depth, 330.0, 410.0)
    design = np.column_stack([points[:, 1:], np.ones(count)])
    points[:, 0] -= design @ np.linalg.lstsq(design, points[:, 0])[0]
    return points


def unmoved(error_yx: np.ndarray, axis_deg: float, offset_deg: float) -> np.ndarray:
    """What is left of errors of shifts when the best movement of the whole is taken out."""
    unit = np.stack(
        [np.stack(seen_at(np.eye(3), t + offset_deg, axis_deg, 0.0), axis=0) for t in TILTS]
    ).reshape(-1, 3)
    flat = error_yx.ravel()
    return (flat - unit @ np.linalg.lstsq(unit, flat)[0]).reshape(-1, 2)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    axis=st.floats(-180, 180),
    error=st.floats(-9, 9),
    offset=st.floats(-12, 12),
    count=st.integers(5, 30),
)
def test_exact_tracks_give_axis_offset_shifts_and_points(seed, axis, error, offset, count):
    rng = np.random.default_rng(seed)
    points, shifts = level_points(rng, count), rng.normal(0, 20, (len(TILTS), 2))
    seen = tracks(points, axis_deg=axis, offset_deg=offset, shift_yx=shifts)
    found = fit_bundle(seen, nominal_geometry(TILTS, axis + error))
    assert np.abs(found.geometry.axis_angle_deg - axis).max() < 1e-6
    assert np.abs(found.geometry.tilt_angle_deg - TILTS - offset).max() < 1e-6
    assert np.abs(unmoved(found.geometry.shift_yx_px - shifts, axis, offset)).max() < 1e-6
    assert np.nanmax(np.abs(found.residual_yx_px)) < 1e-6
    expected = found.geometry.project(found.point_zyx_px)
    assert np.abs(expected.transpose(1, 0, 2) - seen).max() < 1e-6
    assert found.inlier.all() and found.flags == ()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), offset=st.floats(-9, 9), x_tilt=st.floats(-6, 6))
def test_a_specimen_inclined_both_ways_is_levelled_both_ways(seed, offset, x_tilt):
    points = level_points(np.random.default_rng(seed), 12)
    seen = tracks(points, offset_deg=offset, x_tilt_deg=x_tilt)
    found = fit_bundle(seen, nominal_geometry(TILTS, 80.0), free_x_tilt=True)
    assert np.abs(found.geometry.tilt_angle_deg - TILTS - offset).max() < 1e-6
    assert abs(found.geometry.x_tilt_deg - x_tilt) < 1e-6
    assert np.ptp(found.point_zyx_px[:, 0]) < 1e-6


def test_an_x_tilt_that_is_given_and_not_free_is_kept():
    points = level_points(np.random.default_rng(7), 12)
    seen = tracks(points, offset_deg=5.0, x_tilt_deg=3.0)
    start = replace(nominal_geometry(TILTS, 80.0), x_tilt_deg=3.0)
    found = fit_bundle(seen, start)
    assert found.geometry.x_tilt_deg == 3.0
    assert np.abs(found.geometry.tilt_angle_deg - TILTS - 5.0).max() < 1e-6
    held = fit_bundle(seen, start, free_tilt_offset=False, free_axis=False)
    assert np.all(held.geometry.tilt_angle_deg == TILTS) and np.all(held.geometry.axis_angle_deg == 80.0)


def test_shifts_change_by_no_movement_of_the_whole_specimen():
    rng = np.random.default_rng(2)
    points = level_points(rng, 9, depth=30.0) + np.array([25.0, -14.0, 33.0])
    start = replace(nominal_geometry(TILTS, 81.0), shift_yx_px=rng.normal(0, 10, (len(TILTS), 2)))
    found = fit_bundle(tracks(points), start)
    view = found.geometry.rotations()[:, 1::-1, :].reshape(-1, 3)
    change = (found.geometry.shift_yx_px - start.shift_yx_px).ravel()
    assert np.abs(view.T @ change).max() < 1e-9 * np.linalg.norm(change) * len(change)


def noisy_fit(seed: int, spoiled: float, missing: float, **options: bool) -> tuple[BundleFit, np.ndarray]:
    rng = np.random.default_rng(seed)
    points, shifts = level_points(rng, 60, depth=25.0), rng.normal(0, 20, (len(TILTS), 2))
    seen = tracks(points, shift_yx=shifts)
    seen += rng.normal(0, 0.5, seen.shape)
    wrong = rng.random(seen.shape[:2]) < spoiled
    seen[wrong] += rng.normal(0, 30, (np.count_nonzero(wrong), 2))
    seen[rng.random(seen.shape[:2]) < missing] = np.nan
    found = fit_bundle(seen, nominal_geometry(TILTS, 79.0), **options)
    return found, unmoved(found.geometry.shift_yx_px - shifts, 84.0, 0.0)


def test_errors_are_as_large_as_they_are_said_to_be():
    z_shift, z_axis = [], []
    for seed in range(12):
        found, error = noisy_fit(seed, spoiled=0.0, missing=0.3)
        z_shift.append(np.mean((error / found.shift_uncertainty_yx_px) ** 2))
        z_axis.append((found.geometry.axis_angle_deg[0] - 84.0) / found.axis_uncertainty_deg)
    assert 0.7 < np.sqrt(np.mean(z_shift)) < 1.4
    assert 0.4 < np.sqrt(np.mean(np.square(z_axis))) < 1.8


def test_outliers_lose_their_weight():
    found, error = noisy_fit(1, spoiled=0.25, missing=0.2)
    seen = np.isfinite(found.residual_yx_px[..., 0])
    assert np.hypot(*error.T).max() < 0.4
    assert abs(found.geometry.axis_angle_deg[0] - 84.0) < 0.1
    assert 0.7 < found.inlier[seen].mean() < 0.8
    assert not found.inlier[~seen].any()
    trusting, spoiled = noisy_fit(1, spoiled=0.25, missing=0.2, robust=False)
    assert np.hypot(*spoiled.T).max() > 2.0 and trusting.inlier[seen].all()


def test_leaving_a_view_out_is_what_a_fit_without_it_gives():
    rng = np.random.default_rng(5)
    seen = tracks(level_points(rng, 5, depth=20.0)) + rng.normal(0, 0.5, (5, len(TILTS), 2))
    start = nominal_geometry(TILTS, 83.5)
    distances = []
    for point in range(5):
        for tilt in range(0, len(TILTS), 4):
            fewer = seen.copy()
            fewer[point, tilt] = np.nan
            fit = fit_bundle(fewer, start, robust=False)
            expected = fit.geometry.project(fit.point_zyx_px)[tilt, point]
            distances.append(np.hypot(*(seen[point, tilt] - expected)))
    whole = fit_bundle(seen, start, robust=False)
    residual = np.median(np.hypot(whole.residual_yx_px[..., 0], whole.residual_yx_px[..., 1]))
    assert whole.leave_one_out_px == pytest.approx(np.median(distances), rel=0.2)
    assert whole.leave_one_out_px > 1.05 * residual


def test_a_view_that_weighs_nothing_changes_nothing():
    rng = np.random.default_rng(3)
    seen = tracks(level_points(rng, 8)) + rng.normal(0, 0.3, (8, len(TILTS), 2))
    weights = np.ones(seen.shape[:2])
    weights[2, 4:9] = 0.0
    without = seen.copy()
    without[2, 4:9] = np.nan
    start = nominal_geometry(TILTS, 84.0)
    weighed, missing = fit_bundle(seen, start, weights=weights), fit_bundle(without, start)
    assert np.array_equal(weighed.geometry.shift_yx_px, missing.geometry.shift_yx_px)


def test_what_points_do_not_tell_is_said():
    start = nominal_geometry(TILTS, 84.0)
    rng = np.random.default_rng(3)
    few = fit_bundle(np.full((4, len(TILTS), 2), np.nan), start)
    assert few.flags == ("too_few_points",) and np.all(few.geometry.shift_yx_px == 0)
    seen = tracks(level_points(rng, 8))
    seen[:, 7] = np.nan
    blind = fit_bundle(seen, start)
    assert blind.flags == ("tilts_without_points",)
    assert np.isnan(blind.shift_uncertainty_yx_px[7]).all()
    on_a_line = level_points(rng, 8) * (0.0, 1.0, 0.0)
    line = fit_bundle(tracks(on_a_line), start)
    assert "level_kept" in line.flags and np.all(line.geometry.tilt_angle_deg == TILTS)


def test_near_zero_the_axis_is_not_told():
    tilts = np.array([-2.0, 0.0, 2.0])
    start = TiltGeometry(tilts, np.full(3, 30.0), np.zeros((3, 2)))
    points = level_points(np.random.default_rng(1), 9)
    seen = np.stack([np.stack(seen_at(points, t, 35.0, 0.0), axis=-1) for t in tilts], axis=1)
    found = fit_bundle(seen, start)
    assert "axis_kept" in found.flags and np.all(found.geometry.axis_angle_deg == 30.0)


@pytest.mark.parametrize("shape", [(5, 3, 2), (5, len(TILTS)), (5, len(TILTS), 3)])
def test_tracks_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="tracks are"):
        fit_bundle(np.zeros(shape), nominal_geometry(TILTS, 0.0))
