"""``tomofly settings``: what can be set, and to what."""

from typing import Annotated

import typer

from tomofly.cli.output import write_json

app = typer.Typer(help="What can be set for a kind of session.", no_args_is_help=True)

KindArgument = Annotated[str, typer.Argument(help="Kind of session, such as spa")]


@app.command()
def schema(kind: KindArgument = "spa") -> None:
    """Write the JSON schema of the settings: names, units, ranges, defaults, help."""
    from tomofly.services.settings import settings_schema

    write_json(settings_schema(kind))


@app.command()
def defaults(kind: KindArgument = "spa") -> None:
    """Write the default settings as JSON."""
    from tomofly.services.settings import default_settings

    write_json(default_settings(kind))
