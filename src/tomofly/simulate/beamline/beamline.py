"""The beamline as one object: scene, camera, deliveries, and its truth on disk."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomofly.simulate.beamline.autopilot import Autopilot
from tomofly.simulate.beamline.camera import Camera, CameraOrders
from tomofly.simulate.beamline.codecs import CodecName
from tomofly.simulate.beamline.faults import Delivery, Wishes
from tomofly.simulate.beamline.ndarrays import CameraFrame
from tomofly.simulate.beamline.replay import RecordedScan, ReplaySource
from tomofly.simulate.beamline.scene import CameraSetup, Look, PhantomSource, Scene
from tomofly.simulate.beamline.settings import FULL_SCALE, BeamlineConfig, PatternName
from tomofly.simulate.beamline.truth import AngleRule, BeamlineTruth, beamline_truth

# Frames kept for a swap of two.
KEPT = 4
Send = Callable[[CameraFrame, int, CodecName], None]


@dataclass(frozen=True)
class StartOptions:
    """How a beamline starts. `speed_deg_s` none: half a turn in 360 frames, or a recording's own step."""

    rate_hz: float = 50.0
    pattern: PatternName = "continuous"
    speed_deg_s: float | None = None
    acquire: bool = True
    recorded: RecordedScan | None = None
    wishes: Wishes | None = None
    first_id: int = 1
    truth: Path | None = None


class Beamline:
    """Everything but EPICS. `send` is given each frame that leaves, its id and the codec."""

    def __init__(self, config: BeamlineConfig, options: StartOptions, send: Send) -> None:
        self.started_at = time.time()
        self.config, self._options, self._send = config, options, send
        self.phantom = PhantomSource(config, self.started_at)
        recorded = options.recorded
        source = self.phantom if recorded is None else ReplaySource(recorded, config.pixel_size_um)
        self.scene = Scene(source)
        self.delivery = Delivery(config.seed, options.first_id, options.wishes or Wishes())
        self.outside_frame_type: int | None = None
        self.own_frame_type = 3
        self.sending = True
        self.last_id = 0
        step = recorded.step_deg if recorded else 0.5
        speed = options.speed_deg_s or step * options.rate_hz
        self.autopilot = Autopilot(self.scene.rotation, options.pattern, speed)
        exposure = min(config.exposure_s, 1 / options.rate_hz)
        setup = CameraSetup((0, 0, *config.detector_yx_px), exposure, 1, config.dtype)
        orders = CameraOrders(setup, 1 / options.rate_hz)
        self.camera = Camera(
            self.scene, orders, self.autopilot, self.frame_type, self._leave,
            lambda: self.delivery.wishes.frozen,
        )  # fmt: skip
        self._kept: dict[int, CameraFrame] = {}
        self._truth_lock = threading.Lock()
        self._truth_said = (-1, 0.0)

    @property
    def acquires_at_start(self) -> bool:
        """Whether it takes frames without being told to."""
        return self._options.acquire

    def start(self) -> None:
        """Start the camera's thread, and acquire if asked to."""
        self.write_truth()
        self._warm_up()
        self.camera.start()
        if self._options.acquire:
            self.camera.acquire(True)

    def _warm_up(self) -> None:
        """Make one frame that nobody sees: the first takes longer than the others."""
        setup, now = self.camera.orders.setup, time.time()
        self.scene.source.picture(setup, self.scene.look(now, setup.exposure_s), now, 0)

    def end(self) -> None:
        """Stop the camera and write the truth a last time."""
        self.camera.end()
        self.write_truth()

    def frame_type(self, look: Look) -> int:
        """FrameType of a frame: told from outside, by the camera's own PV, or what is seen."""
        if self.outside_frame_type is not None:
            return self.outside_frame_type
        return look.kind if self.own_frame_type > 2 else self.own_frame_type

    def order_setup(self, **changes: object) -> None:
        """Change the camera's setup; a region is cut to the sensor."""
        setup = replace(self.camera.orders.setup, **changes)  # type: ignore[arg-type]
        height, width = self.config.detector_yx_px
        top, left, rows, columns = setup.region
        top, left = min(max(top, 0), height - 8), min(max(left, 0), width - 8)
        region = (top, left, min(max(rows, 8), height - top), min(max(columns, 8), width - left))
        self.camera.order(setup=replace(setup, region=region))

    def acquire(self, wanted: bool, *, new_ids: bool = False) -> None:
        """Begin or end a series, whose ids begin anew if asked to."""
        if wanted and new_ids and not self.camera.is_acquiring:
            self.delivery.restart_ids(self.camera.counts.number)
        self.camera.acquire(wanted)

    def fly(self, pattern: PatternName, speed_deg_s: float) -> None:
        """Change how the stage turns by itself."""
        self.autopilot.fly(pattern, speed_deg_s)
        self.autopilot.steer(time.time())
        self.camera.order()

    def release_rotation(self) -> None:
        """Leave the stage to whoever gave it an order."""
        if self.autopilot.pattern != "none":
            self.autopilot.let_go()
            self.camera.order()

    def begin_event(self) -> None:
        """Let the crack open now, and write so into the truth."""
        self.phantom.begin_event(time.time())
        self.write_truth()

    def event_begins_at(self) -> float | None:
        """POSIX time at which the crack begins to open."""
        begins = self.phantom.phantom.crack.begins_s
        return None if begins is None else self.started_at + begins

    def truth(self) -> BeamlineTruth:
        """What is true so far; a replayed scan's phantom and centre mean nothing."""
        pattern = self.autopilot.pattern
        rule = AngleRule(
            pattern=pattern, start_deg=0.0, span_deg=180.0, velocity_deg_s=self.autopilot.speed_deg_s
        )
        counts = {
            "dropped_ids": self.delivery.dropped_ids(),
            "skipped_frames": self.camera.counts.skipped,
        }
        truth = beamline_truth(self.config, self.phantom.phantom, self.started_at, rule)
        return truth.model_copy(update=counts)

    def write_truth(self) -> None:
        """Write the truth's file, if there is to be one."""
        if self._options.truth is None:
            return
        with self._truth_lock:
            self.truth().write(self._options.truth)

    def write_truth_if_changed(self) -> None:
        """Write it where frames were dropped or skipped since."""
        now = (len(self.delivery.dropped), float(self.camera.counts.skipped))
        if now != self._truth_said:
            self._truth_said = now
            self.write_truth()

    def _leave(self, frame: CameraFrame) -> None:
        """Let a frame go through what goes wrong on its way."""
        wishes = self.delivery.wishes
        if wishes.blank != "none":
            level = 0 if wishes.blank == "zero" else FULL_SCALE[frame.image.dtype.name]
            frame = replace(frame, image=np.full_like(frame.image, level))
        self._kept[frame.number] = frame
        for number in self.delivery.leaving(frame.number):
            if self.sending and number in self._kept:
                self.last_id = self.delivery.unique_id(number)
                self._send(self._kept[number], self.last_id, wishes.codec)
                self.delivery.sent += 1
        self._kept.pop(frame.number - KEPT, None)
