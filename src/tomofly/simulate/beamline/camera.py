"""The camera: exposes as it is told, paced by absolute time, and hands frames on."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.autopilot import Autopilot
from tomofly.simulate.beamline.ndarrays import Attribute, CameraFrame
from tomofly.simulate.beamline.scene import CameraSetup, Look, Scene
from tomofly.simulate.beamline.schedule import Crossings, Periodic, Schedule
from tomofly.simulate.beamline.settings import FULL_SCALE

TriggerMode = Literal["Internal", "External", "Software"]
TRIGGER_MODES: tuple[TriggerMode, ...] = ("Internal", "External", "Software")
ImageMode = Literal["Single", "Multiple", "Continuous"]
IMAGE_MODES: tuple[ImageMode, ...] = ("Single", "Multiple", "Continuous")
# A frame that is later than this and than two periods is not made at all.
MOST_LATE_S = 1.0
# While nothing is due, orders are looked at this often.
IDLE_S = 0.05
# The part of an exposure after which the next may be looked for; short of 1 for periods equal to it.
NEARLY = 0.999


@dataclass(frozen=True)
class CameraOrders:
    """All that a camera can be told; replaced as a whole."""

    setup: CameraSetup
    period_s: float
    image_mode: ImageMode = "Continuous"
    images: int = 1
    trigger: TriggerMode = "Internal"
    trigger_start_deg: float = 0.0
    trigger_step_deg: float = 1.0
    callbacks: bool = True
    roi_binning: int = 1
    roi_scale: float = 1.0


@dataclass
class CameraCounts:
    """What has happened; written by the camera's thread alone. `late_ms`: of the last frame."""

    number: int = 0
    of_series: int = 0
    skipped: int = 0
    late_ms: float = 0.0
    busy_s: float = 0.0
    began_at: list[float] = field(default_factory=list)

    def rate_hz(self) -> float:
        """Frames per second over the last frames."""
        times = self.began_at[-50:]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def note(self, began_at: float) -> None:
        """Count one frame."""
        self.number += 1
        self.of_series += 1
        self.began_at.append(began_at)
        del self.began_at[:-50]


class Camera:
    """A thread that exposes. `frame_type` gives the FrameType attribute; `deliver` takes each frame."""

    def __init__(
        self,
        scene: Scene,
        orders: CameraOrders,
        autopilot: Autopilot,
        frame_type: Callable[[Look], int],
        deliver: Callable[[CameraFrame], None],
        is_frozen: Callable[[], bool] = lambda: False,
    ) -> None:
        self.scene = scene
        self.counts = CameraCounts()
        self.autopilot = autopilot
        self.failure: Exception | None = None
        self._orders = orders
        self._frame_type, self._deliver, self._is_frozen = frame_type, deliver, is_frozen
        self._changed = threading.Condition()
        self._acquiring = self._ending = False
        self._software_triggers = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @property
    def orders(self) -> CameraOrders:
        """What it is told now."""
        return self._orders

    @property
    def is_acquiring(self) -> bool:
        """Whether it takes frames, or waits for a trigger."""
        return self._acquiring

    def order(self, **changes: object) -> None:
        """Change orders; they hold from the next exposure on."""
        with self._changed:
            self._orders = replace(self._orders, **changes)  # type: ignore[arg-type]
            self._changed.notify_all()

    def acquire(self, wanted: bool) -> None:
        """Begin a series, or end it after the running exposure."""
        with self._changed:
            if wanted and not self._acquiring:
                self.counts.of_series = 0
                self._software_triggers = 0
            self._acquiring = wanted
            self._changed.notify_all()

    def trigger(self) -> None:
        """Ask for one exposure, in the trigger mode Software."""
        with self._changed:
            self._software_triggers += 1
            self._changed.notify_all()

    def start(self) -> None:
        """Begin to listen to orders."""
        self._thread.start()

    def end(self) -> None:
        """End after the running frame; waits for it."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            while not self._ending:
                if self._acquiring:
                    self._series()
                else:
                    self._wait(IDLE_S)
        except Exception as error:
            # Whoever runs the beamline ends it and says so: a camera without a thread would seem to hang.
            self.failure = error

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if not self._ending:
                self._changed.wait(seconds)

    def _series(self) -> None:
        """Expose until told to stop, or until all images are there."""
        last = time.time()
        orders, schedule = self._orders, self._schedule(last)
        while self._acquiring and not self._ending:
            if self._orders is not orders:
                orders, schedule = self._orders, self._schedule(last)
            if self._is_frozen():
                self._wait(IDLE_S)
                last = time.time()
                schedule = self._schedule(last)
                continue
            begin = self._next_begin(schedule, last, orders)
            if begin is None or not self._until(begin + orders.setup.exposure_s, orders):
                continue
            self._expose(begin, orders)
            last = begin + NEARLY * orders.setup.exposure_s
            if self.counts.of_series >= self._wanted(orders):
                self._acquiring = False

    def _schedule(self, after_s: float) -> Schedule | None:
        """How the next exposures are timed. None: by software triggers."""
        orders, exposure = self._orders, self._orders.setup.exposure_s
        stepping = self.autopilot.schedule()
        if orders.trigger == "Software":
            return None
        if orders.trigger == "External":
            return Crossings(self.scene.rotation, orders.trigger_start_deg, orders.trigger_step_deg, exposure)
        if stepping is not None:
            return stepping
        return Periodic(after_s + max(orders.period_s - exposure, 0.0), max(orders.period_s, exposure))

    def _next_begin(self, schedule: Schedule | None, last: float, orders: CameraOrders) -> float | None:
        """The next begin that can be kept; those that cannot are counted. None: wait, look again."""
        self.autopilot.steer(time.time())
        if schedule is None:
            return self._triggered(last)
        begin = schedule.next_begin(last)
        allowed = max(MOST_LATE_S, 2 * orders.period_s) + orders.setup.exposure_s
        while begin is not None and begin + allowed < time.time():
            self.counts.skipped += 1
            begin = schedule.next_begin(begin + NEARLY * orders.setup.exposure_s)
        if begin is None:
            self._wait(IDLE_S)
        return begin

    def _triggered(self, last: float) -> float | None:
        if not self._software_triggers:
            self._wait(IDLE_S)
            return None
        self._software_triggers -= 1
        return max(time.time(), last)

    def _until(self, moment: float, orders: CameraOrders) -> bool:
        """Wait; False where orders change, or the series or the program ends meanwhile."""
        while True:
            left = moment - time.time()
            if self._ending or not self._acquiring or self._orders is not orders:
                return False
            if left <= 0:
                return True
            # A way ordered in mid-wait changes when the stage passes a place.
            self._wait(left if orders.trigger == "Internal" else min(left, IDLE_S))

    @staticmethod
    def _wanted(orders: CameraOrders) -> float:
        return {"Single": 1, "Multiple": orders.images}.get(orders.image_mode, math.inf)

    def _expose(self, begin: float, orders: CameraOrders) -> None:
        setup = orders.setup
        busy = time.thread_time()
        look = self.scene.look(begin, setup.exposure_s)
        middle = begin + setup.exposure_s / 2
        whole, angle = self.scene.source.picture(setup, look, middle, self.counts.number + 1)
        image = _by_roi(whole, orders)
        binning = setup.binning * orders.roi_binning
        attributes: dict[str, Attribute] = {
            "FrameType": self._frame_type(look),
            "RotationAngle": float(angle),
            "ExposureTime": float(setup.exposure_s),
            "LensSelect": look.lens,
            "SampleMoving": int(look.sample_moving),
            "ShutterOpen": int(look.shutter >= 1),
            "Binning": binning,
            "ColorMode": 0,
        }
        self.counts.note(begin)
        offset = setup.region[0], setup.region[1]
        frame = CameraFrame(self.counts.number, image, begin, attributes, binning, offset)
        if orders.callbacks:
            self._deliver(frame)
        self.counts.late_ms = 1000 * (time.time() - begin - setup.exposure_s)
        self.counts.busy_s += time.thread_time() - busy


def _by_roi(image: NDArray[np.generic], orders: CameraOrders) -> NDArray[np.generic]:
    """What the ROI plugin makes of a frame: sums over its bins, divided by its scale."""
    if orders.roi_binning == 1:
        return image
    size = orders.roi_binning
    rows, columns = image.shape[0] // size, image.shape[1] // size
    bins = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    sums = bins.sum(axis=(1, 3), dtype=np.float32) / max(orders.roi_scale, 1e-9)
    largest = FULL_SCALE[image.dtype.name] if image.dtype.kind == "u" else np.inf
    binned: NDArray[np.generic] = np.minimum(sums, largest).astype(image.dtype)
    return binned
