"""Collection drives a beamline: what it says of a frame is true, and the sample always comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.live.beamline_double import ROTATION, SAMPLE_OUT_MM, SAMPLE_X, BeamlineDouble
from tomofly.live.collection.angles import Sweep
from tomofly.live.collection.beamline import device_names
from tomofly.live.collection.driver import Collection
from tomofly.live.collection.machine import STANDING, Phase, Task, Wish, decide
from tomofly.live.frames import FrameKind
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.settings import checked_settings

SETTINGS = checked_settings(
    {
        "camera": {"prefix": "cam:", "lens": "lens"},
        "rotation": {"record": ROTATION, "tolerance": 0.001},
        "sample_x": {"record": SAMPLE_X},
        "shutter": {"open": ["open", "1"], "close": ["close", "1"], "status": "shutter"},
    }
)
LIMIT_S = 10.0


class Bench:
    """A collection on a beamline in memory."""

    def __init__(self, mark: Path | None = None, **values: Any) -> None:
        self.values = PVValues("s:", SCAN_TABLE)
        for name, value in device_names(SETTINGS).items():
            self.values.set(name, value)
        given = {
            "ExposureTime": 0.002, "RotationStep": 0.2, "NumAngles": 50, "NumDarkFields": 3,
            "NumFlatFields": 4,
            "SampleOutX": SAMPLE_OUT_MM, "StreamMotorTimeout": 0.5, "StreamShutterTimeout": 0.5,
            "StreamFrameTimeout": 0.5,
        }  # fmt: skip
        for name, value in (given | values).items():
            self.values.set(name, value)
        self.capturing = False
        self.double = BeamlineDouble()
        self.collection = Collection(
            SETTINGS, self.values, self.double, self.double, lambda: self.capturing, mark
        )
        self.double.on_frame = self.collection.note_frame
        self.collection.connect()
        self.notices: list[str] = []
        self.collection.notice = self.notices.append  # type: ignore[method-assign]

    def put(self, name: str, value: Any) -> None:
        """Put a value as a client does."""
        assert self.values.take(name, value)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.002)

    async def at(self, phase: Phase) -> None:
        await self.until(lambda: self.collection.at is phase)

    async def streaming(self) -> None:
        self.put("StartScan", 1)
        await self.at(Phase.STREAMING)

    async def more_frames(self, count: int) -> None:
        enough = len(self.double.frames) + count
        await self.until(lambda: len(self.double.frames) >= enough)

    def counted(self, kind: FrameKind) -> int:
        return sum(frame.said is kind for frame in self.double.frames)

    def said_truly(self) -> bool:
        """Tell whether every frame that was to be used showed what was said."""
        return all(f.truth is f.said for f in self.double.frames if f.said is not FrameKind.OTHER)

    def is_safe(self) -> bool:
        """Tell whether nothing moves, no beam comes through and the camera rests."""
        resting = all(self.double.value(f"{name}.DMOV") == 1 for name in self.double.motors)
        return resting and not self.double.values["shutter"] and not self.double.values["cam:cam1:Acquire"]

    def sample_is_in(self) -> bool:
        return abs(self.double.value(f"{SAMPLE_X}.RBV")) < 0.01


def on_bench(test: Callable[[Bench], Awaitable[None]], **values: Any) -> Bench:
    """Run a test in a loop of its own, and bring the beamline to rest."""

    async def run() -> Bench:
        bench = Bench(**values)
        try:
            await test(bench)
        finally:
            await bench.collection.close()
            await bench.double.close()
        return bench

    return asyncio.run(run())


def test_from_start_to_end_every_frame_is_what_it_is_said_to_be() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        await bench.more_frames(30)
        assert bench.values["StartScan"] == 1
        bench.put("StartScan", 0)
        await bench.at(Phase.IDLE)

    bench = on_bench(scenario)
    assert bench.counted(FrameKind.DARK) >= 3
    assert bench.counted(FrameKind.FLAT) >= 4
    assert bench.counted(FrameKind.PROJECTION) >= 20
    assert bench.said_truly()
    assert bench.is_safe()
    assert bench.values["StartScan"] == 0
    assert bench.notices == []


@pytest.mark.parametrize("way", ["Yes", "Home"])
def test_a_stage_that_has_turned_on_and_on_is_not_wound_back(way: str) -> None:
    """Neither at the end nor at the next start: it goes to the nearest angle that is the same."""

    async def scenario(bench: Bench) -> None:
        bench.double.motors[ROTATION].position = 123_400.0
        for _ in range(2):
            await bench.streaming()
            bench.put("StartScan", 0)
            await bench.at(Phase.IDLE)

    bench = on_bench(scenario, ReturnRotation=way, RotationStart=20.0)
    at = bench.double.value(f"{ROTATION}.RBV")
    assert abs(at - 123_400) < 400
    assert at % 360 == pytest.approx(20 if way == "Yes" else 0, abs=0.01)
    assert bench.notices == []


@pytest.mark.parametrize(("turned", "at"), [(200.0, 0.0), (3700.0, 3600.0)])
def test_a_stage_of_a_limited_range_stays_in_it(turned: float, at: float) -> None:
    async def scenario(bench: Bench) -> None:
        bench.double.motors[ROTATION].position = turned
        await bench.streaming()
        await bench.more_frames(60)

    bench = on_bench(scenario, StreamScanType="backforth", ReturnRotation="No")
    assert at - 0.1 <= bench.double.value(f"{ROTATION}.RBV") <= at + 10
    angles, _ = bench.double.angles_told[-1]
    assert angles.angles_deg.min() == pytest.approx(0)
    assert angles.angles_deg.max() == pytest.approx(0.2 * 49)


@pytest.mark.parametrize("what", ["Dark", "Flat"])
def test_a_retake_while_streaming(what: str) -> None:
    kind = FrameKind.DARK if what == "Dark" else FrameKind.FLAT

    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        before = bench.counted(kind)
        bench.put(f"StreamRetake{what}", 1)
        assert bench.values.text("StreamMessage") == f"Capturing {what.lower()} fields"
        await bench.at(Phase.STREAMING)
        assert bench.values[f"StreamRetake{what}"] == 0
        assert bench.values.text("StreamMessage") == "Done"
        assert bench.counted(kind) - before >= 3
        assert bench.double.value(f"{ROTATION}.DMOV") == 0  # it turned all the while
        await bench.more_frames(5)
        assert bench.double.frames[-1].said is FrameKind.PROJECTION

    bench = on_bench(scenario)
    assert bench.said_truly()
    assert bench.sample_is_in()


def test_a_second_retake_is_refused_with_a_message() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.put("StreamRetakeFlat", 1)
        bench.put("StreamRetakeDark", 1)
        assert bench.values["StreamRetakeDark"] == 0
        assert bench.values["StreamRetakeFlat"] == 1
        assert "retake flat" in bench.notices[-1]
        await bench.at(Phase.STREAMING)

    on_bench(scenario)


def test_no_retake_while_a_capture_is_under_way() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.capturing = True
        bench.put("StreamRetakeFlat", 1)
        assert bench.collection.at is Phase.STREAMING
        assert "capture is under way" in bench.notices[-1]
        assert bench.values["StreamRetakeFlat"] == 0

    on_bench(scenario)


def test_the_sample_comes_back_when_a_retake_is_aborted() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.put("StreamRetakeFlat", 1)
        await bench.until(lambda: not bench.sample_is_in())
        bench.put("AbortScan", 1)
        await bench.at(Phase.IDLE)

    bench = on_bench(scenario)
    assert bench.sample_is_in()
    assert bench.is_safe()
    assert bench.said_truly()
    assert [bench.values[name] for name in ("StartScan", "AbortScan", "StreamRetakeFlat")] == [0, 0, 0]


def test_the_sample_comes_back_when_the_camera_stops_during_a_retake() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.put("StreamRetakeFlat", 1)
        await bench.until(lambda: not bench.sample_is_in())
        bench.double.values["cam:cam1:Acquire"] = 0
        await bench.at(Phase.STREAMING)
        assert bench.sample_is_in()
        assert "No frame has come" in bench.notices[0]
        assert bench.values["StreamRetakeFlat"] == 0

    on_bench(scenario, StreamFrameTimeout=0.1)


def test_a_motor_that_never_arrives_gives_a_message_and_a_safe_end() -> None:
    async def scenario(bench: Bench) -> None:
        bench.double.motors[SAMPLE_X].stuck = True
        bench.put("StartScan", 1)
        await bench.at(Phase.FAULT)
        assert "The sample's x has not reached 5" in " ".join(bench.notices)
        assert bench.is_safe()
        assert bench.values["StartScan"] == 0
        bench.double.motors[SAMPLE_X].stuck = False
        await bench.streaming()

    on_bench(scenario, StreamMotorTimeout=0.1)


def test_a_shutter_that_does_not_answer_gives_a_message() -> None:
    async def scenario(bench: Bench) -> None:
        bench.double.gone.add("close")
        bench.put("StartScan", 1)
        await bench.at(Phase.FAULT)
        assert "close does not answer" in bench.notices[0]

    on_bench(scenario)


def test_what_a_killed_program_left_moving_is_told_and_brought_to_rest(tmp_path: Path) -> None:
    mark = tmp_path / "collecting"

    async def killed(bench: Bench) -> None:
        await bench.streaming()
        assert mark.exists()

    async def started_again(bench: Bench) -> None:
        assert bench.collection.at is Phase.FAULT
        assert "killed while it collected" in bench.collection.fault
        bench.put("AbortScan", 1)
        await bench.at(Phase.IDLE)
        assert not mark.exists()

    on_bench(killed, mark=mark)
    assert not mark.exists()  # an orderly end
    mark.touch()
    assert on_bench(started_again, mark=mark).is_safe()


def test_the_fault_is_what_stopped_collection_and_not_what_was_said_later() -> None:
    async def scenario(bench: Bench) -> None:
        bench.double.gone.add("close")
        bench.put("StartScan", 1)
        await bench.at(Phase.FAULT)
        bench.collection.notice("something else")
        assert "close does not answer" in bench.collection.fault
        bench.double.gone.clear()
        bench.put("StartScan", 1)
        assert bench.collection.fault == ""

    on_bench(scenario)


def test_abort_in_any_phase_ends_safely() -> None:
    for phase in (Phase.STARTING, Phase.DARK, Phase.FLAT):

        async def scenario(bench: Bench, phase: Phase = phase) -> None:
            bench.put("StartScan", 1)
            await bench.at(phase)
            bench.put("AbortScan", 1)
            await bench.at(Phase.IDLE)

        bench = on_bench(scenario)
        assert bench.is_safe()
        assert bench.sample_is_in()


def test_a_step_of_nothing_is_refused_in_words() -> None:
    async def scenario(bench: Bench) -> None:
        bench.put("RotationStep", 0.0)
        bench.put("StartScan", 1)
        await bench.at(Phase.FAULT)

    bench = on_bench(scenario)
    assert any("RotationStep is 0" in text for text in bench.notices)
    assert bench.is_safe()


def test_exposure_and_step_change_while_turning() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.put("ExposureTime", 0.004)
        bench.put("RotationStep", 0.3)
        bench.put("StreamSync", 1)
        await bench.at(Phase.STREAMING)
        assert bench.values["StreamSync"] == 0
        await bench.more_frames(10)
        assert bench.double.motors[ROTATION].speed == pytest.approx(75)
        assert bench.double.frames[-1].exposure_s == 0.004
        angles, first = bench.double.angles_told[-1]
        assert bench.values["FirstProjid"] == first
        assert angles.angles_deg[1] - angles.angles_deg[0] == pytest.approx(0.3, abs=1e-4)
        by_number = {frame.number: frame for frame in bench.double.frames}
        assert by_number[first].exposure_s == 0.004

    on_bench(scenario)


def test_back_and_forth_and_its_change_of_rate() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        await bench.until(lambda: bench.double.motors[ROTATION].speed < 0)
        bench.put("RotationStep", 0.4)
        bench.put("StreamSync", 1)
        assert bench.collection.at is Phase.RATE
        await bench.at(Phase.STREAMING)
        await bench.until(lambda: bench.double.motors[ROTATION].speed == pytest.approx(200))
        angles, _ = bench.double.angles_told[-1]
        assert len(angles.angles_deg) == 100
        assert angles.angles_deg.max() == pytest.approx(0.4 * 49, abs=1e-4)
        turned = [f.angle_deg for f in bench.double.frames if f.said is FrameKind.PROJECTION]
        assert min(turned) > -0.5
        assert max(turned) < 0.4 * 49 + 0.5

    bench = on_bench(scenario, StreamScanType="backforth")
    assert bench.said_truly()


def test_flat_fields_have_an_exposure_of_their_own() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        await bench.more_frames(3)

    bench = on_bench(scenario, DifferentFlatExposure="Different", FlatExposureTime=0.003)
    assert {f.exposure_s for f in bench.double.frames if f.said is FrameKind.FLAT} == {0.003}
    assert {f.exposure_s for f in bench.double.frames if f.said is FrameKind.PROJECTION} == {0.002}


def test_testing_leaves_the_shutter_alone() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()

    bench = on_bench(scenario, Testing="Yes")
    assert not [name for name, _ in bench.double.puts if name in ("open", "close")]


def test_modes_say_when_fields_are_taken() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        assert bench.counted(FrameKind.DARK) == bench.counted(FrameKind.FLAT) == 0
        bench.put("StartScan", 0)
        await bench.at(Phase.IDLE)

    bench = on_bench(scenario, DarkFieldMode="End", FlatFieldMode="None")
    assert bench.counted(FrameKind.DARK) >= 3
    assert bench.counted(FrameKind.FLAT) == 0
    assert bench.said_truly()


def test_the_sample_moves_on_wish_only_while_nothing_streams() -> None:
    async def scenario(bench: Bench) -> None:
        bench.put("MoveSampleOut", 1)
        await bench.until(lambda: bench.values["MoveSampleOut"] == 0)
        assert bench.double.value(f"{SAMPLE_X}.RBV") == pytest.approx(SAMPLE_OUT_MM)
        await bench.streaming()
        bench.put("MoveSampleOut", 1)
        assert bench.values["MoveSampleOut"] == 0
        assert "move the sample out" in bench.notices[-1]

    bench = on_bench(scenario)
    assert bench.sample_is_in()


def test_a_camera_that_stops_by_itself_is_started_again() -> None:
    async def scenario(bench: Bench) -> None:
        looking = asyncio.create_task(bench.collection.look_after())
        await bench.streaming()
        bench.double.values["cam:cam1:Acquire"] = 0
        await bench.until(lambda: bool(bench.double.values["cam:cam1:Acquire"]))
        assert "started again" in bench.notices[-1]
        looking.cancel()

    on_bench(scenario, StreamFrameTimeout=0.1)


def test_frames_behind_a_shutter_that_somebody_closed_are_not_used() -> None:
    async def scenario(bench: Bench) -> None:
        looking = asyncio.create_task(bench.collection.look_after())
        await bench.streaming()
        bench.double.values["shutter"] = 0
        await bench.until(lambda: bench.double.said is FrameKind.OTHER)
        assert "closed by somebody else" in bench.notices[-1]
        bench.double.values["shutter"] = 1
        await bench.until(lambda: bench.double.said is FrameKind.PROJECTION)
        assert "opened again" in bench.notices[-1]
        looking.cancel()

    on_bench(scenario)


def test_the_lens_is_followed() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.until(lambda: bench.double.lenses == [0])
        await bench.double.put("lens", 2)
        await bench.double.put("lens", 2)
        assert bench.values["StreamLens"] == 2
        assert bench.double.lenses == [0, 2]

    on_bench(scenario)


def test_the_sample_leaves_at_the_angle_given() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.streaming()
        bench.put("StreamRetakeFlat", 1)
        await bench.until(lambda: bench.double.said is FrameKind.FLAT)
        assert bench.double.value(f"{ROTATION}.RBV") == pytest.approx(12.5)
        await bench.at(Phase.STREAMING)
        assert bench.double.value(f"{ROTATION}.DMOV") == 0

    on_bench(scenario, SampleOutAngle=12.5, SampleOutAngleEnable="Yes")


# Without any beamline.


@given(st.lists(st.sampled_from(Wish), max_size=12), st.booleans())
def test_the_machine_never_begins_two_things(wishes: list[Wish], capturing: bool) -> None:
    """Until a task has ended nothing else begins, except an end."""
    phase = Phase.IDLE
    for wish in wishes:
        decision = decide(phase, wish, capturing=capturing)
        if phase not in STANDING and phase is not Phase.STREAMING:
            assert decision.task in (None, Task.STOP)
        assert bool(decision.refusal) <= (decision.task is None)
        assert decision.task is None or decision.phase is not phase or decision.task is Task.STOP
        phase = decision.phase


def test_phases_are_the_words_of_their_pv() -> None:
    pv = next(pv for pv in SCAN_TABLE if pv.name == "StreamPhase")
    assert set(pv.choices) == {str(phase) for phase in Phase}


@given(
    st.floats(-360, 360),
    st.floats(0.01, 5),
    st.integers(2, 400),
    st.booleans(),
    st.integers(0, 10**6),
    st.data(),
)
def test_a_renewed_list_gives_the_same_angles(
    start: float, step: float, count: int, forth: bool, first: int, data: st.DataObject
) -> None:
    """Whatever list holds a frame, it has the same angle, apart from whole turns."""
    sweep = Sweep(start, step, count, forth, first)
    current = sweep.angles(first)
    number = first
    for _ in range(4):
        number += data.draw(st.integers(0, max(count // 4, 1)))
        renewed = sweep.renewed(current, number)
        if renewed is None:
            continue
        for shared in range(renewed.first, min(current.first + len(current.angles_deg), number + 1)):
            if shared >= current.first:
                turns = (renewed.angle_of(shared) - current.angle_of(shared)) / 360
                assert abs(turns - round(turns)) < 1e-4
        current = renewed
        assert len(current.angles_deg) == sweep.period
        assert not np.isnan(current.angle_of(number))


def test_angles_go_back_and_forth() -> None:
    angles = Sweep(10, 0.5, 3, True, 7).angles(7).angles_deg
    np.testing.assert_allclose(angles, [10, 10.5, 11, 11, 10.5, 10])
