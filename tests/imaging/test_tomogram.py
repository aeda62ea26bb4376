"""Whole reconstructions, by either method."""

import numpy as np
import pytest

from tests.imaging.tilted_blobs import blob_images, blob_volume, centroid
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tomogram import reconstruct_tomogram

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
