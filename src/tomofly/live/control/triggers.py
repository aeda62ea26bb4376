"""Triggers in the live program: they see each output, and their captures go the way of all."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tomofly.live.control.capture import CaptureControl
from tomofly.live.live_slices import LiveSlices
from tomofly.live.records.values import PVValues
from tomofly.live.triggers.observation import Observation
from tomofly.live.triggers.service import TriggerService
from tomofly.live.triggers.settings import TriggerSettings


class TriggerControl:
    """Hands outputs to the triggers while they are armed; what they do becomes PVs."""

    def __init__(
        self, rules: Sequence[TriggerSettings], values: PVValues, capture: CaptureControl, folder: Path
    ) -> None:
        self._values, self._capture = values, capture
        self._reason = ""
        self._service = TriggerService(rules, self._start, folder)
        self._service.start()

    def _start(self, rule: TriggerSettings, reason: str) -> None:
        self._capture.request(rule.frames, rule.pre, reason)
        self._reason = reason

    def offer(self, slices: LiveSlices) -> None:
        """Look at an output; coarse ones and those that still mix old parameters are left out."""
        if self._values.text("TriggerArmed") != "Yes" or slices.stage == "coarse" or slices.settled < 1:
            return
        self._service.offer(
            Observation(
                images={"slice_x": slices.x, "slice_y": slices.y, "slice_z": slices.z},
                first_frame=slices.oldest,
                last_frame=slices.number,
                at=time.time(),
            )
        )

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
