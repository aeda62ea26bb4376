"""Back-projection puts density where the geometry says, and is the transpose of projection."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.tilted_blobs import blob_images, blob_volume, centroid
from tomofly.imaging.back_projection import add_rows, project_rows, row_positions
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tomogram import reconstruct_tomogram

TILTS = np.arange(-60.0, 61.0, 5.0)
POINTS = np.array([[0.0, 0.0, 0.0], [7.0, -18.0, 22.0], [-9.0, 21.0, -13.0], [4.0, 25.0, 17.0]])
SHAPE = (40, 82, 90)


def _geometry(axis: float, x_tilt: float, offset: float = 0.0) -> TiltGeometry:
    random = np.random.default_rng(3)
    shifts = random.uniform(-6, 6, (len(TILTS), 2))
    return TiltGeometry(TILTS + offset, axis + random.uniform(-0.5, 0.5, len(TILTS)), shifts, x_tilt)


@pytest.mark.parametrize(
    ("axis", "x_tilt", "offset"), [(0, 0, 0), (-84, 0, 9), (176.5, 6, 0), (84.7, -11, -7)]
)
def test_blobs_stand_where_they_were(axis: float, x_tilt: float, offset: float) -> None:
    geometry = _geometry(axis, x_tilt, offset)
    images = blob_images(POINTS, 1.8, geometry, (96, 104))
    volume = reconstruct_tomogram(images, geometry, SHAPE, threads=2)
    assert volume.shape == SHAPE and volume.dtype == np.float32
    found = np.array([centroid(volume, point, 4) for point in POINTS])
    assert np.abs(found - POINTS).max() < 0.15


@pytest.mark.parametrize(("filtering", "tolerance"), [("exact", 0.05), ("ramp", 0.05)])
def test_density_comes_back_in_its_own_units(filtering: Literal["exact", "ramp"], tolerance: float) -> None:
    geometry = TiltGeometry(np.arange(-88.0, 90.0, 4.0), np.zeros(45), np.zeros((45, 2)))
    images = blob_images(POINTS, 2.5, geometry, (96, 104))
    volume = reconstruct_tomogram(images, geometry, SHAPE, filtering=filtering, thickness_px=60)
    truth = blob_volume(POINTS, 2.5, SHAPE)
    scale = (volume * truth).sum() / (truth * truth).sum()
    assert scale == pytest.approx(1.0, abs=tolerance)
    assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.99


@given(tilt=st.floats(-75, 75), x_tilt=st.floats(-15, 15), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_projection_is_the_transpose_of_back_projection(tilt: float, x_tilt: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    geometry = TiltGeometry(np.array([tilt, 0.0]), np.zeros(2), np.zeros((2, 2)), x_tilt)
    volume = random.normal(size=(9, 13, 5)).astype(np.float32)
    views = random.normal(size=(2, 23, 5)).astype(np.float32)
    positions = row_positions(geometry, 23, (9, 5, 13), 1)
    back = np.zeros_like(volume)
    add_rows(views, positions, back, np.ones((9, 13), np.float32))
    forth = project_rows(volume, positions, 23)
    assert (back * volume).sum(dtype=np.float64) == pytest.approx(
        (forth * views).sum(dtype=np.float64), abs=1e-2
    )


def test_threads_do_not_change_the_volume() -> None:
    geometry = _geometry(-84, 5)
    images = np.random.default_rng(1).normal(size=(len(TILTS), 40, 44)).astype(np.float32)
    one, two = (reconstruct_tomogram(images, geometry, (17, 36, 42), threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
