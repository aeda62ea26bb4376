"""The session's folder: held by one conductor at a time, and swept before work begins."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomofly.model import TomoflyError

STALE_S = 20.0
"""A conductor's heartbeat older than this is no sign of life."""


def sweep(folder: Path) -> None:
    """Remove what attempts of an earlier conductor left, but not partial transfers."""
    work = folder / ".work"
    for entry in work.iterdir() if work.is_dir() else ():
        if entry.name != "partial":
            shutil.rmtree(entry, ignore_errors=True)


def is_writable(folder: Path) -> bool:
    """Say whether files can be written there."""
    return os.access(folder, os.W_OK)


@contextmanager
def only_conductor(folder: Path, name: str) -> Iterator[None]:
    """Hold the session's folder; raises TomoflyError when another conductor has it, or nobody can write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".conductor.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise TomoflyError(
            f"The session's folder {folder} cannot be written: {error.strerror}", "Choose another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise TomoflyError(
                f"The session in {folder} is being run already by {lock.read().strip() or 'another process'}",
                "Stop that one first: `tomofly session stop`",
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(name)
        lock.flush()
        yield
