"""A tilt series in memory: its images show the specimen where the geometry says."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series

# Clean and unequal: an image in which only what is looked for can be seen.
CLEAN = TiltSeriesConfig(
    seed=3, detector_yx_px=(150, 186), pixel_size_angstrom=12, tilt_angles_deg=(0, 27, -54), counting=False,
    axis_angle_deg=34, pre_tilt_deg=7, x_tilt_deg=-5, thickness_angstrom=900, ice_noise=0, solute_mg_per_ml=0,
    illumination_variation=0, particles_per_um2=0, tracking_error_angstrom=80,
)  # fmt: skip


def geometry(series: SimulatedSeries) -> TiltGeometry:
    return TiltGeometry(
        series.tilt_angle_deg, series.axis_angle_deg, series.shift_yx_px, x_tilt_deg=series.x_tilt_deg
    )


def seen_at(series: SimulatedSeries, xyz_angstrom: np.ndarray) -> np.ndarray:
    """Indices (tilt, point, 2) as (y, x) by the package's own geometry."""
    middle = np.array(series.images.shape[1:]) // 2
    return geometry(series).project(xyz_angstrom[:, ::-1] / series.pixel_size_angstrom) + middle


def dark_centroid(image: np.ndarray, near_yx: np.ndarray, reach: int) -> np.ndarray:
    """Centre of mass of what is darker than the background within `reach` of a place."""
    y0, x0 = np.round(near_yx).astype(int)
    part = image[y0 - reach : y0 + reach + 1, x0 - reach : x0 + reach + 1]
    weight = np.clip(np.median(image) - part, 0, None)
    y, x = np.mgrid[y0 - reach : y0 + reach + 1, x0 - reach : x0 + reach + 1]
    return np.array([(y * weight).sum(), (x * weight).sum()]) / weight.sum()


def well_inside(places: np.ndarray, shape: tuple[int, ...], border: int) -> np.ndarray:
    return np.all((places > border) & (places < np.array(shape) - 1 - border), axis=-1)


def test_gold_lies_where_the_geometry_projects_it() -> None:
    series = simulate_tilt_series(CLEAN.model_copy(update={"gold_beads": 6, "gold_diameter_angstrom": 90}))
    places = seen_at(series, series.gold_xyz_angstrom)
    found = 0
    for image, in_tilt in zip(series.images, places, strict=True):
        apart = np.linalg.norm(in_tilt[:, None] - in_tilt[None], axis=-1) + 1e6 * np.eye(len(in_tilt))
        for place in in_tilt[well_inside(in_tilt, image.shape, 8) & (apart.min(axis=1) > 16)]:
            assert dark_centroid(image, place, 6) == pytest.approx(place, abs=0.1)
            found += 1
    assert found >= 8


def test_particles_lie_where_the_geometry_projects_them() -> None:
    series = simulate_tilt_series(CLEAN.model_copy(update={"particles_per_um2": 60, "seed": 4}))
    places = seen_at(series, series.particle_xyz_angstrom)
    found = 0
    for image, in_tilt in zip(series.images, places, strict=True):
        smooth = gaussian_filter(image, 2)
        apart = np.linalg.norm(in_tilt[:, None] - in_tilt[None], axis=-1) + 1e6 * np.eye(len(in_tilt))
        for place in in_tilt[well_inside(in_tilt, image.shape, 17) & (apart.min(axis=1) > 32)]:
            assert dark_centroid(smooth, place, 14) == pytest.approx(place, abs=1.0)
            found += 1
    assert found >= 4
