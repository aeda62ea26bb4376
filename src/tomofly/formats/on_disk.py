"""Files that are on the disk when others hear of them, and files that change as a whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def sync(path: Path) -> None:
    """Have a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def synced_text(path: str | Path) -> Iterator[TextIO]:
    """Open a text to write, which is on the disk when the block ends; the same bytes on any system."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as target:
        yield target
        target.flush()
        os.fsync(target.fileno())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; it becomes ``path`` when the block ends and it is on the disk.

    Readers see the old file or the new one at any time. Where the block raises, the old one stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
