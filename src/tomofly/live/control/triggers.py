"""Triggers in the live program: they see each output, and their captures go the way of all."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tomofly.live.control.capture import CaptureControl
from tomofly.live.frames import Frame
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.preparation import FieldsOf, Preparation, why_not
from tomofly.live.records.values import PVValues
from tomofly.live.triggers.observation import FloatImage, Observation
from tomofly.live.triggers.service import TriggerService
from tomofly.live.triggers.settings import MetricMeasure, TriggerSettings

AS_IT_IS = LiveParameters.model_validate({})
"""Projections are looked at without anything taken out of them."""


class TriggerControl:
    """Hands outputs to the triggers while they are armed; what they do becomes PVs.

    `take` and `offer` are for any thread. ``fields_of`` gives the dark and flat of a frame.
    """

    def __init__(
        self, rules: Sequence[TriggerSettings], values: PVValues, capture: CaptureControl, folder: Path,
        fields_of: FieldsOf,
    ) -> None:  # fmt: skip
        self._values, self._capture = values, capture
        self._reason = ""
        measures = [rule.measure for rule in rules if rule.enabled]
        self.sees_projections = any(getattr(each, "source", "") == "projection" for each in measures)
        self._sees_metrics = any(isinstance(each, MetricMeasure) for each in measures)
        self._preparation = Preparation(fields_of, threads=1)
        self._newest: Frame | None = None
        self._service = TriggerService(rules, self._start, folder)
        self._service.start()

    def _start(self, rule: TriggerSettings, reason: str) -> None:
        self._capture.request(rule.frames, rule.pre, reason)
        self._reason = reason

    def take(self, frame: Frame) -> None:
        """Keep the newest projection, for rules that look at projections."""
        if why_not(frame) in (None, "no_angle"):
            self._newest = frame

    def offer(self, slices: LiveSlices) -> None:
        """Look at an output; coarse ones and those that still mix old parameters are left out."""
        if self._values.text("TriggerArmed") != "Yes" or slices.stage == "coarse" or slices.settled < 1:
            return
        images = {"slice_x": slices.x, "slice_y": slices.y, "slice_z": slices.z}
        self._service.offer(
            Observation(
                images=images | self._projection(),
                metrics=metrics_of(slices) if self._sees_metrics else {},
                first_frame=slices.oldest,
                last_frame=slices.number,
                at=time.time(),
            )
        )

    def _projection(self) -> dict[str, FloatImage]:
        """Give the absorption in the newest projection, where there are dark and flat for it."""
        if self._newest is None:
            return {}
        prepared, _ = self._preparation.prepare([self._newest], AS_IT_IS)
        return {"projection": prepared[0][1]} if prepared else {}

    def publish(self) -> None:
        """Show what the triggers do."""
        armed = self._values.text("TriggerArmed") == "Yes"
        states = "; ".join(f"{each['name']}: {each['state']}" for each in self.status())
        self._values.set("TriggerState", states if armed else "off")
        self._values.set("TriggerReason", self._reason)

    def status(self) -> list[dict[str, Any]]:
        """Say of each trigger how it stands."""
        return self._service.status()

    def close(self) -> None:
        """End them."""
        self._service.close()


def metrics_of(slices: LiveSlices) -> dict[str, float]:
    """Give the numbers that come with an output, by the names that rules use, as far as they are known."""
    found = slices.found_centre
    known = {
        "latency_s": slices.latency_s, "projections": float(slices.projections),
        "coverage_deg": slices.coverage_deg, "centre": slices.centre, "angle_deg": slices.angle_deg,
    }  # fmt: skip
    if found is not None:
        known["centre_found"] = found.centre
    for axis, quality in slices.quality().items():
        known |= {f"sharpness_{axis}": quality.sharpness, f"noise_{axis}": quality.noise}
    return known
