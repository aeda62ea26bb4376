"""The command ``tomofly``: its groups of commands, and how it ends."""

import os
import sys
from typing import Annotated

import typer

from tomofly._version import __version__
from tomofly.cli import (
    demo_commands,
    export_commands,
    live_commands,
    run_commands,
    session_commands,
    settings_commands,
    simulate_commands,
    stage_commands,
)

DEBUG_VARIABLE = "TOMOFLY_DEBUG"
INTERRUPTED = 130

app = typer.Typer(
    name="tomofly",
    help="Process electron and X-ray tomography data while the instrument is still collecting them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(demo_commands.app, name="demo")
app.add_typer(live_commands.app, name="live")
app.add_typer(session_commands.app, name="session")
app.add_typer(settings_commands.app, name="settings")
app.add_typer(simulate_commands.app, name="simulate")
app.command("run")(run_commands.run)
app.command("export")(export_commands.export)
session_commands.app.command("export")(export_commands.export)
app.command("stages")(stage_commands.stages)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tomofly {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version")
    ] = False,
) -> None:
    """Process electron and X-ray tomography data while the instrument is still collecting them."""


def main() -> None:
    """Run the command line. Errors become one or two plain lines; TOMOFLY_DEBUG=1 shows where they arose."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has gone; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        sys.exit(_explained(error))


def _explained(error: Exception) -> str:
    """Say what happened and what to do; the text goes to standard error, and the status is 1."""
    from tomofly.model import TomoflyError

    if isinstance(error, TomoflyError):
        return "tomofly: " + "\n".join(error.sentences)
    return f"tomofly: {type(error).__name__}: {error}\nSet {DEBUG_VARIABLE}=1 to see where it arose."


if __name__ == "__main__":
    main()
