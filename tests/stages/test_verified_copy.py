"""A copy is right wherever it was cut off and whatever was spoilt, or it is not there."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings

from tomofly.model import BadInput, TomoflyError
from tomofly.stages import verified_copy
from tomofly.stages.verified_copy import copy_verified

LOG = logging.getLogger("test")


def make_file(path: Path, size: int = 16_194) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(size).bytes(size))
    os.utime(path, ns=(0, 1_600_000_000_123_456_789))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "camera" / "a.mrc")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.mrc"


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "partial" / "a.mrc.partial"


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in steps so small that a small file has many of them."""
    monkeypatch.setattr(verified_copy, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(verified_copy, "CHECKPOINT_BYTES", 3000)


class Cut(Exception):
    """The copy was cut off."""


def copy_until(cut: int, source: Path, target: Path, partial: Path) -> None:
    """Copy until the given number of writes, then stop as a crash does."""
    write, left = os.pwrite, iter(range(cut))

    def counted(*given: object) -> int:
        if next(left, None) is None:
            raise Cut
        return write(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", counted)
        try:
            copy_verified(source, target, partial, LOG)
            target.unlink()
        except Cut:
            pass


def spoil(path: Path, at: int) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


KILLED = """
import logging, os, signal
from pathlib import Path
from tomofly.stages import verified_copy
verified_copy.CHUNK_BYTES, verified_copy.CHECKPOINT_BYTES = 1000, 3000
write, count = os.pwrite, iter(range(11))
def fatal(*given):
    if next(count, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*given)
os.pwrite = fatal
verified_copy.copy_verified(Path({source!r}), Path({target!r}), Path({partial!r}), logging.getLogger())
"""


def test_a_killed_copy_goes_on_in_the_middle(
    source: Path, target: Path, partial: Path, small_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = KILLED.format(source=str(source), target=str(target), partial=str(partial))
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert partial.stat().st_size == 11_000
    assert not target.exists()

    written = []
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: (written.append(at), write(fd, data, at))[1])
    copied = copy_verified(source, target, partial, LOG)
    assert target.read_bytes() == source.read_bytes()
    assert min(written) == copied.resumed == 9000  # the last checkpoint


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 16), max_size=4),
    spoilt=st.none() | st.integers(0, 15_000),
    torn=st.integers(0, 40),
)
def test_wherever_it_is_cut_and_whatever_is_spoilt_the_copy_is_right(
    source: Path,
    target: Path,
    partial: Path,
    small_steps: None,
    cuts: list[int],
    spoilt: int | None,
    torn: int,
) -> None:
    shutil.rmtree(partial.parent, ignore_errors=True)
    for cut in cuts:
        copy_until(cut, source, target, partial)
    if spoilt is not None and partial.exists() and partial.stat().st_size > spoilt:
        spoil(partial, spoilt)
    sums = partial.with_name(f"{partial.name}.sums")
    if sums.exists():
        os.truncate(sums, max(0, sums.stat().st_size - torn))
    copied = copy_verified(source, target, partial, LOG)
    assert target.read_bytes() == source.read_bytes()
    assert copied.checksum == xxhash.xxh3_128_hexdigest(source.read_bytes())
    assert copied.resumed <= 1000 * sum(cuts)
    assert list(partial.parent.iterdir()) == []
    target.unlink()


def test_a_spoilt_partial_copy_goes_on_before_the_damage(
    source: Path, target: Path, partial: Path, small_steps: None
) -> None:
    copy_until(12, source, target, partial)
    spoil(partial, 7500)
    assert copy_verified(source, target, partial, LOG).resumed == 6000
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("before", "now"), [(16_000, 7_000), (7_000, 16_000)])
def test_a_partial_copy_of_something_else_is_not_trusted(
    source: Path, target: Path, partial: Path, small_steps: None, before: int, now: int
) -> None:
    make_file(source, before)
    copy_until(6, source, target, partial)
    make_file(source, now)
    assert copy_verified(source, target, partial, LOG).resumed == 0
    assert target.read_bytes() == source.read_bytes()


def test_a_copy_that_reads_back_differently_is_made_again(
    source: Path, target: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_copy, "_hash_range", lambda _, digest, *more: digest.update(b"else"))
    with pytest.raises(TomoflyError, match="differs from what was read") as raised:
        copy_verified(source, target, partial, LOG)
    assert not isinstance(raised.value, BadInput)
    assert list(partial.parent.iterdir()) == []
    assert not target.exists()
    monkeypatch.undo()
    copy_verified(source, target, partial, LOG)
    assert target.read_bytes() == source.read_bytes()


def test_an_attempt_waits_for_one_that_is_still_copying(
    source: Path, target: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds that the first has taken the finished file away, and starts afresh."""
    first = target.with_name("first.mrc")
    lock, waited = verified_copy._lock, []

    def let_the_other_finish(descriptor: int, path: Path, log: logging.Logger) -> None:
        if not waited:
            waited.append(descriptor)
            copy_verified(source, first, partial, LOG)
        lock(descriptor, path, log)

    monkeypatch.setattr(verified_copy, "_lock", let_the_other_finish)
    copy_verified(source, target, partial, LOG)
    assert first.read_bytes() == target.read_bytes() == source.read_bytes()
    assert not first.samefile(target)


def test_a_file_system_without_locks_is_said(
    source: Path,
    target: Path,
    partial: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_locks(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(verified_copy.fcntl, "flock", no_locks)
    copy_verified(source, target, partial, LOG)
    assert target.exists()
    assert "has no locks" in caplog.text


def test_an_empty_file_is_copied(source: Path, target: Path, partial: Path) -> None:
    source.write_bytes(b"")
    assert copy_verified(source, target, partial, LOG).size == 0
    assert target.read_bytes() == b""
