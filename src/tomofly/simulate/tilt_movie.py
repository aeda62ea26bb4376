"""The movie of one tilt: the projected slab, the stage that drifts, and the camera that counts."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate import camera as counting
from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_projection import TiltProjector, camera_pattern, make_grid
from tomofly.simulate.tilt_series import draw_series
from tomofly.simulate.tilt_specimen import Specimen
from tomofly.simulate.tilt_views import Views

Array = NDArray[np.float64]

# The drift bends by this part of its length.
BEND = 0.3


@dataclass(frozen=True)
class TiltCamera:
    """Takes the movies of one series; `threads` may share it."""

    config: TiltSeriesConfig
    series: int
    specimen: Specimen
    views: Views
    projector: TiltProjector
    camera: counting.Camera

    def movie(self, tilt: int) -> NDArray[np.generic]:
        """Frames (frame, y, x) of one tilt in the camera's number type."""
        config, projector = self.config, self.projector
        random = config.random("counting", self.series, tilt)
        coefficients = projector.intensity(tilt, as_spline=True)
        electrons = config.dose_per_tilt_e_per_a2 / config.frames * config.pixel_size_angstrom**2
        frames = np.empty((config.frames, *config.detector_yx_px), dtype=config.frame_dtype)
        seen = np.empty(config.detector_yx_px, dtype=np.float32)
        for frame, shift in enumerate(self.frame_shifts_yx_px(tilt)):
            nodes = np.broadcast_to(shift, (2, 2, 2)).copy()
            counting.warp(coefficients, nodes, projector.grid.margin_px, seen)
            counting.count_electrons(seen, self.camera, electrons, random, frames[frame])
        return frames

    def frame_shifts_yx_px(self, tilt: int) -> Array:
        """Shifts (frame, 2) that bring each frame onto frame 0: the drift, slightly bent."""
        config = self.config
        random = config.random("drift", self.series, tilt)
        direction = random.uniform(0, 2 * np.pi)
        length = config.drift_angstrom_per_tilt * random.uniform(0.5, 1.5) / config.pixel_size_angstrom
        along = np.linspace(0, 1, config.frames, endpoint=config.frames > 1)[:, None]
        straight = np.array([np.sin(direction), np.cos(direction)])
        across = np.array([np.cos(direction), -np.sin(direction)])
        return np.asarray(length * (along * straight + BEND * along * (1 - along) * across))


def tilt_camera(config: TiltSeriesConfig, series: int) -> TiltCamera:
    """Put the specimen of one series under the camera."""
    grid = make_grid(config, 1.5 * config.drift_angstrom_per_tilt)
    specimen, views = draw_series(config, series, grid)
    projector = TiltProjector(config, series, specimen, views, grid)
    camera = _lit_camera(config.camera_microscope(), config.illumination_variation)
    return TiltCamera(config, series, specimen, views, projector, camera)


@lru_cache(maxsize=1)
def _lit_camera(microscope: SpaMicroscope, variation: float) -> counting.Camera:
    """The camera under an uneven beam, kept for the next series."""
    camera = counting.make_camera(microscope)
    return replace(camera, sensitivity=camera.sensitivity * camera_pattern(microscope, variation))
