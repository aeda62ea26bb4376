"""From where the tilts see the specimen: by the geometry that the package works with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_views import draw_views

angles = st.floats(-70, 70)


@settings(deadline=None, max_examples=40)
@given(axis=st.floats(-360, 360), pre_tilt=st.floats(-20, 20), x_tilt=st.floats(-20, 20), stage=angles)
def test_points_appear_where_the_packages_geometry_puts_them(
    axis: float, pre_tilt: float, x_tilt: float, stage: float
) -> None:
    config = TiltSeriesConfig(
        tilt_angles_deg=(0.0, stage), axis_angle_deg=axis, pre_tilt_deg=pre_tilt, x_tilt_deg=x_tilt
    )
    views = draw_views(config, 0)
    geometry = TiltGeometry(
        views.tilt_angle_deg, views.axis_angle_deg, views.shift_yx_angstrom, x_tilt_deg=x_tilt
    )
    xyz = np.random.default_rng(1).uniform(-2000, 2000, (7, 3))
    for tilt in range(2):
        seen = views.place(tilt, xyz, 0.0)
        assert seen[:, 1::-1] == pytest.approx(geometry.project(xyz[:, ::-1])[tilt], abs=1e-6)
        assert seen[:, 2] == pytest.approx(geometry.depth(xyz[:, ::-1])[tilt], abs=1e-6)


def test_the_sense_turns_the_stage_but_not_the_pre_tilt() -> None:
    config = TiltSeriesConfig(sense=-1, pre_tilt_deg=10, tilt_angles_deg=(0, 30))
    assert draw_views(config, 0).tilt_angle_deg.tolist() == [10, -20]


def test_tracking_goes_as_far_as_was_asked_and_jumps_below_the_start() -> None:
    still = TiltSeriesConfig(tracking_error_angstrom=400)
    jumping = still.model_copy(update={"branch_jump_angstrom": 500.0})
    first, second = (draw_views(config, 2).shift_yx_angstrom for config in (still, jumping))
    assert np.linalg.norm(first, axis=1).max() == pytest.approx(400)
    jump = np.linalg.norm(second - first, axis=1)
    below = still.nominal_tilts_deg < 0
    assert jump[below] == pytest.approx(500)
    assert jump[~below] == pytest.approx(0)


def test_the_slab_is_bent_by_dose_smoothly_from_nothing_to_what_was_asked() -> None:
    config = TiltSeriesConfig(detector_yx_px=(400, 600), deformation_angstrom=25)
    bend = draw_views(config, 0).deformation
    grid = np.random.default_rng(2).uniform(-0.5, 0.5, (4000, 3)) * np.array([6000, 4000, 0])
    end = bend.displacement_angstrom(grid, 3.0 * 41)
    assert np.sqrt(np.mean(np.sum(end**2, axis=1))) == pytest.approx(25, rel=0.05)
    assert not bend.displacement_angstrom(grid, 0.0).any()
    assert bend.displacement_angstrom(np.zeros((1, 3)), 60.0) == pytest.approx(0)
    beside = bend.displacement_angstrom(grid + np.array([50.0, 0, 0]), 3.0 * 41)
    assert np.linalg.norm(beside - end, axis=1).max() < 10


def test_series_of_one_session_differ_and_come_out_the_same_again() -> None:
    config = TiltSeriesConfig()
    shifts = [draw_views(config, series).shift_yx_angstrom for series in (0, 1, 0)]
    assert np.array_equal(shifts[0], shifts[2])
    assert not np.array_equal(shifts[0], shifts[1])
