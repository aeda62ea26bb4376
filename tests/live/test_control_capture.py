"""The PVs of capture: what is refused before anything changes, and what is told of an earlier run."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomofly.live.capture.recovery import Recovered
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.control.capture import CaptureControl
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.values import PVValues


def with_control(folder: Path, work: Callable[[CaptureControl, PVValues], None]) -> PVValues:
    """Run some work on the PVs of a capture that goes to `folder`."""

    async def run() -> PVValues:
        values = PVValues("s:", SCAN_TABLE)
        values.on_refusal(values.notice)
        control = CaptureControl(
            values, lambda where, base: CaptureService(CaptureSettings(where, base)).start(), folder
        )
        control.connect()
        try:
            work(control, values)
        finally:
            control.close()
        return values

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("FilePath", "{folder}/a-file/below", "FilePath: The folder {folder}/a-file/below cannot be made"),
        ("FileName", "../other", "FileName: '../other' cannot begin the name of a file"),
        ("FileName", "", "cannot begin"),
    ],
)
def test_what_no_capture_can_have_is_refused_at_once(tmp_path: Path, name: str, value: str, why: str) -> None:
    (tmp_path / "a-file").touch()

    def work(_: CaptureControl, values: PVValues) -> None:
        before = values[name]
        assert not values.take(name, value.format(folder=tmp_path))
        assert values[name] == before

    values = with_control(tmp_path, work)
    assert why.format(folder=tmp_path) in values.text("StreamNotice")


def test_another_folder_and_name_are_taken(tmp_path: Path) -> None:
    def work(control: CaptureControl, values: PVValues) -> None:
        assert values.take("FilePath", str(tmp_path / "new"))
        assert values.take("FileName", "rock")
        assert control.folder == tmp_path / "new"

    assert with_control(tmp_path, work).whole("FilePathExists") == 1


def test_a_pause_does_not_count_as_the_time_between_frames(tmp_path: Path) -> None:
    def work(control: CaptureControl, values: PVValues) -> None:
        for number in range(30):
            at = 0.1 * number + (100 if number else 0)
            control.take(Frame(number, number, np.zeros((4, 5)), FrameKind.PROJECTION, 0.0, at, at))
        control.publish()

    values = with_control(tmp_path, work)
    assert values.number("StreamRingSeconds") == pytest.approx(0.1 * values.whole("StreamPreCounted"))


def test_a_refused_capture_is_told_by_its_own_reason(tmp_path: Path) -> None:
    def work(control: CaptureControl, values: PVValues) -> None:
        values.set("StreamNumCapture", 0)
        values.take("StreamCapture", 1)
        values.notice("something else")
        assert control.problem == "A capture of no frames. Set StreamNumCapture."

    assert with_control(tmp_path, work).text("StreamCaptureState") == "Failed"


def test_what_became_of_captures_that_were_cut_off_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "scan_003.h5.part"
    told: list[str] = []

    def work(control: CaptureControl, values: PVValues) -> None:
        monkeypatch.setattr(values, "notice", told.append)
        control._service.recovered = (
            Recovered(part, tmp_path / "scan_003.h5", 375),
            Recovered(tmp_path / "scan_004.h5.part", None, 0),
        )
        control.publish()
        control.publish()

    with_control(tmp_path, work)
    assert told == [
        "scan_003.h5: a capture that was cut off is whole again, with 375 frames",
        "scan_004.h5.part: a capture that was cut off held no frame, and is removed",
    ]
