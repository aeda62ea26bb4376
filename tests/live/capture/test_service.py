"""Captures on request: contiguous, whole or not there at all, and never in the way of the camera."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live.capture.stream import FRAME_BYTES, SHAPE, fact, frame, numbers_in, send
from tests.live.pva_camera import until
from tomofly.formats.data_exchange.writing import ScanWriter
from tomofly.formats.scan import open_rows, read_scan
from tomofly.live.calibration import CalibrationStore
from tomofly.live.capture.request import CaptureRequest, CaptureState, Ending
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.frames import FrameKind
from tomofly.live.losses import LossCounter
from tomofly.model.errors import BadInput

SECONDS = 30


def plain(folder: Path, **more: Any) -> CaptureSettings:
    return CaptureSettings(folder, **{"ring_bytes": 50 * FRAME_BYTES, "reserve_bytes": 0, **more})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[CaptureService]:
    with CaptureService(plain(tmp_path)) as service:
        yield service


def test_a_capture_holds_what_was_before_and_what_follows_without_a_gap(service: CaptureService) -> None:
    send(service, range(100))
    ticket = service.request(CaptureRequest(20, 30, "trigger"))
    send(service, range(100, 150))
    assert ticket.wait(SECONDS)
    assert (ticket.state, ticket.ending, ticket.lost, ticket.missing) == (
        CaptureState.DONE, Ending.COMPLETE, 0, 0,
    )  # fmt: skip
    assert numbers_in(ticket.path) == list(range(70, 120))
    with h5py.File(ticket.path) as file:
        assert np.array_equal(file["/exchange/theta"], np.arange(70, 120) / 4)
        assert np.array_equal(file["/defaults/NDArrayUniqueId"], np.arange(70, 120))
        assert np.allclose(file["/defaults/NDArrayTimeStamp"], 1.7e9 + np.arange(70, 120) / 100)
    assert fact(ticket.path, "reason") == "trigger"
    assert fact(ticket.path, "frames_before_request") == 30
    assert fact(ticket.path, "ended") == "complete"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 20), st.lists(st.integers(1, 12), max_size=3), st.integers(1, 9))
def test_wherever_the_request_falls_no_frame_is_missing_or_double(
    tmp_path_factory: pytest.TempPathFactory, sent: int, before: int, later: list[int], frames: int
) -> None:
    folder = tmp_path_factory.mktemp("captures")
    with CaptureService(plain(folder, at_once=9)) as service:
        tickets = []
        for more in [sent, *later]:
            start = sum(later[: len(tickets) - 1]) + sent if tickets else 0
            send(service, range(start, start + more))
            tickets.append((start + more, service.request(CaptureRequest(frames, before))))
        end = sum(later) + sent
        send(service, range(end, end + frames))
        for at, ticket in tickets:
            assert ticket.wait(SECONDS)
            assert numbers_in(ticket.path) == list(range(max(at - before, 0), at + frames))


def test_frames_pass_while_requests_come_from_another_thread(service: CaptureService) -> None:
    tickets = []

    def ask() -> None:
        tickets.extend(service.request(CaptureRequest(40, 25)) for _ in range(3))

    asking = threading.Thread(target=ask)
    send(service, range(60))
    asking.start()
    send(service, range(60, 500))
    asking.join()
    send(service, range(500, 600))
    for ticket in tickets:
        assert ticket.wait(SECONDS)
        numbers = numbers_in(ticket.path)
        assert numbers == list(range(numbers[0], numbers[0] + 65))


def test_it_says_what_it_does_in_the_words_of_tomoscan(
    service: CaptureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing = threading.Semaphore(0), ScanWriter.append
    monkeypatch.setattr(ScanWriter, "append", lambda *a: (go.acquire(timeout=20), writing(*a)))
    assert service.message() == "Done"
    send(service, range(3))
    ticket = service.request(CaptureRequest(2, 3))
    assert service.message() == "Capturing circular buffer"
    send(service, range(3, 4))
    go.release(3)
    until(lambda: service.message() == "Capturing projections")
    send(service, range(4, 5))
    go.release(2)
    assert ticket.wait(SECONDS)
    until(lambda: service.message() == "Done")
    assert [kept.path for kept in service.tickets] == [ticket.path]


def test_only_projections_are_captured(service: CaptureService) -> None:
    ticket = service.request(CaptureRequest(4))
    send(service, range(2))
    send(service, range(2, 6), kind=FrameKind.FLAT)
    send(service, range(6, 7), kind=FrameKind.OTHER)
    send(service, range(7, 9))
    assert ticket.wait(SECONDS)
    assert numbers_in(ticket.path) == [0, 1, 7, 8]
    assert ticket.missing == 0


def test_frames_that_never_came_are_counted_in_the_file(service: CaptureService) -> None:
    ticket = service.request(CaptureRequest(6))
    send(service, [5, 6, 10, 9, 11, 12])
    assert ticket.wait(SECONDS)
    assert ticket.missing == 2
    assert fact(ticket.path, "frames_missing") == 2
    assert numbers_in(ticket.path) == [5, 6, 10, 9, 11, 12]


def test_frames_missing_in_the_ring_are_counted_too(service: CaptureService) -> None:
    send(service, [1, 2, 9, 10])
    send(service, [11], kind=FrameKind.FLAT)
    send(service, [14, 13, 16])
    ticket = service.request(CaptureRequest(2, 5))
    send(service, [17, 19])
    assert ticket.wait(SECONDS)
    assert numbers_in(ticket.path) == [9, 10, 14, 13, 16, 17, 19]
    assert ticket.missing == 3  # 12, 15 and 18


def test_darks_and_flats_of_the_right_epoch_go_along(tmp_path: Path) -> None:
    store = CalibrationStore()
    with CaptureService(plain(tmp_path), calibration=store) as service:
        for start, level in ((0, 1000), (100, 2000)):
            for n in range(start, start + 4):
                store.put(frame(n, FrameKind.DARK))
            for n in range(start + level, start + level + 3):
                store.put(frame(n, FrameKind.FLAT))
            store.close_run()
        send(service, range(1500, 1510))
        early = service.request(CaptureRequest(0, 5))
        send(service, range(2500, 2510))
        late = service.request(CaptureRequest(0, 5))
        assert early.wait(SECONDS)
        assert late.wait(SECONDS)
    for ticket, dark, flat in ((early, 100, 1000), (late, 100, 2100)):
        with h5py.File(ticket.path) as file:
            assert np.array_equal(file["/exchange/data_dark"][0], frame(dark).image)
            assert np.array_equal(file["/exchange/data_white"][2], frame(flat + 2).image)
            assert file["/exchange/data_white"].dtype == np.uint16
            assert np.allclose(file["/exchange/theta_white"], np.arange(flat, flat + 3) / 4)
            assert file["/process/acquisition/flat_fields/num_flat_fields"][0] == 3
        assert fact(ticket.path, "flat_valid_from") == flat


def test_flats_taken_during_the_capture_serve_where_there_were_none(tmp_path: Path) -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.full(SHAPE, 3.6), 0)
    with CaptureService(plain(tmp_path), calibration=store) as service:
        ticket = service.request(CaptureRequest(3))
        send(service, range(2))
        until(lambda: ticket.written == 2)
        store.add_mean(FrameKind.FLAT, np.full(SHAPE, 900.4), 2)
        send(service, range(3, 4))
        assert ticket.wait(SECONDS)
    assert ticket.problem == ""
    with h5py.File(ticket.path) as file:
        assert file["/exchange/data_dark"][0, 0, 0] == 4
        assert file["/exchange/data_white"][0, 0, 0] == 900


def test_a_capture_without_darks_and_flats_says_so(tmp_path: Path) -> None:
    with CaptureService(plain(tmp_path), calibration=CalibrationStore()) as service:
        ticket = service.request(CaptureRequest(1))
        send(service, range(1))
        assert ticket.wait(SECONDS)
    assert ticket.problem == "no darks and no flats known"


def test_what_frames_say_counts_more_than_what_is_told_of_them(tmp_path: Path) -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.full(SHAPE, 3), 0)
    told = {
        "exposure_s": 9.0,
        "lens": 7,
        "darks": 20,
        "angles": 1500,
        "rotation_step_deg": 9.0,
        "user": "Ada",
    }
    with CaptureService(plain(tmp_path), calibration=store, facts=lambda: told) as service:
        ticket = service.request(CaptureRequest(3))
        send(service, range(3), exposure_s=0.01, lens=1)
        assert ticket.wait(SECONDS)
    expected = {
        "measurement/instrument/detector/exposure_time": 0.01,
        "measurement/instrument/detection_system/objective/lens_select": 1,
        "process/acquisition/dark_fields/number": 1, "process/acquisition/rotation/num_angles": 3,
        "process/acquisition/rotation/rotation_step": 0.25, "measurement/sample/experimenter/name": b"Ada",
    }  # fmt: skip
    with h5py.File(ticket.path) as file:
        assert {path: file[path][0] for path in expected} == expected


def test_the_projects_own_reader_reads_it(tmp_path: Path) -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.full(SHAPE, 3), 0)
    store.add_mean(FrameKind.FLAT, np.full(SHAPE, 900), 0)
    facts = {"pixel_size_um": 0.69, "energy_kev": 25.0}
    with CaptureService(plain(tmp_path), calibration=store, facts=lambda: facts) as service:
        ticket = service.request(CaptureRequest(9))
        send(service, range(9), exposure_s=0.01, lens=1)
        assert ticket.wait(SECONDS)
    scan = read_scan(ticket.path)
    assert scan.layout == "Data Exchange"
    assert np.array_equal(scan.angles_deg, np.arange(9) / 4)
    assert (scan.pixel_size_um, scan.energy_kev, scan.exposure_s) == (0.69, 25.0, 0.01)
    assert scan.flat_scale == 1
    assert not scan.notes
    assert scan.darks is not None
    assert scan.flats is not None
    with open_rows(scan) as rows:
        read = rows.projections(0, SHAPE[0])
        assert np.array_equal(read, np.stack([frame(n).image for n in range(9)]))
        assert (rows.frames(scan.darks, 0, 2) == 3).all()
        assert (rows.frames(scan.flats, 0, 2) == 900).all()


def test_a_camera_that_changes_ends_the_capture_with_what_it_has(service: CaptureService) -> None:
    changes: list[dict[str, Any]] = [{"shape": (19, 13)}, {"dtype": np.uint8}, {"lens": 2}]
    for n, change in enumerate(changes):
        start = 100 * n
        send(service, range(start, start + 3))
        ticket = service.request(CaptureRequest(50, 2))
        send(service, range(start + 3, start + 6))
        send(service, range(start + 6, start + 9), **change)
        assert ticket.wait(SECONDS)
        assert (ticket.state, ticket.ending) == (CaptureState.DONE, Ending.CHANGED)
        assert numbers_in(ticket.path) == list(range(start + 1, start + 6))
        assert fact(ticket.path, "ended") == "the frames changed in size, type or lens"


def test_a_stopped_capture_keeps_what_it_has(service: CaptureService) -> None:
    ticket = service.request(CaptureRequest(1000))
    send(service, range(7))
    service.stop(ticket)
    assert ticket.wait(SECONDS)
    assert (ticket.state, ticket.ending) == (CaptureState.DONE, Ending.STOPPED)
    assert numbers_in(ticket.path) == list(range(7))
    empty = service.request(CaptureRequest(1000))
    service.stop()
    assert empty.wait(SECONDS)
    assert (empty.state, empty.problem) == (CaptureState.FAILED, "no frame came")
    assert [path.name for path in ticket.path.parent.iterdir()] == [ticket.path.name]


def test_closing_ends_captures_with_what_they_have(tmp_path: Path) -> None:
    with CaptureService(plain(tmp_path)) as service:
        ticket = service.request(CaptureRequest(1000))
        send(service, range(5))
    assert ticket.ending is Ending.CLOSED
    assert numbers_in(ticket.path) == list(range(5))


def test_nothing_has_its_final_name_before_it_is_whole(service: CaptureService) -> None:
    ticket = service.request(CaptureRequest(10))
    send(service, range(9))
    until(lambda: ticket.written == 9)
    assert [path.name for path in ticket.path.parent.iterdir()] == ["capture_001.h5.part"]
    send(service, range(9, 10))
    assert ticket.wait(SECONDS)
    assert [path.name for path in ticket.path.parent.iterdir()] == ["capture_001.h5"]


def test_names_go_on_where_others_are(service: CaptureService) -> None:
    folder = service.settings.folder
    (folder / "capture_041.h5").write_bytes(b"")
    (folder / "capture_7x.h5").write_bytes(b"")
    first, second = service.request(CaptureRequest(1)), service.request(CaptureRequest(1))
    assert (first.path.name, second.path.name) == ("capture_042.h5", "capture_043.h5")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\nb", "x" * 300])
def test_a_name_that_is_none_is_refused(service: CaptureService, name: str) -> None:
    with pytest.raises(BadInput, match="no name for a file"):
        service.request(CaptureRequest(1, name=name))


def test_a_file_that_is_there_is_overwritten_only_where_that_is_allowed(service: CaptureService) -> None:
    old = service.settings.folder / "tooth.h5"
    old.write_bytes(b"old")
    with pytest.raises(BadInput, match=r"tooth\.h5 already"):
        service.request(CaptureRequest(1, name="tooth"))
    ticket = service.request(CaptureRequest(1, name="tooth.h5", overwrite=True))
    with pytest.raises(BadInput, match="already"):
        service.request(CaptureRequest(1, name="tooth", overwrite=True))
    assert old.read_bytes() == b"old"
    send(service, range(1))
    assert ticket.wait(SECONDS)
    assert numbers_in(old) == [0]


def test_a_name_that_somebody_takes_meanwhile_costs_no_frame(service: CaptureService) -> None:
    ticket = service.request(CaptureRequest(2, name="tooth"))
    (service.settings.folder / "tooth.h5").write_bytes(b"somebody's")
    send(service, range(2))
    assert ticket.wait(SECONDS)
    assert ticket.path.name == "tooth_001.h5"
    assert numbers_in(ticket.path) == [0, 1]
    assert (service.settings.folder / "tooth.h5").read_bytes() == b"somebody's"


def test_only_so_many_captures_at_once(tmp_path: Path) -> None:
    with CaptureService(plain(tmp_path, at_once=2)) as service:
        for _ in range(2):
            service.request(CaptureRequest(5))
        with pytest.raises(BadInput, match="2 captures are under way"):
            service.request(CaptureRequest(5))
        assert len(service.active) == 2


def test_a_writer_that_cannot_keep_up_loses_counted_frames_and_stalls_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing = threading.Event(), ScanWriter.append
    monkeypatch.setattr(ScanWriter, "append", lambda *a: (go.wait(20), writing(*a)))
    losses = LossCounter()
    settings = plain(tmp_path, queue_bytes=6 * FRAME_BYTES)
    with CaptureService(settings, losses=losses) as service:
        send(service, range(10))
        ticket = service.request(CaptureRequest(10, 5))
        send(service, range(10, 100))  # comes back at once, though nothing is being written
        assert ticket.lost == 84
        assert losses.account().lost == {"capture queue full": 84}
        go.set()
        until(lambda: ticket.written == 11)
        send(service, range(100, 104))
        assert ticket.wait(SECONDS)
    assert numbers_in(ticket.path) == [*range(5, 16), *range(100, 104)]
    assert fact(ticket.path, "frames_lost") == 84


def test_a_capture_for_which_there_is_no_room_is_refused(tmp_path: Path) -> None:
    with CaptureService(
        plain(tmp_path, reserve_bytes=1000), free=lambda _: 1000 + 9 * FRAME_BYTES
    ) as service:
        send(service, range(5))
        with pytest.raises(BadInput, match="may be used"):
            service.request(CaptureRequest(5, 5))
        assert list(tmp_path.iterdir()) == []
        service.request(CaptureRequest(4, 5))


def test_a_disk_that_fills_up_ends_the_capture_with_what_it_has(tmp_path: Path) -> None:
    room = [10**9]
    with CaptureService(plain(tmp_path, reserve_bytes=10**6), free=lambda _: room[0]) as service:
        send(service, range(5))
        ticket = service.request(CaptureRequest(500, 5))
        send(service, range(5, 20))
        until(lambda: ticket.written == 20)
        room[0] = 10**5
        until(lambda: ticket.ended)
    assert (ticket.state, ticket.ending) == (CaptureState.DONE, Ending.NO_SPACE)
    assert numbers_in(ticket.path) == list(range(20))
    assert fact(ticket.path, "ended") == "the disk was nearly full"


def test_a_disk_that_fails_leaves_what_was_written_to_the_next_start(
    service: CaptureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = ScanWriter.append

    def fail(writer: ScanWriter, frame: Any) -> None:
        if frame.number == 8:
            writer.flush()
            raise OSError(5, "Input/output error")
        writing(writer, frame)

    monkeypatch.setattr(ScanWriter, "append", fail)
    ticket = service.request(CaptureRequest(20))
    send(service, range(12))
    assert ticket.wait(SECONDS)
    assert (ticket.state, ticket.ending) == (CaptureState.FAILED, Ending.DISK_FAILED)
    assert "Input/output error" in ticket.problem
    assert not ticket.path.exists()
    monkeypatch.undo()
    again = service.request(CaptureRequest(1))
    send(service, range(12, 13))
    assert again.wait(SECONDS)
    assert again.state is CaptureState.DONE
    assert numbers_in(again.path) == [12]


@pytest.mark.parametrize(("frames", "before"), [(0, 0), (-1, 5), (5, -1)])
def test_a_capture_of_nothing_is_refused(frames: int, before: int) -> None:
    with pytest.raises(ValueError, match="a capture of"):
        CaptureRequest(frames, before)


def test_another_folder_leaves_the_ring_as_it_is(service: CaptureService, tmp_path: Path) -> None:
    send(service, range(40))
    service.move(tmp_path / "another")
    send(service, range(40, 60))
    ticket = service.request(CaptureRequest(5, 30, "request"))
    with pytest.raises(BadInput, match="under way"):
        service.move(tmp_path / "third")
    send(service, range(60, 70))
    assert ticket.wait(SECONDS)
    assert ticket.path.parent == tmp_path / "another"
    assert numbers_in(ticket.path) == list(range(30, 65))


def test_a_folder_of_no_use_changes_nothing(service: CaptureService, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        service.move(tmp_path / "file")
    assert service.settings.folder == tmp_path
