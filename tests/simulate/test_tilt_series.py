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


def test_the_same_series_comes_out_again_and_the_threads_do_not_matter() -> None:
    config = CLEAN.model_copy(update={"solute_mg_per_ml": 5.0, "counting": True, "ice_noise": 1.0})
    first, second = (simulate_tilt_series(config, 2, threads=threads).images for threads in (1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, simulate_tilt_series(config, 3).images)


def test_the_beam_fades_with_its_way_through_the_tilted_slab() -> None:
    config = CLEAN.model_copy(update={"pre_tilt_deg": 0.0, "x_tilt_deg": 0.0})
    means = simulate_tilt_series(config).images.mean(axis=(1, 2))
    way = config.thickness_angstrom / np.cos(np.radians([0, 27, 54])) / config.mean_free_path_angstrom
    assert means == pytest.approx(3 * 12**2 * np.exp(-way), rel=1e-3)


def test_counts_scatter_about_what_is_expected_as_poissons_law_says() -> None:
    config = CLEAN.model_copy(update={"particles_per_um2": 300})
    expected = simulate_tilt_series(config).images
    counts = simulate_tilt_series(config.model_copy(update={"counting": True})).images
    assert np.mean((counts - expected) ** 2 / expected) == pytest.approx(1, abs=0.02)
    assert counts.mean() == pytest.approx(expected.mean(), rel=2e-3)


def test_each_depth_has_the_focus_of_its_own() -> None:
    """At depth w, defocus d with hand +1 makes the image of defocus d + 2w with hand -1."""
    config = TiltSeriesConfig(
        detector_yx_px=(240, 320), pixel_size_angstrom=6, tilt_angles_deg=(55,), axis_angle_deg=0,
        counting=False, thickness_angstrom=200, ice_noise=0, tracking_error_angstrom=0,
        defocus_spread_angstrom=0, illumination_variation=0, defocus_angstrom=30000, particles_per_um2=0,
    )  # fmt: skip
    # The axis is the image's y axis, so that depth falls with x as tan(55°).
    depth = -np.tan(np.radians(55)) * (np.arange(320) - 160) * 6
    column = 70
    other = config.model_copy(update={"hand": -1, "defocus_angstrom": 30000 + 2 * depth[column]})
    unlike = config.model_copy(update={"hand": -1})
    plain, same, wrong = (simulate_tilt_series(c).images[0] for c in (config, other, unlike))

    def alike(first: np.ndarray, second: np.ndarray, at: int) -> float:
        parts = (image[:, at - 15 : at + 16].ravel() for image in (first, second))
        return float(np.corrcoef(*parts)[0, 1])

    assert alike(plain, same, column) > 0.98
    assert alike(plain, wrong, 160) > 0.98
    assert alike(plain, wrong, column) < 0.95
    assert alike(plain, same, 250) < 0.95


def test_neighbouring_tilts_have_more_in_common_than_distant_ones() -> None:
    config = TiltSeriesConfig(
        detector_yx_px=(200, 230), tilt_angles_deg=(0, 3, 40), tracking_error_angstrom=0
    )
    images = simulate_tilt_series(config).images
    smooth = [gaussian_filter(image, 1.5) - gaussian_filter(image, 8) for image in images]
    near = np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1]
    far = np.corrcoef(smooth[0].ravel(), smooth[2].ravel())[0, 1]
    assert near > 0.3
    assert near > 2 * far


def test_dark_and_blocked_tilts_are_what_they_are_called() -> None:
    config = CLEAN.model_copy(update={"dark_tilts": (1,), "blocked_tilts": (2,)})
    images = simulate_tilt_series(config).images
    assert images[1].max() < 0.02 * images[0].mean()
    covered = np.mean(images[2] < 0.1 * images[0].mean())
    assert 0.4 < covered < 0.95


def test_an_empty_slab_shows_nothing_but_ice() -> None:
    config = CLEAN.model_copy(update={"ice_noise": 1.0})
    image = simulate_tilt_series(config).images[0]
    assert image.std() / image.mean() < 0.02


def test_tilts_can_be_put_in_the_order_of_their_angles() -> None:
    series = simulate_tilt_series(CLEAN).by_angle()
    assert series.nominal_tilt_deg.tolist() == [-54, 0, 27]
    assert series.dose_before_e_per_a2.tolist() == [6, 0, 3]
    assert series.images.mean(axis=(1, 2)).argmax() == 1


def test_a_microscope_refuses_what_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="there is no tilt 7, the last is 2"):
        TiltSeriesConfig(tilt_angles_deg=(0, 1, 2), dark_tilts=(7,))
    with pytest.raises(ValueError, match="give the smaller one first"):
        TiltSeriesConfig(tilt_range_deg=(10, -10))
