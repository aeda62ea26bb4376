"""What rules are given to look at: slices, the newest projection, and the numbers that come with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live.test_control_live import slices
from tomofly.live.calibration import CalibrationStore
from tomofly.live.control.triggers import TriggerControl
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.triggers.observation import Observation
from tomofly.live.triggers.settings import TriggerSettings

SHAPE = (5, 9)


class Capture:
    """Takes no request here."""


def rule(**measure: Any) -> TriggerSettings:
    return TriggerSettings.model_validate({"name": "rule", "measure": measure, "rule": {"threshold": 1.0}})


def frame(number: int, kind: FrameKind, level: int) -> Frame:
    image = np.full(SHAPE, level, np.uint16)
    return Frame(number, number, image, kind, 1.0 * number, 1e9 + number, 1e9 + number)


class Control:
    """A control whose observations are kept instead of measured."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *rules: TriggerSettings) -> None:
        self.seen: list[Observation] = []
        service = "tomofly.live.control.triggers.TriggerService"
        monkeypatch.setattr(f"{service}.start", lambda _: None)
        monkeypatch.setattr(f"{service}.offer", lambda _, seen: self.seen.append(seen))
        self.fields = CalibrationStore()
        self.values = PVValues("r:", STREAM_TABLE)
        self.control = TriggerControl(
            rules, self.values, Capture(), folder, self.fields.for_frame  # type: ignore[arg-type]
        )  # fmt: skip


def test_the_newest_projection_is_shown_as_absorption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Control(tmp_path, monkeypatch, rule(kind="region", source="projection"))
    assert made.control.sees_projections
    made.control.offer(slices())
    assert "projection" not in made.seen[-1].images
    for number, (kind, level) in enumerate(((FrameKind.DARK, 100), (FrameKind.FLAT, 1100))):
        made.fields.put(frame(number, kind, level))
    made.fields.close_run()
    for number, (kind, level) in enumerate(((FrameKind.PROJECTION, 600), (FrameKind.FLAT, 1100)), 2):
        made.control.take(frame(number, kind, level))
    made.control.offer(slices())
    shown = made.seen[-1].images["projection"]
    assert shown.shape == SHAPE
    assert np.allclose(shown, np.log(2), atol=1e-3)
    assert made.seen[-1].metrics == {}


def test_numbers_are_measured_only_for_rules_that_ask_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Control(tmp_path, monkeypatch, rule(kind="metric", name="sharpness_z"))
    assert not made.control.sees_projections
    made.control.offer(slices(latency_s=0.25))
    metrics = made.seen[-1].metrics
    assert {"sharpness_x", "sharpness_y", "sharpness_z", "noise_x", "noise_y", "noise_z"} <= set(metrics)
    assert (metrics["latency_s"], metrics["projections"]) == (0.25, 90.0)
    assert "centre_found" not in metrics


@pytest.mark.parametrize("change", [{"stage": "coarse"}, {"settled": 0.9}])
def test_outputs_that_mix_old_and_new_parameters_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    made = Control(tmp_path, monkeypatch, rule(kind="objects"))
    made.control.offer(slices(**change))
    made.values.set("TriggerArmed", 0)
    made.control.offer(slices())
    assert made.seen == []
