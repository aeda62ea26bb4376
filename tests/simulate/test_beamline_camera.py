"""The simulated beamline without EPICS: the camera's thread, what leaves it, and the truth it writes."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulate.beamline_process import wait_until
from tomofly.simulate.beamline import BeamlineConfig, BeamlineTruth
from tomofly.simulate.beamline.beamline import Beamline, StartOptions
from tomofly.simulate.beamline.doings import roi_orders
from tomofly.simulate.beamline.faults import Wishes
from tomofly.simulate.beamline.ndarrays import CameraFrame
from tomofly.simulate.beamline.patterns import pattern_angles

CONFIG = BeamlineConfig(detector_yx_px=(18, 26), exposure_s=0.004)


class Sent:
    """A beamline whose frames are kept."""

    def __init__(self, options: StartOptions, config: BeamlineConfig = CONFIG) -> None:
        self.frames: list[CameraFrame] = []
        self.ids: list[int] = []
        self._lock = threading.Lock()
        self.line = Beamline(config, options, self._keep)
        self.line.start()

    def _keep(self, frame: CameraFrame, unique_id: int, codec: str) -> None:
        with self._lock:
            self.frames.append(frame)
            self.ids.append(unique_id)

    def wait_for(self, number: int) -> list[CameraFrame]:
        """So many frames, from the first on."""
        wait_until(lambda: len(self.frames) >= number)
        return self.frames[:number]


@pytest.fixture
def start() -> Iterator[Callable[..., Sent]]:
    begun: list[Sent] = []

    def begin(**options: Any) -> Sent:
        config = options.pop("config", CONFIG)
        begun.append(Sent(StartOptions(**({"rate_hz": 100.0} | options)), config))
        return begun[-1]

    yield begin
    for sent in begun:
        sent.line.end()


@pytest.mark.parametrize("pattern", ["golden", "interlaced"])
def test_a_pattern_with_stops_takes_its_angles_in_order(start: Callable[..., Sent], pattern: Any) -> None:
    sent = start(pattern=pattern)
    sent.line.scene.rotation.speed = 1e5
    sent.line.scene.rotation.acceleration = 1e8
    angles = [frame.attributes["RotationAngle"] for frame in sent.wait_for(12)]
    np.testing.assert_allclose(angles, pattern_angles(pattern, 180, 180.0)[:12], atol=1e-6)


def test_a_hundred_periods_later_the_pace_is_that_of_the_first(start: Callable[..., Sent]) -> None:
    begins = np.array([frame.began_at for frame in start().wait_for(100)])
    np.testing.assert_allclose((begins - begins[0]) / 0.01, ((begins - begins[0]) / 0.01).round(), atol=1e-3)


def test_a_series_can_be_one_frame(start: Callable[..., Sent]) -> None:
    sent = start(acquire=False)
    sent.line.camera.order(image_mode="Single")
    sent.line.acquire(True, new_ids=True)
    wait_until(lambda: not sent.line.camera.is_acquiring)
    assert sent.ids == [1]
    sent.line.acquire(True, new_ids=True)
    wait_until(lambda: len(sent.ids) == 2)
    assert sent.ids == [1, 1]
    assert [frame.number for frame in sent.frames] == [1, 2]


def test_the_roi_plugin_gives_means_of_bins(start: Callable[..., Sent]) -> None:
    sent = start()
    before = sent.wait_for(1)[0]
    orders = roi_orders(sent.line)
    orders["BinX"](2)
    orders["Scale"](4.0)
    binned = wait_until(lambda: next((f for f in sent.frames if f.attributes["Binning"] == 2), None))
    wait_until(lambda: sent.frames[-1].image.mean() < 1.3 * before.image.mean())
    assert binned.image.shape == (9, 13)
    assert sent.frames[-1].image.dtype == np.uint16
    orders["EnableCallbacks"](0)
    wait_until(lambda: sent.frames[-1].image.shape == (18, 26))


def test_losses_are_in_the_truth(start: Callable[..., Sent], tmp_path: Path) -> None:
    wishes = Wishes(drop="periodic", drop_period=5)
    sent = start(wishes=wishes, truth=tmp_path / "t.json", first_id=100)
    sent.wait_for(20)
    sent.line.end()
    truth = BeamlineTruth.from_json((tmp_path / "t.json").read_text())
    assert truth.dropped_ids == list(range(104, max(sent.ids) + 2, 5))[: len(truth.dropped_ids)]
    assert sorted(sent.ids + truth.dropped_ids) == list(
        range(100, 100 + len(sent.ids) + len(truth.dropped_ids))
    )


def test_the_crack_opens_when_it_is_told_to(start: Callable[..., Sent]) -> None:
    quiet = CONFIG.model_copy(update={"noise": False, "drift": 0.0, "bubble": False, "zingers_per_s": 0.0})
    config = quiet.model_copy(update={"crack_seconds": 0.01, "crack_opening": 0.1})
    sent = start(pattern="none", config=config)
    before = sent.wait_for(3)[-1].image.astype(float)
    sent.line.begin_event()
    wait_until(lambda: (sent.frames[-1].image - before).max() > 500)
    assert (sent.frames[-1].image - before).min() > -3


def test_a_camera_that_fails_says_so(start: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch) -> None:
    sent = start(acquire=False)
    sent.line.camera.order(roi_binning="two")
    sent.line.acquire(True)
    assert isinstance(wait_until(lambda: sent.line.camera.failure), TypeError)
