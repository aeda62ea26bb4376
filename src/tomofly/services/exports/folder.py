"""The folder of an export: built beside what is there, put into place file by file, replaced by the next."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tomofly._version import __version__
from tomofly.model import TomoflyError
from tomofly.services.sessions import EXPORT_MARK

_PART = ".part-"


@contextmanager
def staged_export(folder: Path) -> Iterator[Path]:
    """Give a folder to build an export in, whose files come to ``folder`` only when all of them are there.

    Files of an earlier export that the new one has not are removed; what other programs have put beside them
    stays. Where something fails, the earlier export is left as it was. Raises TomoflyError for a folder that
    holds anything but an export, or that another export is being written to.
    """
    with _held(folder) as mark:
        for left in folder.glob(f"{_PART}*"):
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=folder))
        try:
            yield part
            _put_in_place(part, folder, mark)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[TextIO]:
    """Make the folder if need be, and hold it by its mark, which lists the files of the export."""
    path = folder / EXPORT_MARK
    if folder.is_dir() and any(folder.iterdir()) and not path.is_file():
        raise TomoflyError(f"The folder {folder} is not empty and no earlier export", "Name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise TomoflyError(
            f"The folder {folder} cannot be written: {error.strerror}", "Name another"
        ) from error
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TomoflyError(
                f"Another export is being written to {folder}", "Wait for it, or name another folder"
            ) from None
        yield mark


def _put_in_place(part: Path, folder: Path, mark: TextIO) -> None:
    new = {path.relative_to(part).as_posix() for path in _files(part)}
    old = _listed(mark)
    _list(mark, new | old)  # so that a later export finds all of them, should this one be killed on the way
    # The tables lie at the top and name what lies below them: they come last.
    for name in sorted(new, key=lambda name: (-name.count("/"), name)):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (part / name).replace(target)
    for name in old - new:
        _remove(folder, folder / name)
    _list(mark, new)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path


def _remove(folder: Path, path: Path) -> None:
    """Remove a file, and the folders that it leaves empty."""
    path.unlink(missing_ok=True)
    for above in path.parents:
        if above == folder:
            return
        with contextlib.suppress(OSError):  # not empty, or gone already
            above.rmdir()


def _listed(mark: TextIO) -> set[str]:
    """Give the files of the earlier export; a name that leads out of the folder is none of them."""
    mark.seek(0)
    names = mark.read().splitlines()[1:]
    return {name for name in names if name and not name.startswith("/") and ".." not in Path(name).parts}


def _list(mark: TextIO, names: Iterable[str]) -> None:
    mark.seek(0)
    mark.truncate()
    mark.write(f"Written by tomofly {__version__}; the next export here replaces these files:\n")
    mark.writelines(f"{name}\n" for name in sorted(names))
    mark.flush()
