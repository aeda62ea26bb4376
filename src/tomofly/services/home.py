"""The home of tomofly: where its sessions and its database are."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tomofly.model import TomoflyError
from tomofly.store import Database

HOME_VARIABLE = "TOMOFLY_HOME"
DATABASE_VARIABLE = "TOMOFLY_DATABASE"

_NAME = re.compile(r"[^\W_][\w.\- ]{0,99}")
_SYSTEM_FOLDERS = frozenset(
    f"/{name}"
    for name in (
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib64",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "var",
    )
)


@dataclass(frozen=True)
class Home:
    """A folder for sessions, and the URL of the database that knows them."""

    folder: Path
    database_url: str

    @cached_property
    def database(self) -> Database:
        """The database, opened at first use; its tables are brought up to date."""
        if self.database_url.startswith("sqlite"):
            self._make_folder()
        return Database(self.database_url)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TomoflyError(
                f"The home {self.folder} cannot be made: {error.strerror}",
                f"Name another with --home or {HOME_VARIABLE}",
            ) from error

    @property
    def sessions_folder(self) -> Path:
        """Where sessions live that name no folder of their own."""
        return self.folder / "sessions"

    def close(self) -> None:
        """Close the database, if it was opened."""
        if "database" in self.__dict__:
            self.database.close()


def open_home(folder: str | Path | None = None, database_url: str | None = None) -> Home:
    """Give the home: ``folder``, or TOMOFLY_HOME, or ``~/.tomofly``; the database likewise."""
    chosen = folder or os.environ.get(HOME_VARIABLE) or Path.home() / ".tomofly"
    path = Path(chosen).expanduser().absolute()
    url = database_url or os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{path / 'tomofly.db'}"
    return Home(path, url)


def checked_name(name: str) -> str:
    """Return a session's name if it can be a folder's as well. Raises TomoflyError."""
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
        raise TomoflyError(
            f"'{name}' cannot be the name of a session",
            "Use letters, digits, '-', '_', '.' and blanks, a letter or digit first, at most 100",
        )
    return name


def checked_folder(folder: str | Path, use: str) -> Path:
    """Return the absolute path of a folder that tomofly may fill. Raises TomoflyError.

    The root, the folders of the system and a person's whole home are refused; ``use`` says what it is for.
    """
    path = Path(folder).expanduser().resolve()
    if path == path.parent or str(path) in _SYSTEM_FOLDERS or path == Path.home().resolve():
        raise TomoflyError(f"The folder {path} cannot be used for {use}", "Name a folder of its own below it")
    if path.exists() and not path.is_dir():
        raise TomoflyError(f"{path} is a file, but {use} needs a folder", "Name another place")
    return path
