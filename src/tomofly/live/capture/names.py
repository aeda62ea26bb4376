"""Names of captured files: the final one, and that of the part until it is whole."""

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from tomofly.model.errors import BadInput

SUFFIX = ".h5"
PART = ".h5.part"
CONFIGURATION = ".config"
"""Of the settings beside a captured file."""
_UNUSED_S = 600.0
_USABLE = re.compile(r"[\w.+@-][\w.+@ -]{0,199}")


def final_path(folder: Path, base: str, name: str | None, *, overwrite: bool = False) -> Path:
    """Where the next capture goes: under its own name, or `base` and the next free number.

    Raises BadInput for a name that is none, or is taken.
    """
    if name is None:
        return _next_free(folder, base)
    if not _USABLE.fullmatch(name) or name.startswith("."):
        raise BadInput(
            f"{name!r} is no name for a file", "Use letters, digits, dashes and dots, and no folder"
        )
    path = folder / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
    if part_path(path).exists() or (path.exists() and not overwrite):
        raise BadInput(f"There is a file {path.name} already", "Choose another name, or allow to overwrite")
    return path


def check_base(base: str) -> None:
    """Raise BadInput for what numbered names cannot begin with."""
    if not base or "/" in base or base.startswith(".") or not base.isprintable():
        raise BadInput(f"{base!r} cannot begin the name of a file", "Use letters, digits, dashes and dots")


def _next_free(folder: Path, base: str) -> Path:
    pattern = re.compile(rf"{re.escape(base)}_(\d+)\.h5(\.part)?")
    taken = (pattern.fullmatch(path.name) for path in folder.glob(f"{glob_safe(base)}_*"))
    last = max((int(match[1]) for match in taken if match), default=0)
    return folder / f"{base}_{last + 1:03d}{SUFFIX}"


def glob_safe(words: str) -> str:
    """Words that stand for themselves in a pattern of file names."""
    return re.sub(r"([*?\[])", r"[\1]", words)


def part_path(final: Path) -> Path:
    """Where the file is until it is whole."""
    return final.with_name(final.name.removesuffix(SUFFIX) + PART)


class Claim:
    """Says to other programs that a part is being written, for as long as this process lives."""

    def __init__(self, part: Path, *, new: bool) -> None:
        """Claim a part; raises FileExistsError for a new one that exists, BlockingIOError for one in use."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if new else 0)
        self._descriptor: int | None = os.open(part, flags, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some file systems know no locks. There, a part is in use as long as it still grows.
            unknown = not isinstance(error, BlockingIOError)
            if unknown and (new or time.time() - os.fstat(self._descriptor).st_mtime > _UNUSED_S):
                return
            os.close(self._descriptor)
            raise BlockingIOError(error.errno, f"{part.name} is in use") from error

    def release(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
