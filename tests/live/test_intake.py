"""Frames over PVAccess: none lost unaccounted, whatever the camera, the server or a consumer does."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from p4p.nt import NTScalar
from p4p.server.thread import SharedPV

from tests.live.conftest import Loopback, Serve
from tests.live.pva_camera import CHANNEL, PvaCamera, until
from tomofly.formats.ntndarray import make_ndarray
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.intake import Intake


@pytest.fixture
def camera() -> Iterator[PvaCamera]:
    with PvaCamera() as camera:
        yield camera


@pytest.fixture
def intake(camera: PvaCamera) -> Iterator[Intake]:
    with Intake(CHANNEL, configuration=camera.configuration) as intake:
        until(lambda: intake.status().connected)
        yield intake


def collect(intake: Intake, depth: int = 64) -> list[Frame]:
    seen: list[Frame] = []
    intake.attach("list", seen.append, depth=depth)
    return seen


def test_frames_come_as_they_were_sent(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    image = np.arange(15, dtype=np.uint16).reshape(3, 5)
    camera.send(1, image, FrameType=2, RotationAngle=0.5, ExposureTime=0.01, LensSelect=2)
    until(lambda: seen)
    frame = seen[0]
    assert np.array_equal(frame.image, image)
    assert (frame.number, frame.kind, frame.angle_deg, frame.lens) == (1, FrameKind.PROJECTION, 0.5, 2)
    assert frame.attributes["ExposureTime"] == 0.01
    status = intake.status()
    assert (status.shape_yx, status.dtype, status.problem, dict(status.flags)) == ((3, 5), "uint16", "", {})


def test_an_empty_channel_sends_no_frame(camera: PvaCamera, intake: Intake) -> None:
    assert intake.losses.account().received == 0
    camera.send(7)
    until(lambda: intake.losses.account().received)
    account = intake.losses.account()
    assert (account.first, account.last, account.missing) == (7, 7, 0)


def test_gaps_duplicates_and_late_frames_are_told_apart(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    for unique_id in (1, 2, 3, 3, 7, 6, 8):
        camera.send(unique_id)
    until(lambda: len(seen) == 6)
    account = intake.losses.account()
    assert [frame.number for frame in seen] == [1, 2, 3, 7, 6, 8]
    assert (account.received, account.missing, account.duplicates, account.late) == (6, 2, 1, 1)


def test_ids_of_sixteen_bits_wrap(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    for n in range(65_533, 65_540):
        camera.send(n % 65_536, taken_at=1e9 + n)
    until(lambda: len(seen) == 7)
    assert [frame.number for frame in seen] == list(range(65_533, 65_540))
    assert intake.losses.account().missing == 0


def test_size_and_type_may_change_in_mid_stream(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    forms = [((3, 5), np.uint16), ((3, 5), np.uint8), ((7, 11), np.uint8), ((7, 11), np.float32)]
    for n, (shape, dtype) in enumerate(forms):
        camera.send(n, np.full(shape, n, dtype))
    until(lambda: len(seen) == 4)
    assert [(frame.image.shape, frame.image.dtype) for frame in seen] == forms
    assert intake.status().changes == 3
    assert intake.status().shape_yx == (7, 11)


def test_the_rate_is_measured_and_followed(camera: PvaCamera, intake: Intake) -> None:
    for n in range(40):
        camera.send(n)
    until(lambda: intake.losses.account().received == 40)
    fast = intake.status().frames_per_s
    assert fast > 20
    until(lambda: intake.status().frames_per_s < fast / 4)


def test_an_unknown_codec_is_counted_and_named_and_the_next_frame_is_well(
    camera: PvaCamera, intake: Intake
) -> None:
    seen = collect(intake)
    strange = make_ndarray(np.zeros((3, 5), np.uint8), unique_id=1, time=1e9)
    strange.codec = {"name": "wavelets", "parameters": ("i", 5)}
    camera.pv.post(strange)
    until(lambda: intake.losses.account().lost)
    assert "wavelets" in intake.status().problem
    camera.pv.post(make_ndarray(np.zeros((3, 5, 3), np.uint8), unique_id=2, time=1e9 + 1))
    until(lambda: intake.losses.account().lost == {"unreadable": 2})
    assert "3 dimensions" in intake.status().problem
    camera.send(3)
    until(lambda: seen)
    account = intake.losses.account()
    assert (account.received, account.missing, len(seen)) == (3, 0, 1)
    assert intake.status().problem == ""


def test_a_slow_consumer_loses_counted_frames_and_stalls_nobody(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    held, go = [], threading.Event()

    def dawdle(frame: Frame) -> None:
        go.wait(30)
        held.append(frame.number)

    intake.attach("slow", dawdle, depth=3)
    for n in range(20):
        camera.send(n)
    until(lambda: len(seen) == 20)
    lost = intake.losses.account().lost["slow queue full"]
    assert lost >= 16
    go.set()
    until(lambda: len(held) == 20 - lost)


def test_a_consumer_that_fails_is_counted_and_goes_on(camera: PvaCamera, intake: Intake) -> None:
    seen: list[int] = []

    def stumble(frame: Frame) -> None:
        if frame.number == 1:
            raise RuntimeError("no such frame")
        seen.append(frame.number)

    consumer = intake.attach("stumbling", stumble)
    for n in range(3):
        camera.send(n)
    until(lambda: seen == [0, 2])
    assert intake.losses.account().lost == {"stumbling failed": 1}
    intake.detach(consumer)
    camera.send(3)
    until(lambda: intake.losses.account().received == 4)
    assert seen == [0, 2]


def test_what_overruns_the_queue_of_the_library_is_counted_as_missing(camera: PvaCamera) -> None:
    with Intake(CHANNEL, configuration=camera.configuration, queue_frames=4) as intake:
        until(lambda: intake.status().connected)
        camera.send(0)
        until(lambda: intake.losses.account().received == 1)
        hold, held = threading.Event(), threading.Event()
        reading = intake.reader.read

        def wait(*arguments: object) -> object:
            held.set()
            hold.wait(30)
            return reading(*arguments)  # type: ignore[arg-type]

        intake.reader.read = wait  # type: ignore[assignment, method-assign]
        camera.send(1)
        assert held.wait(20)
        for n in range(2, 60):
            camera.send(n)
        camera.send(60)
        hold.set()
        until(lambda: intake.losses.account().last == 60)
        account = intake.losses.account()
        assert account.missing > 0
        assert account.received + account.missing == 61


def test_a_server_that_restarts_is_found_again_and_its_ids_go_on(camera: PvaCamera, intake: Intake) -> None:
    seen = collect(intake)
    for n in (500, 501):
        camera.send(n)
    until(lambda: len(seen) == 2)
    camera.close()
    until(lambda: not intake.status().connected)
    with PvaCamera(camera.configuration) as again:
        until(lambda: intake.status().connected)
        for n in (1, 2, 3):
            again.send(n, taken_at=2e9 + n)
        until(lambda: len(seen) == 5)
    assert [frame.number for frame in seen] == [500, 501, 502, 503, 504]
    account = intake.losses.account()
    assert (account.restarts, account.missing) == (1, 0)


def test_a_server_gone_while_its_camera_went_on_leaves_a_counted_gap(
    camera: PvaCamera, intake: Intake
) -> None:
    seen = collect(intake)
    camera.send(10)
    until(lambda: len(seen) == 1)
    camera.close()
    until(lambda: not intake.status().connected)
    with PvaCamera(camera.configuration) as again:
        until(lambda: intake.status().connected)
        again.send(6010)  # a minute at 100 frames/s
        until(lambda: len(seen) == 2)
    assert intake.losses.account().missing == 5999


def test_a_camera_that_is_killed_and_started_again_elsewhere_is_found(serve: Serve, epics: Loopback) -> None:
    first = serve("-m", "tests.live.pva_camera", "5000")
    with Intake(CHANNEL) as intake:
        seen = collect(intake)
        until(lambda: len(seen) > 20)
        first.process.kill()
        until(lambda: not intake.status().connected)
        before = intake.losses.account()
        serve("-m", "tests.live.pva_camera", "1")
        until(lambda: len(seen) > before.received + 20, 30)
        account = intake.losses.account()
    assert account.restarts == 1
    numbers = [frame.number for frame in seen]
    assert numbers == sorted(set(numbers))
    assert account.received + account.missing == account.last - account.first + 1


def test_a_channel_of_something_else_is_told() -> None:
    other = SharedPV(nt=NTScalar("d"), initial=4.0)
    with (
        PvaCamera(**{"cam:Gain": other}) as camera,
        Intake("cam:Gain", configuration=camera.configuration) as intake,
    ):
        until(lambda: intake.status().problem)
        assert "NTScalar" in intake.status().problem
