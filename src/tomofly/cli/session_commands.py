"""``tomofly session``: sessions made, looked at and controlled."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomofly.cli import item_commands, tilt_commands
from tomofly.cli.options import (
    HomeOption,
    JsonOption,
    NameArgument,
    OutOption,
    SetOption,
    TrackOption,
)
from tomofly.cli.output import tell, time_text, write_json, write_line, write_table

if TYPE_CHECKING:
    from tomofly.services.sessions import SessionInfo

app = typer.Typer(help="Make, look at and control sessions.", no_args_is_help=True)


@app.command()
def create(
    name: NameArgument,
    kind: Annotated[str, typer.Option(help="Kind of session")] = "spa",
    source: Annotated[str, typer.Option(help="Files to watch, such as '/data/**/*.tiff'")] = "",
    out: OutOption = None,
    set_: SetOption = None,
    group: Annotated[str, typer.Option(help="Group that owns it")] = "",
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a session; `session start` sets it to work."""
    from tomofly.services.home import open_home
    from tomofly.services.sessions import create_session

    lines = [*(set_ or ()), *([f"source.pattern={source}"] if source else ())]
    info = create_session(open_home(home), name, kind=kind, folder=out, assignments=lines, group=group)
    _write_info(info, json, f"Made session '{name}' in {info.folder}")


@app.command("list")
def list_(json: JsonOption = False, home: HomeOption = None) -> None:
    """List all sessions."""
    from tomofly.services.home import open_home
    from tomofly.services.sessions import list_sessions

    found = list_sessions(open_home(home))
    if json:
        write_json([_described(info) for info in found])
    elif not found:
        tell("There are no sessions yet. `tomofly session create` makes one, `tomofly demo spa` shows one.")
    else:
        rows = [(i.row.name, i.row.kind, i.status, time_text(i.row.created_at), i.row.folder) for i in found]
        write_table(("name", "kind", "status", "created", "folder"), rows)


@app.command()
def show(
    name: NameArgument,
    live: Annotated[bool, typer.Option("--live", help="Go on showing it until Ctrl-C")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show how a session is coming along."""
    from tomofly.cli.view import follow_session, write_progress
    from tomofly.services.home import open_home
    from tomofly.services.progress import session_progress

    place = open_home(home)
    if live:
        follow_session(place, name)
        return
    progress = session_progress(place, name)
    write_json(progress.as_json()) if json else write_progress(progress)


@app.command()
def start(
    name: NameArgument, track: TrackOption = None,
    once: Annotated[bool, typer.Option("--once", help="End when all that is there is done")] = False,
    idle_timeout: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without new data")
    ] = None,
    json: JsonOption = False, home: HomeOption = None,
) -> None:  # fmt: skip
    """Start a session in the background, with its newest settings; it outlives the terminal."""
    from tomofly.services.control import start_session
    from tomofly.services.home import open_home

    info = start_session(open_home(home), name, tracks=track, once=once, idle_timeout_s=idle_timeout)
    _write_info(
        info, json, f"Session '{name}' is {info.status}; `tomofly session show --live {name}` follows it"
    )


@app.command()
def stop(
    name: NameArgument, track: TrackOption = None, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Stop a session, or some of its tracks; nothing is lost."""
    from tomofly.services.control import stop_session
    from tomofly.services.home import open_home

    info = stop_session(open_home(home), name, track)
    _write_info(info, json, f"Session '{name}' is {info.status}")


@app.command()
def restart(
    name: NameArgument, track: TrackOption = None, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Put the newest settings in force: redo just what they make stale."""
    from tomofly.services.control import restart_session
    from tomofly.services.home import open_home

    info = restart_session(open_home(home), name, track)
    _write_info(info, json, f"Session '{name}' works with revision {info.row.revision} of its settings")


@app.command()
def clear(
    name: NameArgument,
    track: Annotated[list[str], typer.Option("--track", help="Track whose results are deleted")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete the results of some tracks."""
    from tomofly.services.control import clear_session
    from tomofly.services.home import open_home
    from tomofly.services.sessions import session_info

    place = open_home(home)
    session_info(place, name)
    _confirm(f"Delete all results of {', '.join(track)} in session '{name}'?", yes)
    info = clear_session(place, name, track)
    _write_info(info, json, f"Cleared {', '.join(track)} of session '{name}'")


@app.command()
def copy(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="Name of the new session")],
    out: OutOption = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a session with the settings of another."""
    from tomofly.services.home import open_home
    from tomofly.services.sessions import copy_session

    info = copy_session(open_home(home), name, new_name, out)
    _write_info(info, json, f"Made session '{new_name}' with the settings of '{name}'")


@app.command()
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Forget it but keep its files")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also delete raw data that were moved into it")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete a session and the files that it made."""
    from tomofly.services.home import open_home
    from tomofly.services.sessions import delete_session, session_info

    place = open_home(home)
    session_info(place, name)
    _confirm(f"Delete session '{name}' and what it made?", yes)
    done = delete_session(place, name, keep_files=keep_files, raw=raw)
    if json:
        write_json({"name": done.name, "folder": str(done.folder), "kept": list(done.kept)})
        return
    write_line(f"Deleted session '{name}'")
    for line in done.kept:
        tell(f"kept {line}")


app.command()(item_commands.items)
app.command()(tilt_commands.tilts)
app.command()(item_commands.failures)
app.command()(item_commands.retry)
app.command()(item_commands.exclude)
app.command()(item_commands.include)
app.command()(tilt_commands.process_now)
app.command()(tilt_commands.preview_groups)
app.command()(item_commands.logs)


@app.command()
def settings(
    name: NameArgument, set_: SetOption = None,
    restart: Annotated[bool, typer.Option("--restart", help="Put them in force at once")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="Take all settings from a JSON file")] = None,
    revision: Annotated[int | None, typer.Option(help="Show an earlier revision")] = None,
    home: HomeOption = None,
) -> None:  # fmt: skip
    """Show the settings as JSON, after changing them if asked; a change is a new revision."""
    from tomofly.services.control import restart_session
    from tomofly.services.home import open_home
    from tomofly.services.settings import change_settings, current_settings, list_revisions, replace_settings

    place = open_home(home)
    if file is not None:
        replace_settings(place, name, read_document(file))
    if set_:
        change_settings(place, name, set_)
    if restart:
        restart_session(place, name)
    shown = current_settings(place, name, revision)
    revisions = [asdict(r) for r in list_revisions(place, name)]
    write_json({"revision": revision or revisions[-1]["number"], "revisions": revisions, **shown.document()})
    if (set_ or file) and not restart:
        tell(f"Saved. `tomofly session restart {name}` puts them in force.")


def read_document(file: Path) -> dict[str, Any]:
    """Read settings from a JSON file. Raises TomoflyError."""
    import json

    from tomofly.model import TomoflyError

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TomoflyError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TomoflyError(f"{file} holds no JSON: {error}") from error
    if not isinstance(document, dict):
        raise TomoflyError(f"{file} must hold sections of settings by name")
    return {name: section for name, section in document.items() if name not in ("revision", "revisions")}


def _described(info: "SessionInfo") -> dict[str, Any]:
    row = info.row
    return {
        "name": row.name, "kind": row.kind, "status": info.status, "folder": row.folder,
        "group": row.owner_group,
        "created_at": row.created_at, "revision": row.revision, "note": row.note,
        "tracks": [asdict(track) for track in info.tracks],
    }  # fmt: skip


def _write_info(info: "SessionInfo", json: bool, sentence: str) -> None:
    write_json(_described(info)) if json else write_line(sentence)


def _confirm(question: str, yes: bool) -> None:
    """Ask, where somebody can answer; elsewhere ``--yes`` must have been given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Give --yes to say so.")
    typer.confirm(question, abort=True, err=True)
