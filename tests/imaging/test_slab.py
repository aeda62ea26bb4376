"""The slab's thickness, height and slopes; and none where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.tilted_blobs import dotted_slab
from tomofly.imaging.slab import Slab, find_slab, find_slab_in_series, levelled
from tomofly.imaging.tilt_geometry import TiltGeometry

TILTS = np.arange(-60.0, 61.0, 4.0)
SHAPE = (150, 162)
PIXEL_ANGSTROM = 20.0


def _geometry(axis: float = 84.0) -> TiltGeometry:
    shifts = np.random.default_rng(2).uniform(-4, 4, (len(TILTS), 2))
    return TiltGeometry(TILTS, np.full(len(TILTS), axis), shifts)


@pytest.mark.parametrize("thickness", [40.0, 75.0, 150.0])
def test_thickness_is_found(thickness: float) -> None:
    geometry = _geometry()
    images = dotted_slab(thickness, geometry, SHAPE, dots=int(150 * thickness))
    slab = find_slab_in_series(images, geometry, PIXEL_ANGSTROM, int(thickness) + 100, threads=2)
    assert slab.detectable
    # Dots whose centres lie at the surface reach two of their standard deviations of 1.2 beyond it.
    assert slab.thickness == pytest.approx(thickness + 4.0, rel=0.08)
    assert slab.centre_z == pytest.approx(0.0, abs=2.0)
    assert abs(slab.slope_x_deg) < 4 * max(0.2, slab.slope_x_error_deg)
    assert abs(slab.slope_y_deg) < 4 * max(0.2, slab.slope_y_error_deg)


def test_a_slanting_slab_is_levelled() -> None:
    truth = _geometry(-30.0)
    images = dotted_slab(60.0, truth, SHAPE, seed=4)
    assumed = replace(truth, tilt_angle_deg=truth.tilt_angle_deg - 8.0, x_tilt_deg=3.0)
    slab = find_slab_in_series(images, assumed, PIXEL_ANGSTROM, 160, threads=2)
    level = levelled(assumed, slab)
    assert np.abs(level.tilt_angle_deg - truth.tilt_angle_deg).max() < 1.0
    assert abs(level.x_tilt_deg) < 1.0


def test_pixels_are_those_of_the_images_also_where_they_are_binned() -> None:
    geometry = _geometry()
    images = dotted_slab(60.0, geometry, SHAPE)
    raised = replace(geometry, shift_yx_px=geometry.shift_yx_px - _raise(geometry, 12.0))
    slab = find_slab_in_series(images, raised, 10.0, 161, threads=2)
    assert slab.centre_z == pytest.approx(12.0, abs=2.0)
    assert slab.thickness == pytest.approx(60.0, rel=0.1)


def _raise(geometry: TiltGeometry, height: float) -> np.ndarray:
    """What shifts change by if the same images are of a specimen that is moved up."""
    x = -height * np.sin(np.deg2rad(geometry.tilt_angle_deg))
    axis = np.deg2rad(geometry.axis_angle_deg)
    return np.stack([np.sin(axis) * x, np.cos(axis) * x], axis=1)


def test_gold_on_the_surface_does_not_tilt_the_slab() -> None:
    geometry = _geometry()
    images = dotted_slab(60.0, geometry, SHAPE)
    beads = np.array([[30.0, 40.0, 35.0], [30.0, 50.0, -20.0], [-30.0, -45.0, 12.0]])
    places = np.round(geometry.project(beads)).astype(int) + np.array(SHAPE) // 2
    for image, near in zip(images, places, strict=True):
        for y, x in near:
            image[max(y - 3, 0) : max(y + 3, 0), max(x - 3, 0) : max(x + 3, 0)] -= 150.0
    slab = find_slab_in_series(images, geometry, PIXEL_ANGSTROM, 160, threads=2)
    assert slab.thickness == pytest.approx(60.0, rel=0.15)
    assert abs(slab.slope_x_deg) < 1.0 and abs(slab.slope_y_deg) < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_an_empty_specimen_is_not_detectable(seed: int) -> None:
    images = np.random.default_rng(seed).normal(40, 6, (len(TILTS), *SHAPE)).astype(np.float32)
    slab = find_slab_in_series(images, _geometry(), PIXEL_ANGSTROM, 150)
    assert not slab.detectable and "variance" in slab.reason
    assert np.isnan(slab.thickness)
    with pytest.raises(ValueError, match="cannot be levelled"):
        levelled(_geometry(), slab)


def test_a_slab_thicker_than_the_tomogram_is_not_measured() -> None:
    images = dotted_slab(160.0, _geometry(), SHAPE, dots=9000)
    slab = find_slab_in_series(images, _geometry(), PIXEL_ANGSTROM, 70)
    assert not slab.detectable


@given(
    x_tilt=st.floats(-10, 10), slope_x=st.floats(-12, 12), slope_y=st.floats(-12, 12), offset=st.floats(-9, 9)
)
@settings(max_examples=40, deadline=None)
def test_a_levelled_slab_lies_across_the_beam_at_zero(
    x_tilt: float, slope_x: float, slope_y: float, offset: float
) -> None:
    before = TiltGeometry(np.array([offset]), np.array([84.0]), np.zeros((1, 2)), x_tilt)
    after = levelled(before, Slab(slope_x_deg=slope_x, slope_y_deg=slope_y))
    normal = np.array([-np.tan(np.deg2rad(slope_x)), -np.tan(np.deg2rad(slope_y)), 1.0])
    seen, level = before.rotations()[0] @ normal, after.rotations()[0] @ np.array([0, 0, 1.0])
    np.testing.assert_allclose(level, seen / np.linalg.norm(seen), atol=1e-9)


def test_wrong_input_is_refused() -> None:
    geometry = _geometry()
    images = np.zeros((3, 20, 20), np.float32)
    with pytest.raises(ValueError, match="not in 3 tilts"):
        find_slab_in_series(images, geometry.subset([0, 1, 2]), 20.0, 30)
    with pytest.raises(ValueError, match="cannot be compared"):
        find_slab(np.zeros((4, 30, 30), np.float32), np.zeros((4, 30, 31), np.float32), 20.0)
