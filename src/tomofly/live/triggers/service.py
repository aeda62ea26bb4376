"""All triggers at work: each output is measured, judged, written down, and may start a capture."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tomofly.live.triggers.evaluation import Evaluation, Evaluator
from tomofly.live.triggers.journal import Journal
from tomofly.live.triggers.observation import Observation
from tomofly.live.triggers.rules import RuleState, Verdict, judge, refused
from tomofly.live.triggers.settings import MetricMeasure, TriggerSettings
from tomofly.model import TomoflyError

LOG = logging.getLogger(__name__)

StartCapture = Callable[[TriggerSettings, str], None]
"""Starts a capture for a trigger, with the reason in words; raises TomoflyError where it cannot."""

PICTURED = frozenset({Verdict.FIRED, Verdict.DRY, Verdict.SPENT})


@dataclass
class _Trigger:
    settings: TriggerSettings
    evaluator: Evaluator
    state: RuleState = field(default_factory=RuleState)
    verdict: Verdict | None = None
    value: float = float("nan")
    seconds: float = 0.0
    trouble: str = ""
    ready: bool = False
    out_of_work: bool = False

    def state_in_words(self) -> str:
        """Say what it does: its last verdict, or why there is none."""
        if self.out_of_work:
            return "cannot work"
        return str(self.verdict or ("waits for slices" if self.ready else "gets ready"))


def _evaluated(seen: Observation, trigger: _Trigger) -> Evaluation:
    return trigger.evaluator.evaluate(seen)


class TriggerService:
    """Looks at the newest output whenever it has done with the one before; what comes between is left out."""

    def __init__(self, triggers: Sequence[TriggerSettings], capture: StartCapture, folder: Path) -> None:
        names = [each.name for each in triggers]
        if len(set(names)) < len(names):
            raise TomoflyError("Two triggers have the same name", "Give each its own")
        self._triggers = [_Trigger(each, Evaluator(each)) for each in triggers if each.enabled]
        self._capture = capture
        self.journal = Journal(folder)
        self._newest: Observation | None = None
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="triggers", daemon=True)

    def start(self) -> None:
        """Begin: all measures are got ready, which nobody has to wait for, then outputs are looked at.

        A trigger that cannot work is said, and left out.
        """
        self._thread.start()

    def _get_ready(self, trigger: _Trigger) -> None:
        try:
            trigger.evaluator.start()
        except TomoflyError as error:
            if not self._ending:
                trigger.trouble, trigger.out_of_work = str(error), True
                LOG.warning("%s", error)
                self.journal.write(trigger.settings.name, "cannot work", time.time(), trouble=str(error))
        else:
            trigger.ready = True

    def offer(self, seen: Observation) -> None:
        """Give the newest output; returns at once."""
        with self._changed:
            self._newest = seen
            self._changed.notify()

    def close(self) -> None:
        """End all measures."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        for trigger in self._triggers:  # first, as the thread may be waiting for one
            trigger.evaluator.close()
        if self._thread.is_alive():
            self._thread.join()

    def grant(self, name: str) -> None:
        """Give a trigger its whole budget again, and arm it. Raises TomoflyError for an unknown one."""
        for trigger in self._triggers:
            if trigger.settings.name == name:
                trigger.state = RuleState(fired_at=trigger.state.fired_at)
                return
        known = ", ".join(each.settings.name for each in self._triggers) or "none"
        raise TomoflyError(f"There is no trigger '{name}'", f"There are: {known}")

    def status(self) -> list[dict[str, Any]]:
        """Say of each trigger what it measured last, what came of it, and what it has spent."""
        return [
            {
                "name": each.settings.name,
                "state": each.state_in_words(),
                "value": each.value,
                "threshold": each.settings.rule.threshold,
                "armed": each.state.armed,
                "captures": each.state.spent,
                "budget": each.settings.rule.budget,
                "dry_run": each.settings.rule.dry_run,
                "seconds": each.seconds,
                "trouble": each.trouble,
            }
            for each in self._triggers
        ]

    def _work(self) -> None:
        with ThreadPoolExecutor(max(1, len(self._triggers))) as pool:
            list(pool.map(self._get_ready, self._triggers))
            while (seen := self._next()) is not None:
                working = [each for each in self._triggers if not each.out_of_work]
                found = pool.map(partial(_evaluated, seen), working)
                for trigger, evaluation in zip(working, found, strict=True):
                    self._decide(trigger, seen, evaluation)

    def _next(self) -> Observation | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending or self._newest is not None)
            seen, self._newest = self._newest, None
            return None if self._ending else seen

    def _decide(self, trigger: _Trigger, seen: Observation, found: Evaluation) -> None:
        before = trigger.verdict
        rule = trigger.settings.rule
        trigger.state, verdict = judge(rule, trigger.state, found.value, seen.at)
        trigger.value, trigger.seconds, trigger.trouble = found.value, found.seconds, found.trouble
        trigger.verdict = verdict
        more: dict[str, Any] = {
            "value": found.value, "threshold": rule.threshold, "first_frame": seen.first_frame,
            "last_frame": seen.last_frame, "seconds": round(found.seconds, 4),
        }  # fmt: skip
        if found.trouble:
            more["trouble"] = found.trouble
        if verdict in PICTURED and verdict is not before:
            more["picture"] = self._picture(trigger, seen, found)
        if verdict.starts_capture:
            more |= self._captured(trigger, found.value)
        self.journal.write(trigger.settings.name, verdict, seen.at, **more)

    def _captured(self, trigger: _Trigger, value: float) -> dict[str, Any]:
        """Start the capture; one that cannot be made is said, and costs no budget."""
        rule = trigger.settings.rule
        why = f"trigger {trigger.settings.name}: {value:.6g} is {rule.fires} {rule.threshold:g}"
        try:
            self._capture(trigger.settings, why)
        except TomoflyError as error:
            trigger.state, trigger.trouble = refused(trigger.state), str(error)
            LOG.warning("%s, but there is no capture: %s", why, error)
            return {"refused": str(error)}
        LOG.info("%s: capture of %d frames", why, trigger.settings.frames)
        return {"frames": trigger.settings.frames, "pre": trigger.settings.pre}

    def _picture(self, trigger: _Trigger, seen: Observation, found: Evaluation) -> str:
        measure = trigger.settings.measure
        if isinstance(measure, MetricMeasure):
            return ""
        image = seen.images[measure.source]
        try:
            path = self.journal.picture(trigger.settings.name, seen.at, image, measure.region, found.mask)
        except OSError as error:
            LOG.warning("The picture of a decision cannot be written: %s", error)
            return ""
        return path.name
