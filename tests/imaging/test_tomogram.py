"""Whole reconstructions, by either method."""

import numpy as np
import pytest

from tests.imaging.tilted_blobs import blob_images, blob_volume, centroid
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tomogram import reconstruct_tomogram
from tomofly.imaging.tomogram_fsc import shell_correlation

TILTS = np.arange(-60.0, 61.0, 5.0)
POINTS = np.array([[0.0, 0.0, 0.0], [6.0, -14.0, 17.0], [-7.0, 13.0, -12.0]])
SHAPE = (30, 62, 66)


def _series(x_tilt: float = 0.0) -> tuple[TiltGeometry, np.ndarray]:
    geometry = TiltGeometry(TILTS, np.full(25, 84.0), np.full((25, 2), [2.5, -3.0]), x_tilt)
    return geometry, blob_images(POINTS, 1.8, geometry, (70, 76))


@pytest.mark.parametrize("x_tilt", [0.0, 8.0])
def test_sirt_puts_blobs_where_they_were(x_tilt: float) -> None:
    geometry, images = _series(x_tilt)
    volume = reconstruct_tomogram(images, geometry, SHAPE, method="sirt", iterations=15)
    found = np.array([centroid(volume, point, 4) for point in POINTS])
    assert np.abs(found - POINTS).max() < 0.3


def test_sirt_comes_closer_to_the_specimen_with_each_iteration() -> None:
    geometry, images = _series()
    truth = blob_volume(POINTS, 1.8, SHAPE)
    volumes = [reconstruct_tomogram(images, geometry, SHAPE, method="sirt", iterations=n) for n in (1, 4, 16)]
    errors = [float(np.square(volume - truth).sum()) for volume in volumes]
    assert errors[0] > errors[1] > errors[2]


def test_wrong_shapes_and_methods_are_refused() -> None:
    geometry, images = _series()
    with pytest.raises(ValueError, match=r"\(tilt, y, x\)"):
        reconstruct_tomogram(images[0], geometry, SHAPE)
    with pytest.raises(ValueError, match="at least one voxel"):
        reconstruct_tomogram(images, geometry, (0, 8, 8))
    with pytest.raises(ValueError, match="wbp or sirt, not 'art'"):
        reconstruct_tomogram(images, geometry, SHAPE, method="art")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one iteration or more"):
        reconstruct_tomogram(images, geometry, SHAPE, method="sirt", iterations=0)
    with pytest.raises(ValueError, match="24 images do not fit the geometry of 25 tilts"):
        reconstruct_tomogram(images[1:], geometry, SHAPE)


def test_a_single_view_is_smeared_along_the_beam() -> None:
    geometry, images = _series()
    volume = reconstruct_tomogram(images[12:13], geometry.subset([12]), SHAPE)
    np.testing.assert_allclose(volume[3], volume[20], atol=1e-7)


def test_the_specimen_comes_back_to_beyond_half_of_nyquist_where_it_was_measured() -> None:
    random = np.random.default_rng(6)
    tilts = np.arange(-60.0, 61.0, 3.0)
    shifts = random.uniform(-3, 3, (len(tilts), 2))
    geometry = TiltGeometry(tilts, np.full(len(tilts), -84.0), shifts, 4.0)
    shape = (44, 52, 56)
    points = random.uniform([-12, -16, -18], [12, 16, 18], (25, 3))
    truth = blob_volume(points, 0.9, shape)
    volume = reconstruct_tomogram(blob_images(points, 0.9, geometry, (80, 84)), geometry, shape)
    frequency, correlation = shell_correlation(volume, truth, tilt_range_deg=(-58, 58))
    assert correlation[(frequency > 0.05) & (frequency < 0.3)].min() > 0.9
