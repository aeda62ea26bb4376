"""Start, stop, restart, clear: wishes written to the database; the session's own process carries them out."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from tomofly.flow.engine import Engine, Scope
from tomofly.flow.folder import only_conductor
from tomofly.flow.graph import Workflow
from tomofly.flow.workflows import workflow_of
from tomofly.model import TomoflyError
from tomofly.services.home import DATABASE_VARIABLE, Home
from tomofly.services.sessions import (
    SessionInfo,
    make_folder,
    raw_tracks,
    session_info,
    write_session_file,
)
from tomofly.services.settings import settings_in_force
from tomofly.services.status import is_alive
from tomofly.store import SessionRow, planning, requests, retry_while_locked, sessions

CONDUCTOR_LOG = "conductor.log"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
LOOK_AGAIN_S = 0.1


def start_session(
    home: Home, name: str, *, tracks: Sequence[str] | None = None, once: bool = False,
    idle_timeout_s: float | None = None,
) -> SessionInfo:  # fmt: skip
    """Start a session in a process of its own, which outlives the terminal, with its newest settings.

    ``tracks`` starts only those; the others stay as they are. Returns when the process reports that it is
    at work. Raises TomoflyError when it is running already or ends at once.
    """
    info = session_info(home, name)
    if is_alive(info.row, time.time()):
        if tracks is None:
            raise TomoflyError(f"Session '{name}' is running already", "To use new settings, restart it")
        _write_tracks(home, info, tracks, desired="running")
        return session_info(home, name)
    put_in_force(home, name, tracks)
    # From here on a stop is obeyed, also while the process is on its way.
    _write_session(home, info.row.id, desired="running")
    process = _launch(home, info, once, idle_timeout_s)
    # Somebody must take in the exit status, or an ended process would look alive.
    threading.Thread(target=process.wait, name=f"session {name}", daemon=True).start()
    _await_start(home, info, process)
    return session_info(home, name)


def put_in_force(home: Home, name: str, tracks: Sequence[str] | None = None) -> None:
    """Put the newest settings in force on some tracks, or on all, and have those run."""
    info = session_info(home, name)
    _write_tracks(home, info, tracks, desired="running", revision=info.row.revision)
    write_session_file(home, name)


def stop_session(home: Home, name: str, tracks: Sequence[str] | None = None) -> SessionInfo:
    """Stop a session, or only some of its tracks; results are kept and what ran is queued again."""
    info = session_info(home, name)
    if tracks is not None:
        _write_tracks(home, info, tracks, desired="stopped")
        return session_info(home, name)
    alive = is_alive(info.row, time.time())
    wish: dict[str, object] = {"desired": "stopped"}
    if not alive and info.row.state == "running":
        wish["state"] = "stopped"
    _write_session(home, info.row.id, **wish)
    if alive:
        _wait(lambda: session_info(home, name).row.state != "running", STOP_TIMEOUT_S, f"Session '{name}'")
    return session_info(home, name)


def restart_session(home: Home, name: str, tracks: Sequence[str] | None = None) -> SessionInfo:
    """Put the newest settings in force: what they make stale is made again, everything else is kept."""
    info = session_info(home, name)
    if not is_alive(info.row, time.time()):
        return start_session(home, name, tracks=tracks)
    put_in_force(home, name, tracks)
    return session_info(home, name)


def clear_session(home: Home, name: str, tracks: Sequence[str]) -> SessionInfo:
    """Delete the results of some tracks. A running session then makes them again.

    Raises TomoflyError for a transfer that moves: its results are the only copy of the raw data.
    """
    info = session_info(home, name)
    _require_tracks(info, tracks)
    held = sorted(raw_tracks(home, name) & set(tracks))
    if held:
        raise TomoflyError(
            f"Track '{held[0]}' of session '{name}' has moved raw data: clearing would delete the only copy",
            "Clear the other tracks",
        )
    if is_alive(info.row, time.time()):
        _write_tracks(home, info, tracks, clear_requested=True)
    else:
        _clear_now(home, info, tracks)
    return session_info(home, name)


def _clear_now(home: Home, info: SessionInfo, tracks: Sequence[str]) -> None:
    workflow = workflow_of(info.row.kind)
    with home.database.read() as connection:
        settings = settings_in_force(connection, info.row, workflow)
    with only_conductor(info.folder, f"clearing by process {os.getpid()}"):
        engine = Engine(home.database, Scope(info.row.id, workflow, info.folder), settings)
        engine.clear([stage.name for stage in workflow.stages if stage.track in tracks])


def retry_failed(home: Home, name: str, keys: Sequence[str] | None = None) -> int:
    """Have failed tasks tried again, all or those of the items with these keys; give how many."""

    def work() -> int:
        with home.database.begin() as connection:
            session = sessions.find_session(connection, name)
            ids = None
            if keys is not None:
                found = requests.find_items(connection, session.id, keys)
                require_keys(keys, found)
                ids = [item for items in found.values() for item in items]
            return requests.retry_failed(connection, session.id, ids)

    return retry_while_locked(work)


def exclude_items(home: Home, name: str, keys: Sequence[str], reason: str) -> int:
    """Leave items out of exports, groups and folds, saying why; give how many."""
    if not reason.strip():
        raise TomoflyError("Leaving items out needs a reason", "Give one with --reason")
    return _mark_items(home, name, keys, reason.strip())


def include_items(home: Home, name: str, keys: Sequence[str]) -> int:
    """Take items in again that were left out; give how many."""
    return _mark_items(home, name, keys, "")


def _mark_items(home: Home, name: str, keys: Sequence[str], reason: str) -> int:
    def work() -> int:
        with home.database.begin() as connection:
            session = sessions.find_session(connection, name)
            found = requests.find_items(connection, session.id, keys)
            require_keys(keys, found)
            ids = _main_items(connection, workflow_of(session.kind), found)
            requests.set_excluded(connection, ids, reason)
            return len(ids)

    return retry_while_locked(work)


def _main_items(connection: Connection, workflow: Workflow, found: Mapping[str, Sequence[int]]) -> list[int]:
    """Of items of one key, such as a stack and the series that it is, take those that people look at."""
    several = [item for items in found.values() if len(items) > 1 for item in items]
    rows = planning.items_by_id(connection, several)
    aside = {item for item, row in rows.items() if row["kind"] != workflow.main_kind}
    return [item for items in found.values() for item in items if item not in aside]


def require_keys(keys: Sequence[str], found: object) -> None:
    """Raise TomoflyError naming the first key that no item has."""
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise TomoflyError(f"There is no item '{missing[0]}'", "`tomofly session items` lists them")


def _require_tracks(info: SessionInfo, tracks: Sequence[str]) -> None:
    legal = [track.name for track in info.tracks]
    for track in tracks:
        if track not in legal:
            raise TomoflyError(f"There is no track '{track}'", f"Legal are: {', '.join(legal)}")


def _write_tracks(home: Home, info: SessionInfo, tracks: Sequence[str] | None, **values: object) -> None:
    _require_tracks(info, tracks or ())

    def work() -> None:
        with home.database.begin() as connection:
            sessions.update_tracks(connection, info.row.id, tracks, **values)

    retry_while_locked(work)


def _write_session(home: Home, session_id: int, **values: object) -> None:
    def work() -> None:
        with home.database.begin() as connection:
            sessions.update_session(connection, session_id, **values)

    retry_while_locked(work)


def _launch(
    home: Home, info: SessionInfo, once: bool, idle_timeout_s: float | None
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tomofly.flow.process", str(info.row.id), "--if-wanted"]
    command += ["--once"] if once else []
    command += ["--idle-timeout", str(idle_timeout_s)] if idle_timeout_s is not None else []
    make_folder(info.folder)
    with (info.folder / CONDUCTOR_LOG).open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            cwd=info.folder, env={**os.environ, DATABASE_VARIABLE: home.database_url},
        )  # fmt: skip


def _await_start(home: Home, before: SessionInfo, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the new process has reported, or ended."""

    def settled() -> bool:
        row = session_info(home, before.row.name).row
        return process.poll() is not None or row.conductor.endswith(f":{process.pid}")

    _wait(settled, START_TIMEOUT_S, f"Session '{before.row.name}'")
    if process.poll() not in (None, 0):
        raise TomoflyError(
            f"Session '{before.row.name}' could not be started: {_last_line(before.folder / CONDUCTOR_LOG)}",
            f"The whole log is in {before.folder / CONDUCTOR_LOG}",
        )


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "no log was written"
    return lines[-1] if lines else "no log was written"


def _wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TomoflyError(f"{what} has not answered for {timeout_s:.0f} s", "Look at its log")
        time.sleep(LOOK_AGAIN_S)


def session_alive(row: SessionRow) -> bool:
    """Say whether a session's process is at work now."""
    return is_alive(row, time.time())
