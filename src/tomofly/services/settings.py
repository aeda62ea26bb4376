"""Settings: shown, changed and checked; every change is a new revision."""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tomofly.flow.graph import SHARED_SECTIONS, Workflow
from tomofly.flow.workflows import workflow_of
from tomofly.model import Settings, StageParams, TomoflyError
from tomofly.model.sections import watched_folder
from tomofly.services.home import Home
from tomofly.store import SessionRow, retry_while_locked, sessions


@dataclass(frozen=True)
class Revision:
    """One revision of a session's settings, and the tracks on which it is in force."""

    number: int
    saved_at: float
    in_force_on: tuple[str, ...]


def default_settings(kind: str) -> dict[str, Any]:
    """Give the default settings of a session kind as a document of sections."""
    return workflow_of(kind).settings().document()


def settings_schema(kind: str) -> dict[str, Any]:
    """Give the JSON schema of a session kind's settings; units are in each property's ``unit``."""
    sections = workflow_of(kind).schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Settings of a tomofly session of kind {kind}",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _section_schema(model) for name, model in sections.items()},
    }


def _section_schema(model: type[StageParams]) -> dict[str, Any]:
    schema = model.model_json_schema()
    for prop in schema.get("properties", {}).values():
        prop.pop("title", None)
    return schema


def prepared(settings: Settings, before: Settings | None = None) -> Settings:
    """Make paths absolute and fill in the digest of the gain reference. Raises TomoflyError.

    A reference that is gone keeps the digest that it had ``before``: the session may have a copy.
    """
    document = settings.document()
    gain = document.get("gain", {})
    known = before.document().get("gain", {}) if before is not None else {}
    if gain.get("path") and gain["path"] == known.get("path") and not Path(gain["path"]).exists():
        gain["checksum"] = known["checksum"]
        return _checked_paths(settings, document)
    if gain.get("path"):
        path = Path(gain["path"]).expanduser().absolute()
        gain["path"], gain["checksum"] = str(path), file_digest(path, "gain reference")
    elif gain:
        gain["checksum"] = ""
    return _checked_paths(settings, document)


def _checked_paths(settings: Settings, document: dict[str, Any]) -> Settings:
    source = document.get("source", {})
    if source.get("pattern"):
        source["pattern"] = str(Path(source["pattern"]).expanduser().absolute())
    schema = {name: type(section) for name, section in settings.sections.items()}
    return Settings.validate(settings.kind, schema, document)


def file_digest(path: Path, what: str) -> str:
    """Digest a file's content: 32 hexadecimal digits. Raises TomoflyError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise TomoflyError(
            f"The {what} {path} cannot be read: {error.strerror}", "Check the path in the settings"
        ) from error


def current_settings(home: Home, name: str, revision: int | None = None) -> Settings:
    """Give a session's newest settings, or those of a revision. Raises TomoflyError."""
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        document = sessions.settings_document(connection, session.id, revision or session.revision)
    return workflow_of(session.kind).settings(document)


def settings_in_force(connection: Connection, session: SessionRow, workflow: Workflow) -> dict[str, Settings]:
    """Give the settings with which each track works."""
    tracks = {track.name: track.revision for track in sessions.list_tracks(connection, session.id)}
    wanted = {name: tracks.get(name, session.revision) for name in workflow.tracks}
    documents = {
        number: workflow.settings(sessions.settings_document(connection, session.id, number))
        for number in set(wanted.values())
    }
    return {name: documents[number] for name, number in wanted.items()}


def list_revisions(home: Home, name: str) -> list[Revision]:
    """Give all revisions of a session's settings, oldest first."""
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        tracks = sessions.list_tracks(connection, session.id)
        saved = sessions.settings_revisions(connection, session.id)
    return [
        Revision(number, at, tuple(sorted(t.name for t in tracks if t.revision == number)))
        for number, at in saved
    ]


def change_settings(home: Home, name: str, assignments: Iterable[str]) -> int:
    """Apply ``section.name=value`` assignments; give the number of the newest revision.

    The tracks keep the settings that they have until they are restarted. Nothing is saved where
    nothing changes. Raises TomoflyError naming what is wrong and what is legal.
    """
    return _save(home, name, current_settings(home, name).changed(assignments))


def replace_settings(home: Home, name: str, document: Mapping[str, Any]) -> int:
    """Check a whole document of settings and save it; give the number of the newest revision."""
    with home.database.read() as connection:
        kind = sessions.find_session(connection, name).kind
    return _save(home, name, workflow_of(kind).settings(document))


def _save(home: Home, name: str, wanted: Settings) -> int:
    """Save settings as a new revision, unless they are those of the newest one."""
    settings = prepared(wanted, current_settings(home, name))
    document = settings.document()

    def work() -> int:
        with home.database.begin() as connection:
            session = sessions.find_session(connection, name)
            if sessions.settings_document(connection, session.id, session.revision) == document:
                return session.revision
            check_source(settings, Path(session.folder))
            refuse_shared_move(connection, settings, but=session.id)
            return sessions.save_settings(connection, session.id, document, time.time())

    return retry_while_locked(work)


def refuse_shared_move(connection: Connection, settings: Settings, but: int | None = None) -> None:
    """Two sessions on one source are fine unless one of them takes the files away. Raises TomoflyError."""
    wanted = settings.document()
    pattern = wanted.get("source", {}).get("pattern")
    for other in sessions.list_sessions(connection) if pattern else ():
        document = sessions.settings_document(connection, other.id, other.revision)
        modes = (document.get("transfer", {}).get("mode"), wanted.get("transfer", {}).get("mode"))
        if other.id != but and document.get("source", {}).get("pattern") == pattern and "move" in modes:
            raise TomoflyError(
                f"Session '{other.name}' watches {pattern} as well, and files can be moved only once",
                "Set transfer.mode to copy or link in both",
            )


def check_source(settings: Settings, folder: Path) -> None:
    """Refuse a source that would take in what the session itself writes. Raises TomoflyError."""
    pattern = getattr(settings["source"], "pattern", "")
    if not pattern:
        return
    watched = watched_folder(pattern).resolve()
    if "**" in pattern and folder.resolve().is_relative_to(watched):
        raise TomoflyError(
            f"The session's folder {folder} lies inside the watched folder {watched}",
            "Choose another folder, or a pattern that does not reach into it",
        )
    inside = (
        watched.relative_to(folder.resolve()).parts[:1] if watched.is_relative_to(folder.resolve()) else ()
    )
    if inside and inside[0] in settings.sections.keys() - SHARED_SECTIONS.keys():
        raise TomoflyError(f"The watched folder {watched} is one that the session itself writes to")
