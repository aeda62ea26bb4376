"""Opening a file that may be missing, forbidden or no file at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tomofly.formats.errors import BadFile


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading bytes, unbuffered; raises BadFile when it is missing, forbidden or a folder."""
    try:
        source = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise BadFile(path, f"there is no such file in {path.parent}", "Check the path") from error
    except PermissionError as error:
        raise BadFile(path, "may not be read by this user", "Change its permissions") from error
    except IsADirectoryError as error:
        raise BadFile(path, "is a folder, not a file", "Give the file itself") from error
    with source:
        yield source


def size_of(source: BinaryIO) -> int:
    """Size of an open file in bytes, as the file system says now."""
    return os.fstat(source.fileno()).st_size


def read_at(source: BinaryIO, offset: int, count: int) -> bytes:
    """Up to `count` bytes from `offset`; the file position stays, so that threads may share the file."""
    parts: list[bytes] = []
    while count > 0:
        part = os.pread(source.fileno(), count, offset)
        if not part:
            break
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_whole(path: Path, largest: int, kind: str, check: str, *, when_empty: str = "") -> bytes:
    """All bytes of a small file. Raises BadFile where it is missing, empty, or has more than ``largest``.

    ``kind``: what it should be, such as "a STAR file"; ``check`` and ``when_empty``: what is to be done.
    """
    with open_source(path) as source:
        size = size_of(source)
        if size == 0:
            raise BadFile(path, "is empty", when_empty or check)
        if size > largest:
            raise BadFile(path, f"is too large for {kind} ({size} bytes)", check)
        return read_at(source, 0, size)
