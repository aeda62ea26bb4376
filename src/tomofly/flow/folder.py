"""The session's folder: held by one conductor at a time, and swept before work begins."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
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


def sweep_partial(folder: Path, wanted: Collection[tuple[int, str | None]]) -> None:
    """Remove partial files of results that nobody waits for any more.

    ``wanted`` holds (item, name of the result) of what is still to be made; without a name all that an item
    has is kept, for its next result is not named yet. Folders of other names are not partial files.
    """
    partial = folder / ".work" / "partial"
    for entry in partial.iterdir() if partial.is_dir() else ():
        item, _, name = entry.name.partition("-")
        if item.isdecimal() and not {(int(item), name), (int(item), None)} & set(wanted):
            shutil.rmtree(entry, ignore_errors=True)


def sweep_checkpoints(folder: Path, stages: Iterable[str], known: Collection[str]) -> None:
    """Remove checkpoints of folds that are in place but not among ``known``, paths below ``folder``."""
    for stage in stages:
        checkpoints = folder / stage / "checkpoints"
        for path in sorted(checkpoints.rglob("*"), reverse=True) if checkpoints.is_dir() else ():
            with contextlib.suppress(OSError):  # what cannot be deleted, or holds something yet, stays
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                elif str(path.relative_to(folder)) not in known:
                    path.unlink()


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
