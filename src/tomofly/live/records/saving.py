"""Settings PVs kept over a restart, in one JSON file; the same document is the configuration of a scan."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomofly.formats.on_disk import written_whole
from tomofly.live.records.pv import Value
from tomofly.live.records.values import PVValues
from tomofly.model import TomoflyError

LOOK_AGAIN_S = 1.0

Document = dict[str, dict[str, Value]]


def configuration(groups: Sequence[PVValues]) -> Document:
    """Give the settings of all groups: by prefix, then by name."""
    return {group.prefix: group.saved() for group in groups}


def configure(groups: Sequence[PVValues], document: Mapping[str, Any]) -> list[str]:
    """Set what a configuration says; give what could not be set, in words.

    Also a flat document of full names is taken, as tomoScan's .config files are: names that are no settings
    here are passed over there, as those files hold many.
    """
    troubles: list[str] = []
    for group in groups:
        section = document.get(group.prefix)
        if isinstance(section, Mapping):
            troubles += group.restore(section)
        else:
            troubles += group.restore(_flat(group, document))
    return troubles


def _flat(group: PVValues, document: Mapping[str, Any]) -> dict[str, Any]:
    """Find a group's settings in a document that names them in full, or without any prefix."""
    found = {}
    for name, value in document.items():
        short = name.removeprefix(group.prefix)
        pv = group.table.get(short)
        if pv is not None and pv.saved and not isinstance(value, Mapping):
            found[short] = value
    return found


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a configuration. Raises TomoflyError where it cannot be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TomoflyError(f"The configuration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TomoflyError(
            f"The configuration {path} is no JSON: {error}",
            "Name a file that `tomofly live save` has written",
        ) from error
    if not isinstance(document, dict):
        raise TomoflyError(f"The configuration {path} holds no names and values")
    return document


def write_configuration(path: Path, document: Mapping[str, Any]) -> None:
    """Write a configuration so that the file is at all times either the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


class Autosave:
    """Writes the settings to a file soon after they change, from a thread of its own."""

    def __init__(
        self,
        path: Path,
        groups: Sequence[PVValues],
        tell: Callable[[str], object],
        every_s: float = LOOK_AGAIN_S,
    ) -> None:
        self.path, self.groups, self.every_s = path, groups, every_s
        self._tell = tell
        self._end = threading.Event()
        self._saved: Document | None = None
        self._thread = threading.Thread(target=self._run, name="autosave", daemon=True)

    def restore(self) -> None:
        """Set what the file holds. What cannot be read or set is told, and costs nothing else."""
        if self.path.exists():
            try:
                troubles = configure(self.groups, read_configuration(self.path))
            except TomoflyError as error:
                aside = self.path.with_name(self.path.name + ".unreadable")
                self.path.replace(aside)
                troubles = [f"{error.what}. The defaults hold, and the file is kept as {aside.name}"]
            for trouble in troubles:
                self._tell(f"Saved settings: {trouble}")
        self._saved = configuration(self.groups)

    def start(self) -> None:
        """Begin to save."""
        self._thread.start()

    def close(self) -> None:
        """Save what has changed since, and end."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self.save()

    def save(self) -> bool:
        """Write the settings if they have changed; tell whether the file is as they are."""
        document = configuration(self.groups)
        if document == self._saved:
            return True
        try:
            write_configuration(self.path, document)
        except OSError as error:
            self._tell(f"The settings cannot be saved in {self.path}: {error.strerror}")
            return False
        self._saved = document
        return True

    def _run(self) -> None:
        while not self._end.wait(self.every_s):
            self.save()
