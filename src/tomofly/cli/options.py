"""The options that several commands share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Where sessions and the database are; default: TOMOFLY_HOME, or ~/.tomofly"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON value to standard output")]
NameArgument = Annotated[str, typer.Argument(help="Name of the session", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: section.name=value; can be given again"),
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option("--track", help="Only this track; can be given again", show_default=False),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", help='Such as "fit_resolution_angstrom<6"; can be given again'),
]
DetectorOption = Annotated[str, typer.Option(help="Pixels, height x width")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random follows from this")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write to", show_default=False)]
KeysArgument = Annotated[list[str], typer.Argument(help="Keys of items", show_default=False)]
TiltsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tilts", help="Tilts of the one series given: by order of exposure (3, 5-8), angle (-57deg) or name"
    ),
]


def pair(text: str, what: str) -> tuple[int, int]:
    """Read a size such as ``1024x1024``, height first."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"{what} is written like 1024x1024, not {text!r}")
    return int(parts[0]), int(parts[1])
