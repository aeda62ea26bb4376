"""Sessions: made, listed, copied, deleted."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tomofly._version import __version__
from tomofly.flow.gain_copy import hand_over, only_copy
from tomofly.flow.workflows import workflow_of
from tomofly.formats.on_disk import written_whole
from tomofly.model import Settings, TomoflyError
from tomofly.services.home import Home, checked_folder, checked_name
from tomofly.services.settings import check_source, prepared, refuse_shared_move
from tomofly.services.status import Status, is_alive, status_of
from tomofly.store import SessionRow, retry_while_locked, sessions
from tomofly.store.sessions import NewSession, TrackRow

SESSION_FILE = "session.json"
EXPORT_MARK = ".tomofly-export"
"""A file that says that the folder around it is an export, which may be replaced or deleted."""

OWN_FOLDERS = (".work", "logs", "gain", ".moves")
OWN_FILES = (SESSION_FILE, ".conductor.lock", "conductor.log")


@dataclass(frozen=True)
class SessionInfo:
    """A session with what it is doing and its tracks."""

    row: SessionRow
    status: Status
    tracks: tuple[TrackRow, ...]

    @property
    def folder(self) -> Path:
        """Where its products are."""
        return Path(self.row.folder)


def create_session(
    home: Home,
    name: str,
    *,
    kind: str = "spa",
    folder: str | Path | None = None,
    assignments: Iterable[str] = (),
    document: Mapping[str, Any] | None = None,
    group: str = "",
) -> SessionInfo:
    """Make a session with its settings; nothing runs yet. Raises TomoflyError."""
    settings = prepared(workflow_of(kind).settings(document).changed(assignments))
    return _create(home, name, settings, folder, group)


def _create(home: Home, name: str, settings: Settings, folder: str | Path | None, group: str) -> SessionInfo:
    """Make a session with settings that are prepared already."""
    workflow = workflow_of(settings.kind)
    place = checked_folder(folder or home.sessions_folder / checked_name(name), "a session")
    check_source(settings, place)
    new = NewSession(
        checked_name(name), settings.kind, str(place), group, settings.document(), workflow.tracks
    )

    def work() -> None:
        with home.database.begin() as connection:
            refuse_shared_move(connection, settings)
            sessions.create_session(connection, new, time.time())

    if session_in(home, place) is None:
        _refuse_foreign(place)
    make_folder(place)
    retry_while_locked(work)
    write_session_file(home, name)
    return session_info(home, name)


def make_folder(folder: Path) -> None:
    """Make a session's folder. Raises TomoflyError where nobody can write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise TomoflyError(
            f"The session's folder {folder} cannot be made: {error.strerror}", "Choose another folder"
        ) from error
    if not writable:
        raise TomoflyError(f"The session's folder {folder} cannot be written", "Choose another folder")


def _refuse_foreign(folder: Path) -> None:
    """A folder that belongs to a session of another home must not be filled from here as well."""
    try:
        described = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    raise TomoflyError(
        f"The folder {folder} holds the session '{described.get('name')}', which this home does not know",
        f"Use the home that made it, or delete {SESSION_FILE} there to begin anew",
    )


def session_info(home: Home, name: str) -> SessionInfo:
    """Give one session. Raises TomoflyError listing what there is."""
    with home.database.read() as connection:
        return _info(connection, sessions.find_session(connection, name))


def list_sessions(home: Home) -> list[SessionInfo]:
    """Give all sessions, newest first."""
    with home.database.read() as connection:
        return [_info(connection, row) for row in sessions.list_sessions(connection)]


def session_in(home: Home, folder: str | Path) -> SessionInfo | None:
    """Give the session whose products are in a folder, if there is one."""
    path = str(Path(folder).expanduser().resolve())
    with home.database.read() as connection:
        row = sessions.session_in_folder(connection, path)
        return None if row is None else _info(connection, row)


def _info(connection: Connection, row: SessionRow) -> SessionInfo:
    order = {name: place for place, name in enumerate(workflow_of(row.kind).tracks)}
    tracks = sorted(sessions.list_tracks(connection, row.id), key=lambda t: order.get(t.name, len(order)))
    return SessionInfo(row, status_of(row, time.time()), tuple(tracks))


def free_name(home: Home, wanted: str) -> str:
    """Give ``wanted`` or, where that is taken, ``wanted-2`` and so on."""
    with home.database.read() as connection:
        taken = {row.name for row in sessions.list_sessions(connection)}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def copy_session(home: Home, name: str, new_name: str, folder: str | Path | None = None) -> SessionInfo:
    """Make a session with the newest settings of another; no items or results are copied.

    The gain reference is looked for where the settings say; where it is gone, the other session's own copy
    is taken over.
    """
    with home.database.read() as connection:
        row = sessions.find_session(connection, name)
        document = sessions.settings_document(connection, row.id, row.revision)
    settings = workflow_of(row.kind).settings(document)
    gain = only_copy(Path(row.folder), settings)
    made = _create(home, new_name, prepared(settings, settings if gain else None), folder, row.owner_group)
    if gain is not None:
        hand_over(gain, made.folder, settings)
    return made


@dataclass(frozen=True)
class Deleted:
    """What became of a deleted session's files; ``kept`` names what was left, with the reason."""

    name: str
    folder: Path
    kept: tuple[str, ...]


def delete_session(home: Home, name: str, *, keep_files: bool = False, raw: bool = False) -> Deleted:
    """Delete a session and the files that it made.

    Raw data that were moved into the session are kept unless ``raw`` is given, since no other copy may
    exist. Files that tomofly did not make are always kept. Raises TomoflyError while the session runs.
    """
    info = session_info(home, name)
    if is_alive(info.row, time.time()):
        raise TomoflyError(
            f"Session '{name}' is running", f"Stop it first: `tomofly session stop {info.row.name}`"
        )
    holds_raw = bool(raw_tracks(home, name))

    def work() -> None:
        with home.database.begin() as connection:
            sessions.delete_session(connection, info.row.id)

    retry_while_locked(work)
    kept: list[str] = []
    if keep_files:
        kept.append(f"{info.folder}: as you asked")
    else:
        kept += _delete_files(info, keep_raw=holds_raw and not raw)
    return Deleted(name, info.folder, tuple(kept))


def _delete_files(info: SessionInfo, *, keep_raw: bool) -> list[str]:
    kept = []
    stages = [stage.name for stage in workflow_of(info.row.kind).stages]
    for name in (*stages, *OWN_FOLDERS):
        folder = info.folder / name
        if name == "transfer" and keep_raw and folder.exists():
            kept.append(f"{folder}: raw data that were moved here")
        elif folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
    for mark in (info.folder / "exports").glob(f"*/{EXPORT_MARK}"):
        shutil.rmtree(mark.parent)
    if (info.folder / "exports").is_dir() and not any((info.folder / "exports").iterdir()):
        (info.folder / "exports").rmdir()
    for name in OWN_FILES:
        (info.folder / name).unlink(missing_ok=True)
    if info.folder.is_dir():
        left = sorted(path.name for path in info.folder.iterdir())
        if left:
            kept += [f"{info.folder / name}: not made by the session" for name in left if name not in stages]
        else:
            info.folder.rmdir()
    return kept


def raw_tracks(home: Home, name: str) -> set[str]:
    """Give the tracks whose products may be the only copy of raw data: a transfer that has ever moved."""
    with home.database.read() as connection:
        row = sessions.find_session(connection, name)
        for number, _ in sessions.settings_revisions(connection, row.id):
            document = sessions.settings_document(connection, row.id, number)
            if document.get("transfer", {}).get("mode") == "move":
                return {stage.track for stage in workflow_of(row.kind).stages if stage.name == "transfer"}
    return set()


def write_session_file(home: Home, name: str) -> None:
    """Write ``session.json`` into the session's folder: what this folder is, and its settings in force."""
    with home.database.read() as connection:
        row = sessions.find_session(connection, name)
        tracks = sessions.list_tracks(connection, row.id)
        saved = sessions.settings_revisions(connection, row.id)
        documents = {n: sessions.settings_document(connection, row.id, n) for n, _ in saved}
    content = {
        "tomofly": __version__,
        "name": row.name,
        "kind": row.kind,
        "created_at": row.created_at,
        "owner_group": row.owner_group,
        "tracks": {track.name: {"revision": track.revision} for track in tracks},
        "settings": {str(number): document for number, document in documents.items()},
    }
    folder = Path(row.folder)
    make_folder(folder)
    with written_whole(folder / SESSION_FILE) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
