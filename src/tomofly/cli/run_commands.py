"""``tomofly run``: a session made or taken up again in a folder, and run here until it ends."""

from pathlib import Path
from typing import Annotated

import typer

from tomofly.cli.options import HomeOption, JsonOption, SetOption


def run(
    kind: Annotated[str, typer.Argument(help="Kind of session: spa, tomo, xct, or one of another package")],
    source: Annotated[
        str, typer.Option(help="Files to watch, such as '/data/**/*.tiff'", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the session", show_default=False)],
    set_: SetOption = None,
    once: Annotated[bool, typer.Option("--once", help="End when all that is there is done")] = False,
    idle_timeout: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without new data")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the session; default: that of the folder")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Process data as they arrive, here in this terminal. Ctrl-C stops; the same command goes on."""
    from tomofly.cli.running import RunRequest, open_session, run_here
    from tomofly.flow.conductor import RunOptions
    from tomofly.services.home import open_home

    if once and idle_timeout is not None:
        raise typer.BadParameter("Give either --once or --idle-timeout")
    place = open_home(home)
    session = open_session(place, out, kind, [f"source.pattern={source}", *(set_ or ())], name)
    request = RunRequest(RunOptions(once, idle_timeout), plain or json, json)
    raise typer.Exit(run_here(place, session, request))
