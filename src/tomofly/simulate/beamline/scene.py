"""The beamline's parts at any time, and what the camera sees of them."""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.detector import Counts, Detector, Exposure
from tomofly.simulate.beamline.motion import Motor
from tomofly.simulate.beamline.phantom import make_phantom
from tomofly.simulate.beamline.projection import View, absorption
from tomofly.simulate.beamline.scan import wobbled_centre
from tomofly.simulate.beamline.settings import BeamlineConfig, PixelType

DARK, FLAT, PROJECTION = 0, 1, 2
"""Numbers of tomoScan's FrameType."""
DEGREES_PER_S, DEGREES_PER_S2 = 180.0, 720.0
MM_PER_S, MM_PER_S2 = 2.0, 20.0
# Views that make up one blurred exposure, at most.
MOST_BLUR_STEPS = 8
SHUTTER_SECONDS, FAST_SHUTTER_SECONDS = 0.3, 0.02


@dataclass(frozen=True)
class CameraSetup:
    """What a camera is told. `region`: first row, first column, rows, columns in unbinned pixels."""

    region: tuple[int, int, int, int]
    exposure_s: float
    binning: int
    dtype: PixelType


@dataclass(frozen=True)
class Look:
    """All that is true in the middle of one exposure; `shutter`: share of the beam that passes.

    `turn_deg`: by how much the stage turns while it lasts.
    """

    angle_deg: float
    shift_um: tuple[float, float]
    sample_moving: bool
    shutter: float
    lens: int
    kind: int
    turn_deg: float = 0.0


class Source(Protocol):
    """What makes a picture: the phantom, or a scan that is replayed."""

    def picture(self, setup: CameraSetup, look: Look, time_s: float, number: int) -> tuple[Counts, float]:
        """Counts (y, x) and the angle in degrees that they were taken at."""
        ...

    def covers(self, shift_um: tuple[float, float]) -> bool:
        """Whether the sample, displaced across and along the axis, is in the beam."""
        ...


class Scene:
    """Stages, shutters and lens; times are POSIX."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rotation = Motor(0.0, DEGREES_PER_S, DEGREES_PER_S2)
        self.sample_x = Motor(0.0, MM_PER_S, MM_PER_S2)
        self.sample_y = Motor(0.0, MM_PER_S, MM_PER_S2)
        self.shutter = Motor(1.0, 1 / SHUTTER_SECONDS, 1000.0)
        self.fast_shutter = Motor(1.0, 1 / FAST_SHUTTER_SECONDS, 1e5)
        self.lens = 0

    def look(self, begin_s: float, exposure_s: float) -> Look:
        """What is true in the middle of an exposure."""
        middle = begin_s + exposure_s / 2
        shift = self.sample_x.motion.at(middle)[0] * 1000, self.sample_y.motion.at(middle)[0] * 1000
        passes = self.shutter.motion.at(middle)[0] * self.fast_shutter.motion.at(middle)[0]
        moments = (begin_s, middle, begin_s + exposure_s)
        moving = any(m.motion.at(t)[1] != 0 for m in (self.sample_x, self.sample_y) for t in moments)
        kind = PROJECTION if self.source.covers(shift) else FLAT
        return Look(
            angle_deg=self.rotation.motion.at(middle)[0],
            shift_um=shift,
            sample_moving=moving,
            shutter=min(max(passes, 0.0), 1.0),
            lens=self.lens,
            kind=DARK if passes <= 0 else kind,
            turn_deg=self.rotation.motion.at(moments[2])[0] - self.rotation.motion.at(begin_s)[0],
        )


class PhantomSource:
    """Pictures of the phantom; times are POSIX, and the sample's own time begins at `started_at`."""

    def __init__(self, config: BeamlineConfig, started_at: float) -> None:
        self.config = config
        self.started_at = started_at
        self.phantom = make_phantom(config)
        self._detectors: dict[tuple[int, tuple[int, int, int, int], PixelType], Detector] = {}
        self._lock = threading.Lock()

    def begin_event(self, time_s: float) -> None:
        """Let the crack begin to open now."""
        with self._lock:
            self.phantom = self.phantom.with_event_at(time_s - self.started_at)

    def covers(self, shift_um: tuple[float, float]) -> bool:
        """Whether the cylinder, displaced, is seen with lens 0."""
        reach = (0.5 + self.config.radius + 0.1) * self.config.width_um
        return abs(shift_um[0]) < reach

    def picture(self, setup: CameraSetup, look: Look, time_s: float, number: int) -> tuple[Counts, float]:
        """Counts (y, x) of one exposure and its angle."""
        detector = self._detector(look.lens, setup)
        image = self._absorption(setup, look, time_s)
        exposure = Exposure(setup.exposure_s, setup.binning, look.shutter, time_s - self.started_at, number)
        return detector.expose(image, exposure), look.angle_deg

    def _absorption(self, setup: CameraSetup, look: Look, time_s: float) -> NDArray[np.float32] | None:
        if look.shutter <= 0 or not self.covers(look.shift_um):
            return None
        with self._lock:
            phantom = self.phantom
        angles = look.angle_deg + look.turn_deg * self._blurring(look)
        views = [self._view(setup, look, float(np.deg2rad(angle))) for angle in angles]
        images = [absorption(phantom, view, time_s - self.started_at) for view in views]
        mean: NDArray[np.float32] = images[0] if len(images) == 1 else np.mean(images, axis=0)
        return mean

    def _blurring(self, look: Look) -> NDArray[np.float64]:
        """Shares of the turn, about its middle, at which an exposure is sampled."""
        config = self.config
        reach_px = config.radius * config.width_um / config.pixel_of_lens(look.lens)
        way_px = abs(np.deg2rad(look.turn_deg)) * reach_px
        steps = min(max(int(np.ceil(way_px)), 1), MOST_BLUR_STEPS) if config.motion_blur else 1
        return (np.arange(steps, dtype=np.float64) + 0.5) / steps - 0.5

    def _view(self, setup: CameraSetup, look: Look, angle_rad: float) -> View:
        config, (top, left, height, width) = self.config, setup.region
        pixel = config.pixel_of_lens(look.lens)
        return View(
            shape=(height, width),
            angle_rad=angle_rad,
            pixel_um=pixel,
            centre_px=wobbled_centre(config, angle_rad, look.lens) - left + look.shift_um[0] / pixel,
            middle_px=config.detector_yx_px[0] // 2 - top + look.shift_um[1] / pixel,
        )

    def _detector(self, lens: int, setup: CameraSetup) -> Detector:
        key = (lens, setup.region, setup.dtype)
        if key not in self._detectors:
            config = self.config.model_copy(update={"dtype": setup.dtype})
            if len(self._detectors) >= 6:
                self._detectors.pop(next(iter(self._detectors)))
            self._detectors[key] = Detector(config, lens, setup.region)
        return self._detectors[key]
