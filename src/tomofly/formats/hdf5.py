"""HDF5 files that other programs write: opened without getting into the writer's way, and judged.

No lock is taken: a reader that holds one would make the program fail that adds angles to a new file.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors compress with
import numpy as np

from tomofly.formats.errors import BadFile

MICROMETRES = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3,
}  # fmt: skip
KEV = {"kev": 1.0, "ev": 1e-3, "mev": 1e3, "j": 6.241509e15}

_LOCKS = Path("/proc/locks")
_SMALL_CACHE = 0
_CHUNK_CACHE = 64 * 2**20


@contextmanager
def open_hdf5(path: str | Path, *, cached: bool = False) -> Iterator[h5py.File]:
    """Open a file for reading; ``cached`` keeps compressed chunks that were read in part. Raises BadFile.

    A file that is missing or forbidden just now has the OSError as the cause of its BadFile.
    """
    path = Path(path)
    _require_file(path)
    if is_held_for_writing(path):
        raise BadFile(
            path, "is being written by another program", "It is read once that program has closed it"
        )
    try:
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CHUNK_CACHE if cached else _SMALL_CACHE)
    except OSError as error:
        raise BadFile(path, *_explained(path, str(error))) from None
    with file:
        yield file


@contextmanager
def blamed_on_file(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the library raise into BadFile."""
    try:
        yield
    except BadFile:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise BadFile(path, f"is damaged ({error})", "Copy it again from where it was written") from None


def _require_file(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except IsADirectoryError as error:
        raise BadFile(path, "is a folder, not a file", "Give the file itself") from error
    except OSError as error:
        raise BadFile(
            path, f"cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error


def _explained(path: Path, said: str) -> tuple[str, str]:
    """Say what HDF5 means, and what to do."""
    if "truncated" in said or "addr overflow" in said or "eof" in said:
        return f"is truncated: {path.stat().st_size} bytes are less than it says", "Bring the whole file"
    if "already open for write" in said or "consistency flags" in said:
        return (
            "is marked as open for writing",
            "Wait until its writer has closed it; after a crash of the writer, `h5clear -s` frees it",
        )
    if "signature not found" in said:
        return "is no HDF5 file", "Narrow the pattern to scans"
    return f"cannot be opened as HDF5 ({said})", "Copy it again from where it was written"


def is_held_for_writing(path: str | Path) -> bool:
    """Say whether a program on this machine holds the file's lock for writing, as HDF5 writers do."""
    try:
        status = Path(path).stat()
        lines = _LOCKS.read_text().splitlines()
    except OSError:  # not Linux, or the file is away
        return False
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(place in line.split() and " WRITE " in line for line in lines)


def first_number(file: h5py.File, *paths: str) -> float | None:
    """Give the first finite number at one of these paths."""
    for path in paths:
        value = _value(file, path)
        try:
            number = float(np.asarray(value).reshape(-1)[0])
        except (TypeError, ValueError, IndexError):
            continue
        if np.isfinite(number):
            return number
    return None


def first_quantity(
    file: h5py.File, factors: Mapping[str, float], unless_said: str, *paths: str
) -> float | None:
    """Give the first finite number at one of these paths by its unit, a name in ``factors``.

    One without a unit, or with another, is taken to be in ``unless_said``.
    """
    for path in paths:
        value = first_number(file, path)
        if value is not None:
            return value * factors.get(units_of(file[path]), factors[unless_said])
    return None


def first_text(file: h5py.File, *paths: str) -> str:
    """Give the first text at one of these paths; empty: there is none."""
    for path in paths:
        text = as_text(_value(file, path))
        if text:
            return text
    return ""


def as_text(value: Any) -> str:
    """Read a string as any program writes it: bytes, text, or an array of one of them."""
    if value is None:
        return ""
    first = np.asarray(value).reshape(-1)[:1]
    if not len(first):
        return ""
    text = first[0]
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).strip("\0 ")


def units_of(item: h5py.Dataset) -> str:
    """Give the unit that a dataset says, in small letters."""
    return as_text(item.attrs.get("units") if "units" in item.attrs else item.attrs.get("unit")).lower()


def _value(file: h5py.File, path: str) -> Any:
    item = file.get(path)
    return item[()] if isinstance(item, h5py.Dataset) and item.size and item.size < 2**20 else None


def missing_chunks(data: h5py.Dataset) -> int:
    """Count chunks of a dataset that were never written."""
    if data.chunks is None:
        return 0
    per_axis = [-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True)]
    return int(max(0, int(np.prod(per_axis)) - data.id.get_num_chunks()))
