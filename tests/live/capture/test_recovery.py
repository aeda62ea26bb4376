"""A killed capture is whole at the next start, or gone; a disk that is really full leaves no half file."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.live.capture.stream import SHAPE, fact, frame, numbers_in, send
from tests.live.pva_camera import until
from tomofly.formats.data_exchange.writing import Compression, ScanWriter
from tomofly.live.capture.names import Claim
from tomofly.live.capture.recovery import recover, unfinished_parts
from tomofly.live.capture.request import CaptureRequest, CaptureState, Ending
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.capture.space import SpaceGuard

ENDLESS = """
import sys
from pathlib import Path
from tests.live.capture.stream import endless_captures
endless_captures(Path(sys.argv[1]), sys.argv[2])
"""


def kill_in_mid_capture(folder: Path, compression: str, frames: int) -> None:
    """Run a capture in a process of its own, and kill it when it has written so many frames."""
    command = [sys.executable, "-c", ENDLESS, str(folder), compression]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= frames:
                break
        process.kill()


@pytest.mark.parametrize("compression", ["none", "bslz4"])
def test_a_killed_capture_is_whole_at_the_next_start(
    tmp_path: Path, compression: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_in_mid_capture(tmp_path, compression, frames=400)
    assert [path.name for path in tmp_path.iterdir()] == ["capture_001.h5.part"]
    with CaptureService(CaptureSettings(tmp_path, reserve_bytes=0)) as service:
        path = tmp_path / "capture_001.h5"
        until(lambda: service.recovered)
        assert [other.name for other in tmp_path.iterdir()] == [path.name]
        numbers = numbers_in(path)
        assert numbers == list(range(10, 10 + len(numbers)))
        assert len(numbers) > 100
        assert fact(path, "recovered") == 1
        assert fact(path, "ended") == "recovered after the program was killed"
        assert service.request(CaptureRequest(1)).path.name == "capture_002.h5"
    said = capsys.readouterr().out
    assert "a killed capture is recovered" in said
    assert "capture_001.h5" in said


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_a_part_of_which_nothing_can_be_read_is_removed(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "capture_001.h5.part").write_bytes(content)
    done = recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 0))
    assert [(one.path, one.frames) for one in done] == [(None, 0)]
    assert list(tmp_path.iterdir()) == []
    assert "removed" in capsys.readouterr().out


def unfinished(folder: Path, frames: int) -> Path:
    """A part as a killed process leaves it: never closed. Made here by closing a copy."""
    part = folder / "scan.h5.part"
    writer = ScanWriter(part, SHAPE, np.dtype("u2"))
    for n in range(frames):
        writer.append(frame(n))  # type: ignore[arg-type]
    writer.flush()
    content = part.read_bytes()
    writer.abandon()
    part.write_bytes(content)
    return part


def test_a_part_without_a_frame_is_removed(tmp_path: Path) -> None:
    unfinished(tmp_path, 0)
    assert [one.path for one in recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 0))] == [None]
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_another_program_writes_is_left_alone(tmp_path: Path) -> None:
    part = unfinished(tmp_path, 5)
    claim = Claim(part, new=False)
    assert recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 0)) == []
    assert part.exists()
    claim.release()
    assert [one.frames for one in recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 0))] == [5]


def test_where_there_are_no_locks_a_part_is_left_until_it_has_not_grown_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with CaptureService(CaptureSettings(tmp_path / "captures", reserve_bytes=0)) as service:
        ticket = service.request(CaptureRequest(1))
        send(service, range(1))
        assert ticket.wait(30)
        assert ticket.state is CaptureState.DONE
    part = unfinished(tmp_path, 5)
    assert recover([part], SpaceGuard(tmp_path, 0)) == []
    os.utime(part, (1e9, 1e9))
    assert [one.frames for one in recover([part], SpaceGuard(tmp_path, 0))] == [5]


def test_a_part_waits_for_room_to_be_recovered(tmp_path: Path) -> None:
    part = unfinished(tmp_path, 5)
    assert recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 100, lambda _: 50)) == []
    assert [path.name for path in tmp_path.iterdir()] == [part.name]


def test_what_a_killed_recovery_left_is_done_again(tmp_path: Path) -> None:
    unfinished(tmp_path, 5)
    (tmp_path / "scan.h5.recovering").write_bytes(b"half")
    (tmp_path / "scan.h5").write_bytes(b"another's")
    done = recover(unfinished_parts(tmp_path), SpaceGuard(tmp_path, 0))
    assert [(one.path.name, one.frames) for one in done if one.path] == [("scan_recovered_001.h5", 5)]
    assert (tmp_path / "scan.h5").read_bytes() == b"another's"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("compression", ["none", "bslz4"])
def test_a_disk_that_is_really_full_ends_a_capture_with_a_whole_file(
    small_disk: Path, compression: Compression
) -> None:
    shape = (100, 1001)
    noise = np.random.default_rng(1).integers(0, 65_535, shape).astype(np.uint16)
    settings = CaptureSettings(small_disk, reserve_bytes=0, compression=compression)
    with CaptureService(settings) as service:
        ticket = service.request(CaptureRequest(10_000))
        for number in range(300):
            image = replace(frame(number), image=noise + np.uint16(number))
            service.put(image)
        assert ticket.wait(30)
    assert (ticket.state, ticket.ending) == (CaptureState.DONE, Ending.NO_SPACE)
    assert [path.name for path in small_disk.iterdir()] == ["capture_001.h5"]
    with h5py.File(ticket.path) as file:
        data = file["/exchange/data"]
        assert 20 < len(data) < 120
        assert np.array_equal(data[-1], noise + np.uint16(len(data) - 1))


def test_a_disk_without_any_room_gets_no_file(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(20 << 20))
    with CaptureService(CaptureSettings(small_disk, reserve_bytes=0)) as service:
        ticket = service.request(CaptureRequest(10))
        send(service, range(10))
        assert ticket.wait(30)
    assert (ticket.state, ticket.ending) == (CaptureState.FAILED, Ending.NO_SPACE)
    assert [path.name for path in small_disk.iterdir()] == ["other"]
