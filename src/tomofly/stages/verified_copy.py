"""Copying one file so that it can be killed at any instant, goes on in the middle, and is proved the same.

Local paths only (which includes network file systems that are mounted).
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Logger
from pathlib import Path
from typing import BinaryIO

import xxhash

from tomofly.model import Spent, TomoflyError

CHUNK_BYTES = 4 << 20
"""Read and written at once: large enough for the disk and the network to run at full speed."""

CHECKPOINT_BYTES = 64 << 20
"""Written to the disk and noted, so that a copy which was cut off goes on from there."""

Look = Callable[[], object]
"""Called between chunks; what it raises ends the copy, which can go on later."""

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class Copied:
    """A finished copy: its xxh3-128 checksum, its bytes, and how many of them an earlier attempt had left.

    ``seconds`` is the time of the copying alone, without the verification. ``source`` is what was copied.
    """

    checksum: str
    size: int
    resumed: int
    seconds: float
    source: Spent


def _no_look() -> None:
    """Let the copy go on."""


def copy_verified(
    source: Path, target: Path, partial: Path, log: Logger, *, verify: bool = True, look: Look = _no_look
) -> Copied:
    """Copy ``source`` to ``target`` through ``partial``, which must be on the disk of ``target``.

    The copy is flushed to the disk, read again from there and compared by checksum (``verify``), and
    appears under its name only then, with the time of the source. A ``partial`` left by an earlier attempt
    is continued from the last point at which its checksum is right.

    Raises TomoflyError when the source cannot be read or changes, or the copy differs; OSError, with the
    path in it, when the fault is on the side of the target.
    """
    sums = partial.with_name(f"{partial.name}.sums")
    with reading(source):
        opened = source.open("rb", buffering=0)
    with opened, _writing(partial), _locked(partial, log) as descriptor:
        with reading(source):
            before = os.fstat(opened.fileno())
        begun = time.perf_counter()
        digest, resumed = _continue_from(descriptor, sums, before, look)
        if resumed:
            log.info("%s: going on after %d of %d bytes", source.name, resumed, before.st_size)
        with sums.open("a", encoding="ascii") as notes:
            for done in _pump(opened, source, descriptor, digest, resumed, look):
                notes.write(f"{done} {digest.hexdigest()}\n")
                notes.flush()
        os.fsync(descriptor)
        seconds = time.perf_counter() - begun
        _require_unchanged(source, opened, before, os.fstat(descriptor).st_size)
        if verify:
            _require_same(descriptor, digest.hexdigest(), source, partial, sums, look)
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
        partial.replace(target)
        sums.unlink(missing_ok=True)
    copied = Spent(source, before.st_size, before.st_mtime_ns, before.st_ino)
    return Copied(digest.hexdigest(), before.st_size, resumed, seconds, copied)


def checksum(path: Path, look: Look = _no_look) -> str:
    """Give the xxh3-128 checksum of a file."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as opened:
        _hash_range(opened.fileno(), digest, 0, os.fstat(opened.fileno()).st_size, look)
    return digest.hexdigest()


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """Say of errors in here that they are of the source: the disk of the session is not to blame for them."""
    try:
        yield
    except OSError as error:
        raise TomoflyError(
            f"{source} cannot be read: {error.strerror or error}", "It is tried again; see that it is there"
        ) from error


@contextmanager
def _writing(partial: Path) -> Iterator[None]:
    """Give the errors of open files, which name none, the path that they are about."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(partial)
        raise


@contextmanager
def _locked(partial: Path, log: Logger) -> Iterator[int]:
    """Open the partial copy for this attempt alone; one taken for dead may still be writing."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, partial, log)
            # While this one waited, the other may have finished and taken the file away.
            if _is_at(descriptor, partial):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, partial: Path, log: Logger) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; copying without", partial.name)


def _continue_from(
    descriptor: int, sums: Path, source: os.stat_result, look: Look
) -> tuple["xxhash.xxh3_128", int]:
    """Find how much of a partial copy is right, cut off the rest, and give the checksum up to there."""
    title = f"{source.st_size}:{source.st_mtime_ns}"
    good, done, kept = xxhash.xxh3_128(), 0, [title]
    for end, expected in _noted(sums, title):
        if not done < end <= source.st_size:
            break
        digest = good.copy()
        if _hash_range(descriptor, digest, done, end, look) != end or digest.hexdigest() != expected:
            break
        good, done = digest, end
        kept.append(f"{end} {expected}")
    os.ftruncate(descriptor, done)
    sums.write_text("\n".join(kept) + "\n", encoding="ascii")
    return good, done


def _noted(sums: Path, title: str) -> list[tuple[int, str]]:
    """The checkpoints of an earlier attempt at the same content; a line that was cut off says nothing."""
    try:
        lines = sums.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    if lines[:1] != [title]:
        return []
    pairs = [line.split() for line in lines[1:]]
    return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()]


def _pump(
    opened: BinaryIO, source: Path, descriptor: int, digest: "xxhash.xxh3_128", start: int, look: Look
) -> Iterator[int]:
    """Copy from ``start`` to the end; give the position at each checkpoint, when it is on the disk."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    done, flushed = start, start
    with reading(source):
        opened.seek(start)
    while True:
        look()
        with reading(source):
            count = opened.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            return
        digest.update(buffer[:count])
        _write_all(descriptor, buffer[:count], done)
        done += count
        if done - flushed >= CHECKPOINT_BYTES:
            os.fdatasync(descriptor)
            flushed = done
            yield done


def _write_all(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


def _require_unchanged(source: Path, opened: BinaryIO, before: os.stat_result, copied: int) -> None:
    with reading(source):
        after = os.fstat(opened.fileno())
    if (after.st_size, after.st_mtime_ns, copied) != (before.st_size, before.st_mtime_ns, before.st_size):
        raise TomoflyError(f"{source} changed while it was copied", "It is copied again when it is whole")


def _require_same(
    descriptor: int, expected: str, source: Path, partial: Path, sums: Path, look: Look
) -> None:
    """Read the copy again, from the disk where the system lets us, and compare. A bad copy is deleted."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    digest = xxhash.xxh3_128()
    _hash_range(descriptor, digest, 0, os.fstat(descriptor).st_size, look)
    if digest.hexdigest() == expected:
        return
    partial.unlink()
    sums.unlink(missing_ok=True)
    raise TomoflyError(
        f"The copy of {source} differs from what was read (checksum {digest.hexdigest()}, not {expected})",
        "It is copied again; if this goes on, check the disk and the memory of this machine",
    )


def _hash_range(descriptor: int, digest: "xxhash.xxh3_128", start: int, end: int, look: Look) -> int:
    """Add the bytes from ``start`` to ``end`` to the checksum; give where they stopped."""
    while start < end:
        look()
        part = os.pread(descriptor, min(CHUNK_BYTES, end - start), start)
        if not part:
            break
        digest.update(part)
        start += len(part)
    return start
