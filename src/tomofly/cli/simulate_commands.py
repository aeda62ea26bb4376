"""``tomofly simulate``: instruments with known truth, to try things on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli.options import pair
from tomofly.cli.output import tell

if TYPE_CHECKING:
    from tomofly.simulate import SpaMicroscope

MOVIE_SUFFIXES = {".mrc", ".mrcs", ".tif", ".tiff", ".eer"}

app = typer.Typer(help="Write data as an instrument does, with the truth beside them.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write data as an instrument does, with the truth beside them."""


@app.command()
def spa(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to", show_default=False)],
    items: Annotated[int, typer.Option(min=1, help="Movies to write")] = 10,
    pace: Annotated[float, typer.Option(min=0, help="Seconds from one movie to the next")] = 0.0,
    detector: Annotated[str, typer.Option(help="Pixels, height x width")] = "1024x1024",
    frames: Annotated[int, typer.Option(min=1, help="Frames of a movie")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from this")] = 0,
    start: Annotated[
        int | None, typer.Option(min=0, help="Number of the first movie, also where there are movies already")
    ] = None,
    layout: Annotated[Literal["flat", "epu"], typer.Option(help="Folders and names")] = "flat",
    file_format: Annotated[Literal["mrc", "tiff"], typer.Option("--format", help="File format")] = "mrc",
    writing: Annotated[
        Literal["grow", "rename", "whole"], typer.Option(help="How a file comes to be")
    ] = "grow",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another number of the microscope: name=value")
    ] = None,
) -> None:
    """Be a single-particle microscope: write movies with known motion, CTF and particles."""
    from tomofly.simulate import Truth, write_session

    def told(path: Path, truth: Truth) -> None:
        tell(f"wrote {path} ({len(truth.particles)} particles)")

    microscope = spa_microscope(detector, frames, seed, set_ or [])
    folder = writable_folder(out)
    if start is None:
        _refuse_movies(folder)
    write_session(
        microscope, folder, items, pace_s=pace, layout=layout, file_format=file_format, writing=writing,
        start=start or 0, on_written=told,
    )  # fmt: skip


def spa_microscope(detector: str, frames: int, seed: int, assignments: list[str]) -> "SpaMicroscope":
    """Make the microscope that the options describe. Raises TomoflyError with what is legal."""
    import json

    from pydantic import ValidationError

    from tomofly import simulate
    from tomofly.model import TomoflyError

    values: dict[str, object] = {
        "detector_yx_px": pair(detector, "the detector"),
        "frames": frames,
        "seed": seed,
    }
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise TomoflyError(f"'{assignment}' is no setting of the microscope", "Write it as name=value")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text
    try:
        return simulate.SpaMicroscope.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "The microscope"
        legal = ", ".join(simulate.SpaMicroscope.model_fields)
        raise TomoflyError(f"{where}: {first['msg']}", f"Names are: {legal}") from None


def _refuse_movies(folder: Path) -> None:
    """Movies that are there must not be written over nor mixed with new ones. Raises TomoflyError."""
    from tomofly.model import TomoflyError
    from tomofly.simulate import GAIN_FILE

    images = (path for path in folder.rglob("*") if path.suffix.lower() in MOVIE_SUFFIXES)
    earlier = sum(1 for path in images if path.parent.name != GAIN_FILE.parent.name)
    if earlier:
        raise TomoflyError(
            f"The folder {folder} holds {earlier} movies already",
            f"Name a new folder, or go on numbering with --start {earlier}",
        )


def writable_folder(out: Path) -> Path:
    """Make the folder to write to, or say why not."""
    from tomofly.model import TomoflyError

    folder = out.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TomoflyError(f"The folder {folder} cannot be made: {error.strerror}", "Name another") from error
    return folder
