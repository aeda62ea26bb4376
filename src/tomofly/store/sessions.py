"""Sessions, their settings, tracks and alerts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, func, insert, select, update

from tomofly.model import TomoflyError
from tomofly.store import tables as t


@dataclass(frozen=True)
class SessionRow:
    """One session. ``state`` is what its conductor last said, ``desired`` what a person asked for.

    ``planned`` names the stages and settings with which its items were last planned.
    """

    id: int
    name: str
    kind: str
    folder: str
    owner_group: str
    created_at: float
    state: str
    desired: str
    closed: bool
    revision: int
    conductor: str
    heartbeat_at: float
    note: str
    vitals: Mapping[str, Any]
    planned: str = ""


@dataclass(frozen=True)
class TrackRow:
    """One track of a session; ``revision`` is that of the settings in force on it."""

    name: str
    desired: str
    revision: int
    clear_requested: bool
    paused: str


@dataclass(frozen=True)
class NewSession:
    """What must be known to create a session."""

    name: str
    kind: str
    folder: str
    owner_group: str
    document: Mapping[str, Any]
    tracks: tuple[str, ...]


def create_session(connection: Connection, new: NewSession, now: float) -> int:
    """Add a session with its first settings. Raises TomoflyError when name or folder is taken."""
    for column, value in (("name", new.name), ("folder", new.folder)):
        taken = connection.scalar(select(t.sessions.c.name).where(t.sessions.c[column] == value))
        if taken is not None:
            raise TomoflyError(
                f"There is already a session '{taken}' with the {column} '{value}'",
                f"Choose another {column}",
            )
    row = {
        "name": new.name, "kind": new.kind, "folder": new.folder, "owner_group": new.owner_group,
        "created_at": now, "state": "created", "desired": "stopped",
    }  # fmt: skip
    connection.execute(insert(t.sessions).values(row))
    session_id = find_session(connection, new.name).id
    connection.execute(
        insert(t.settings).values(session_id=session_id, revision=1, saved_at=now, document=new.document)
    )
    rows = [
        {"session_id": session_id, "name": name, "desired": "running", "revision": 1} for name in new.tracks
    ]
    connection.execute(insert(t.tracks), rows)
    return session_id


def find_session(connection: Connection, name: str | int) -> SessionRow:
    """Give a session by name or id. Raises TomoflyError listing what there is."""
    column = t.sessions.c.id if isinstance(name, int) else t.sessions.c.name
    row = connection.execute(select(t.sessions).where(column == name)).mappings().first()
    if row is None:
        names = list(connection.scalars(select(t.sessions.c.name).order_by(t.sessions.c.name).limit(20)))
        raise TomoflyError(f"There is no session '{name}'", f"There are: {', '.join(names) or 'none yet'}")
    return _session(row)


def session_in_folder(connection: Connection, folder: str) -> SessionRow | None:
    """Give the session whose products are in this folder, if there is one."""
    row = connection.execute(select(t.sessions).where(t.sessions.c.folder == folder)).mappings().first()
    return None if row is None else _session(row)


def list_sessions(connection: Connection) -> list[SessionRow]:
    """Give all sessions, newest first."""
    rows = connection.execute(select(t.sessions).order_by(t.sessions.c.id.desc())).mappings()
    return [_session(row) for row in rows]


def _session(row: RowMapping) -> SessionRow:
    return SessionRow(**row)


def update_session(connection: Connection, session_id: int, **values: Any) -> None:
    """Write columns of a session."""
    connection.execute(update(t.sessions).where(t.sessions.c.id == session_id).values(**values))


def delete_session(connection: Connection, session_id: int) -> None:
    """Remove a session and everything said about it."""
    connection.execute(delete(t.sessions).where(t.sessions.c.id == session_id))


def save_settings(connection: Connection, session_id: int, document: Mapping[str, Any], now: float) -> int:
    """Add a revision of the settings; the tracks keep theirs until they are restarted."""
    last = connection.scalar(
        select(func.max(t.settings.c.revision)).where(t.settings.c.session_id == session_id)
    )
    revision = int(last or 0) + 1
    connection.execute(
        insert(t.settings).values(
            session_id=session_id, revision=revision, saved_at=now, document=dict(document)
        )
    )
    update_session(connection, session_id, revision=revision)
    return revision


def settings_document(connection: Connection, session_id: int, revision: int) -> dict[str, Any]:
    """Give one revision of the settings."""
    query = select(t.settings.c.document).where(
        t.settings.c.session_id == session_id, t.settings.c.revision == revision
    )
    document = connection.scalar(query)
    if document is None:
        raise TomoflyError(f"Session {session_id} has no settings of revision {revision}")
    return dict(document)


def settings_revisions(connection: Connection, session_id: int) -> list[tuple[int, float]]:
    """Give number and time of every revision, oldest first."""
    query = select(t.settings.c.revision, t.settings.c.saved_at).where(t.settings.c.session_id == session_id)
    return [(row[0], row[1]) for row in connection.execute(query.order_by(t.settings.c.revision))]


def list_tracks(connection: Connection, session_id: int) -> list[TrackRow]:
    """Give the tracks of a session."""
    query = select(t.tracks).where(t.tracks.c.session_id == session_id)
    return [
        TrackRow(row["name"], row["desired"], row["revision"], row["clear_requested"], row["paused"])
        for row in connection.execute(query).mappings()
    ]


def update_tracks(
    connection: Connection, session_id: int, names: Iterable[str] | None = None, **values: Any
) -> None:
    """Write columns of some tracks, or of all."""
    query = update(t.tracks).where(t.tracks.c.session_id == session_id)
    if names is not None:
        query = query.where(t.tracks.c.name.in_(list(names)))
    connection.execute(query.values(**values))


def add_tracks(connection: Connection, session_id: int, names: Iterable[str], revision: int) -> None:
    """Add tracks that newly installed stages brought."""
    rows = [{"session_id": session_id, "name": n, "desired": "running", "revision": revision} for n in names]
    if rows:
        connection.execute(insert(t.tracks), rows)


def raise_alert(
    connection: Connection, session_id: int, code: str, message: str, now: float, *, item_key: str = "",
    level: str = "warning",
) -> None:  # fmt: skip
    """Add an alert, unless one of this code and item is still standing."""
    standing = select(t.alerts.c.id).where(
        t.alerts.c.session_id == session_id,
        t.alerts.c.code == code,
        t.alerts.c.item_key == item_key,
        t.alerts.c.ended_at.is_(None),
    )
    if connection.scalar(standing) is None:
        connection.execute(
            insert(t.alerts).values(
                session_id=session_id, at=now, level=level, code=code, message=message, item_key=item_key
            )
        )


def end_alert(connection: Connection, session_id: int, code: str, now: float) -> None:
    """Say that the cause of an alert is gone."""
    connection.execute(
        update(t.alerts)
        .where(t.alerts.c.session_id == session_id, t.alerts.c.code == code, t.alerts.c.ended_at.is_(None))
        .values(ended_at=now)
    )


def keep_alerts(
    connection: Connection, session_id: int, code: str, messages: Mapping[str, str], now: float
) -> None:
    """Have just these alerts of a code stand, by the key of what they are about; the others have ended."""
    a = t.alerts.c
    mine = and_(a.session_id == session_id, a.code == code, a.ended_at.is_(None))
    standing = {row[0]: row[1] for row in connection.execute(select(a.item_key, a.message).where(mine))}
    ended = [key for key, message in standing.items() if messages.get(key) != message]
    if ended:
        connection.execute(update(t.alerts).where(mine, a.item_key.in_(ended)).values(ended_at=now))
    for key, message in messages.items():
        raise_alert(connection, session_id, code, message, now, item_key=key)


def list_alerts(connection: Connection, session_id: int, limit: int = 20) -> list[RowMapping]:
    """Give the newest alerts first."""
    query = select(t.alerts).where(t.alerts.c.session_id == session_id).order_by(t.alerts.c.id.desc())
    return list(connection.execute(query.limit(limit)).mappings())
