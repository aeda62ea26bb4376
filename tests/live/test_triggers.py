"""Triggers at work: processes, time limits, the journal, captures."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tomofly.live.triggers.evaluation import Evaluator
from tomofly.live.triggers.observation import Observation
from tomofly.live.triggers.service import TriggerService
from tomofly.live.triggers.settings import TriggerSettings
from tomofly.model import TomoflyError

PATIENCE_S = 60.0


def trigger(**more: Any) -> TriggerSettings:
    known: dict[str, Any] = {
        "name": "crack", "measure": {"kind": "region", "statistic": "maximum"}, "frames": 40, "pre": 10,
        "rule": {"threshold": 0.5, "consecutive": 1, "hold_off_s": 0}, "time_limit_s": 20,
    }  # fmt: skip
    return TriggerSettings.model_validate(known | more)


def misbehaving(fault: str, **more: Any) -> TriggerSettings:
    measure = {"kind": "plugin", "name": "bright_pixels", "options": {"above": 0.5, "fault": fault}}
    return trigger(measure=measure, **more)


def seen(value: float, number: int = 0) -> Observation:
    image = np.zeros((20, 30), dtype=np.float32)
    image[5:9, 6:12] = value
    return Observation({"slice_z": image}, {}, number, number + 9, 1_700_000_000.0 + number)


class Captures:
    """What was asked for; ``refuse`` makes it impossible."""

    def __init__(self) -> None:
        self.asked: list[tuple[TriggerSettings, str]] = []
        self.refuse = ""

    def __call__(self, settings: TriggerSettings, why: str) -> None:
        if self.refuse:
            raise TomoflyError(self.refuse)
        self.asked.append((settings, why))


@contextmanager
def service(folder: Path, captures: Captures, *triggers: TriggerSettings) -> Iterator[TriggerService]:
    made = TriggerService(triggers, captures, folder)
    made.start()
    try:
        yield made
    finally:
        made.close()


def lines(made: TriggerService) -> list[dict[str, Any]]:
    if not made.journal.path.exists():
        return []
    return [json.loads(line) for line in made.journal.path.read_text().splitlines()]


def wait_for(there: Callable[[], bool]) -> None:
    end, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not there():
        assert time.monotonic() < end, "it never came"
        pause.wait(0.02)


def shown(made: TriggerService, *observations: Observation) -> list[dict[str, Any]]:
    """Show observations one by one, each after the one before was judged; give the new lines."""
    before = len(lines(made))
    for number, each in enumerate(observations, before + 1):
        made.offer(each)
        wait_for(lambda number=number: len(lines(made)) >= number)  # type: ignore[misc]
    return lines(made)[before:]


def test_an_event_starts_one_capture_with_its_reason_and_its_picture(tmp_path: Path) -> None:
    captures = Captures()
    with service(tmp_path, captures, trigger()) as made:
        found = shown(made, seen(0.1), seen(0.9, 10), seen(0.9, 20), seen(0.0, 30))
        status = made.status()
    assert [line["verdict"] for line in found] == ["quiet", "fired", "waits to be armed again", "quiet"]
    ((settings, why),) = captures.asked
    assert (settings.frames, settings.pre) == (40, 10)
    assert why == "trigger crack: 0.9 is above 0.5"
    assert found[1]["first_frame"] == 10 and found[1]["last_frame"] == 19
    with Image.open(tmp_path / found[1]["picture"]) as picture:
        assert picture.size == (30, 20)
    assert status[0]["captures"] == 1 and status[0]["armed"]


def test_without_an_event_there_is_no_capture(tmp_path: Path) -> None:
    captures = Captures()
    with service(tmp_path, captures, trigger()) as made:
        shown(made, *[seen(0.3, n) for n in range(5)])
    assert not captures.asked


def test_a_dry_run_says_what_would_have_been_captured(tmp_path: Path) -> None:
    captures = Captures()
    rule = {"threshold": 0.5, "consecutive": 1, "dry_run": True}
    with service(tmp_path, captures, trigger(rule=rule)) as made:
        (found,) = shown(made, seen(0.9))
    assert found["verdict"] == "would have fired" and (tmp_path / found["picture"]).exists()
    assert not captures.asked


def test_a_refused_capture_is_written_down_and_tried_at_the_next_event(tmp_path: Path) -> None:
    captures = Captures()
    captures.refuse = "The disk is full"
    rule = {"threshold": 0.5, "consecutive": 1, "hold_off_s": 0, "budget": 1}
    with service(tmp_path, captures, trigger(rule=rule)) as made:
        (found,) = shown(made, seen(0.9))
        assert found["refused"] == "The disk is full."
        captures.refuse = ""
        shown(made, seen(0.9, 10))
    assert len(captures.asked) == 1


def test_a_spent_budget_can_be_granted_again(tmp_path: Path) -> None:
    captures = Captures()
    rule = {"threshold": 0.5, "consecutive": 1, "hold_off_s": 0, "budget": 1}
    with service(tmp_path, captures, trigger(rule=rule)) as made:
        found = shown(made, seen(0.9), seen(0.0, 1), seen(0.9, 2))
        assert found[-1]["verdict"] == "budget spent"
        made.grant("crack")
        shown(made, seen(0.9, 3))
        with pytest.raises(TomoflyError, match="There are: crack"):
            made.grant("crak")
    assert len(captures.asked) == 2


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [("hang", "took longer than 0.5 s and was ended"), ("die", "its process ended"),
     ("raise", "the measure is wrong"), ("look up", "KeyError: 'nothing'")],
)  # fmt: skip
def test_a_measure_that_hangs_dies_or_fails_costs_one_value(fault: str, trouble: str) -> None:
    evaluator = Evaluator(misbehaving(fault, time_limit_s=0.5))
    try:
        evaluator.start()
        failed = evaluator.evaluate(seen(0.9))
        assert trouble in failed.trouble and np.isnan(failed.value)
        again = evaluator.evaluate(seen(0.1))
        assert not again.trouble and again.value == 0.0
    finally:
        evaluator.close()


def test_one_trigger_that_cannot_work_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    captures = Captures()
    missing = trigger(name="missing", measure={"kind": "onnx", "model": str(tmp_path / "no.onnx")})
    with service(tmp_path, captures, missing, trigger()) as made:
        wait_for(lambda: bool(lines(made)))
        assert lines(made)[0]["verdict"] == "cannot work"
        assert "no.onnx" in lines(made)[0]["trouble"]
        shown(made, seen(0.9))
        states = {each["name"]: each["state"] for each in made.status()}
    assert states == {"missing": "cannot work", "crack": "fired"}
    assert len(captures.asked) == 1


def test_nobody_waits_for_a_trigger_that_gets_ready_neither_at_the_start_nor_at_the_end(
    tmp_path: Path,
) -> None:
    begun = time.monotonic()
    with service(tmp_path, Captures(), misbehaving("hang at the start")) as made:
        assert made.status()[0]["state"] == "gets ready"
    assert time.monotonic() - begun < PATIENCE_S / 2
    assert lines(made) == []


def test_two_triggers_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TomoflyError, match="same name"):
        TriggerService([trigger(), trigger()], Captures(), tmp_path)
