"""A tilt series in memory, with its truth: the quick way to something to align, reconstruct or measure."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_projection import Grid, TiltProjector, illumination, make_grid, voxel_angstrom
from tomofly.simulate.tilt_specimen import Specimen, draw_specimen
from tomofly.simulate.tilt_views import Deformation, Views, draw_views

Array = NDArray[np.float64]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedSeries:
    """Images of a tilt series and what is true of them; tilts are in the order taken.

    `images` (tilt, y, x) float32: electrons per pixel. A point p (x, y, z) of the specimen, centred, in Å,
    appears in image i at (x, y) = [Rz(axis_i) Ry(tilt_i) Rx(x_tilt) p] / pixel - shift_i from the pixel
    n // 2 of each axis, with right-handed rotations, and its defocus is defocus_i + hand x depth, depth
    being the third component. `tilt_angle_deg` is that of the slab: sense x nominal + pre-tilt (+ error).

    Angles (tilt,) in degrees, shifts (tilt, 2) in pixels to be applied, doses (tilt,) before each tilt,
    defocus (tilt,) means in Å; particles (particle, 3), rotations (particle, 3, 3) from structure to
    specimen, gold (bead, 3).
    """

    config: TiltSeriesConfig
    series: int
    images: Image
    pixel_size_angstrom: float
    nominal_tilt_deg: Array
    tilt_angle_deg: Array
    nominal_axis_deg: float
    axis_angle_deg: Array
    x_tilt_deg: float
    pre_tilt_deg: float
    shift_yx_px: Array
    dose_before_e_per_a2: Array
    defocus_angstrom: Array
    hand: int
    thickness_angstrom: float
    particle_xyz_angstrom: Array
    particle_rotations: Array
    particle_structures: tuple[str, ...]
    gold_xyz_angstrom: Array
    deformation: Deformation

    def __len__(self) -> int:
        return len(self.images)

    def by_angle(self) -> Self:
        """The same series with its tilts in the order of the reported angle."""
        return self.subset(np.argsort(self.nominal_tilt_deg, kind="stable"))

    def subset(self, chosen: NDArray[np.integer]) -> Self:
        """The tilts with the given numbers (n,), in that order."""
        per_tilt = (
            "images", "nominal_tilt_deg", "tilt_angle_deg", "axis_angle_deg", "shift_yx_px",
            "dose_before_e_per_a2", "defocus_angstrom",
        )  # fmt: skip
        return replace(self, **{name: getattr(self, name)[chosen] for name in per_tilt})


def simulate_tilt_series(config: TiltSeriesConfig, series: int = 0, threads: int = 2) -> SimulatedSeries:
    """Take tilt series number `series`: always the same one for the same microscope and number.

    The images are sums over the tilts' frames at the microscope's own pixel, free of gain and drift.
    """
    grid = make_grid(config)
    specimen, views = draw_series(config, series, grid)
    projector = TiltProjector(config, series, specimen, views, grid)
    beam = illumination(config) * np.float32(config.dose_per_tilt_e_per_a2 * config.pixel_size_angstrom**2)

    def take(tilt: int) -> Image:
        expected: Image = np.maximum(beam * grid.crop(projector.intensity(tilt)), 0)
        if not config.counting:
            return expected
        counts = config.random("counting", series, tilt).poisson(expected)
        return np.asarray(counts, dtype=np.float32)

    with ThreadPoolExecutor(threads) as pool:
        images = np.stack(list(pool.map(take, range(len(views)))))
    return SimulatedSeries(
        config=config,
        series=series,
        images=images,
        pixel_size_angstrom=config.pixel_size_angstrom,
        nominal_tilt_deg=views.nominal_tilt_deg,
        tilt_angle_deg=views.tilt_angle_deg,
        nominal_axis_deg=config.axis_angle_deg + config.axis_error_deg,
        axis_angle_deg=views.axis_angle_deg,
        x_tilt_deg=views.x_tilt_deg,
        pre_tilt_deg=config.pre_tilt_deg,
        shift_yx_px=views.shift_yx_angstrom / config.pixel_size_angstrom,
        dose_before_e_per_a2=views.dose_before_e_per_a2,
        defocus_angstrom=np.array([(o.defocus_u_angstrom + o.defocus_v_angstrom) / 2 for o in views.optics]),
        hand=views.hand,
        thickness_angstrom=config.thickness_angstrom,
        particle_xyz_angstrom=specimen.particle_xyz_angstrom,
        particle_rotations=specimen.particle_rotations,
        particle_structures=specimen.particle_structures,
        gold_xyz_angstrom=specimen.gold_xyz_angstrom,
        deformation=views.deformation,
    )


def draw_series(config: TiltSeriesConfig, series: int, grid: Grid) -> tuple[Specimen, Views]:
    """Choose the specimen and the views of one series; the slab reaches as far as any tilt sees it."""
    views = draw_views(config, series)
    reach = _reach_xy(config, views)
    return draw_specimen(config, series, reach, voxel_angstrom(grid)), views


def _reach_xy(config: TiltSeriesConfig, views: Views) -> tuple[float, float]:
    """Half extent (x, y) of the slab in Å that fills the image at every tilt, at most at 75 degrees."""
    height, width = config.field_yx_angstrom
    farthest = float(np.abs(views.shift_yx_angstrom).max()) + 300.0
    axis = np.radians(config.axis_angle_deg)
    across = 0.5 * (width * abs(np.cos(axis)) + height * abs(np.sin(axis))) + farthest
    along = 0.5 * (width * abs(np.sin(axis)) + height * abs(np.cos(axis))) + farthest
    steepest = np.radians(min(75.0, float(np.abs(views.tilt_angle_deg).max())))
    half = config.thickness_angstrom / 2
    x = (across + half * np.sin(steepest)) / np.cos(steepest)
    y = along + (x + half) * abs(np.sin(np.radians(config.x_tilt_deg)))
    return float(x), float(y)
