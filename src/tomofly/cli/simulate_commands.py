"""``tomofly simulate``: instruments with known truth, to try things on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli import simulate_beamline
from tomofly.cli.options import DetectorOption, SeedOption, pair
from tomofly.cli.output import tell

if TYPE_CHECKING:
    from tomofly.simulate import SpaMicroscope
    from tomofly.simulate.tilt_faults import Fault
    from tomofly.simulate.tilt_microscope import TiltSeriesConfig

MOVIE_SUFFIXES = {".mrc", ".mrcs", ".st", ".tif", ".tiff", ".eer"}

FolderOption = Annotated[Path, typer.Option("--out", help="Folder to write to", show_default=False)]
FormatOption = Annotated[Literal["mrc", "tiff"], typer.Option("--format", help="File format")]
WritingOption = Annotated[Literal["grow", "rename", "whole"], typer.Option(help="How a file comes to be")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Another number of the microscope: name=value")
]

app = typer.Typer(help="Write data as an instrument does, with the truth beside them.", no_args_is_help=True)


app.command("scan")(simulate_beamline.scan)
app.command("beamline")(simulate_beamline.beamline)


@app.callback()
def group() -> None:
    """Write data as an instrument does, with the truth beside them."""


@app.command()
def spa(
    out: FolderOption,
    items: Annotated[int, typer.Option(min=1, help="Movies to write")] = 10,
    pace: Annotated[float, typer.Option(min=0, help="Seconds from one movie to the next")] = 0.0,
    detector: DetectorOption = "1024x1024",
    frames: Annotated[int, typer.Option(min=1, help="Frames of a movie")] = 20,
    seed: SeedOption = 0,
    start: Annotated[
        int | None, typer.Option(min=0, help="Number of the first movie, also where there are movies already")
    ] = None,
    layout: Annotated[Literal["flat", "epu"], typer.Option(help="Folders and names")] = "flat",
    file_format: FormatOption = "mrc",
    writing: WritingOption = "grow",
    set_: SetOption = None,
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


@app.command()
def tomo(
    out: FolderOption,
    items: Annotated[int, typer.Option(min=1, help="Tilt series to write")] = 1,
    pace: Annotated[float, typer.Option(min=0, help="Seconds from one tilt to the next")] = 0.0,
    detector: DetectorOption = "512x512",
    pixel: Annotated[float, typer.Option(min=0.2, help="Pixel on the specimen, Å")] = 10.0,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a tilt's movie")] = 8,
    seed: SeedOption = 0,
    start: Annotated[
        int | None, typer.Option(min=1, help="Number of the first series, also where there are some already")
    ] = None,
    name: Annotated[str, typer.Option(help="What names of series begin with")] = "TS",
    layout: Annotated[
        Literal["serialem", "pacetomo", "tomo5", "names", "stack"],
        typer.Option(help="Whose names and mdoc; names: no mdoc; stack: one file per series, and .rawtlt"),
    ] = "serialem",
    file_format: FormatOption = "mrc",
    writing: WritingOption = "grow",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", help="kind:series:tilt, such as dark:1:3, or late:1:7:40; can be given again"
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Be a microscope that tilts: write tilt movies and mdoc files of a specimen that is known."""
    from tomofly.model import TomoflyError
    from tomofly.simulate import TRUTH_SUFFIX
    from tomofly.simulate.tilt_plan import Shot
    from tomofly.simulate.tilt_writing import write_tilt_session

    def told(path: Path, shot: Shot) -> None:
        tell(f"wrote {path} ({shot.series.key}, {shot.series.reported_deg[shot.tilt]:.1f}°)")

    microscope = tilt_microscope(detector, pixel, frames, seed, set_ or [])
    faults = tuple(_read_fault(text) for text in fault or [])
    folder = writable_folder(out)
    if start is None:
        _refuse_movies(folder, next_number=1 + len(list(folder.glob(f"*{TRUTH_SUFFIX}"))))
    try:
        write_tilt_session(
            microscope, folder, items, pace_s=pace, layout=layout, file_format=file_format, writing=writing,
            name=name, faults=faults, first=start or 1, on_written=told,
        )  # fmt: skip
    except ValueError as error:
        raise TomoflyError(
            f"A fault cannot be had: {error}", "Name a series and a tilt of this run"
        ) from None


def tilt_microscope(
    detector: str, pixel: float, frames: int, seed: int, assignments: list[str]
) -> "TiltSeriesConfig":
    """Make the microscope that the options describe. Raises TomoflyError with what is legal."""
    from tomofly.cli.instrument import make_instrument
    from tomofly.simulate.tilt_microscope import TiltSeriesConfig

    values: dict[str, object] = {
        "detector_yx_px": pair(detector, "the detector"),
        "pixel_size_angstrom": pixel,
        "frames": frames,
        "seed": seed,
    }
    return make_instrument(TiltSeriesConfig, "microscope", values, assignments)


def _read_fault(text: str) -> "Fault":
    """Read a fault. Raises TomoflyError with what is legal."""
    from tomofly.model import TomoflyError
    from tomofly.simulate.tilt_faults import FAULT_KINDS, parse_fault

    try:
        return parse_fault(text)
    except ValueError as error:
        raise TomoflyError(str(error), f"Kinds are: {', '.join(FAULT_KINDS)}") from None


def spa_microscope(detector: str, frames: int, seed: int, assignments: list[str]) -> "SpaMicroscope":
    """Make the microscope that the options describe. Raises TomoflyError with what is legal."""
    from tomofly.cli.instrument import make_instrument
    from tomofly.simulate import SpaMicroscope

    values: dict[str, object] = {
        "detector_yx_px": pair(detector, "the detector"),
        "frames": frames,
        "seed": seed,
    }
    return make_instrument(SpaMicroscope, "microscope", values, assignments)


def _refuse_movies(folder: Path, next_number: int | None = None) -> None:
    """Movies that are there must not be written over nor mixed with new ones. Raises TomoflyError.

    `next_number` is that of the next item where items are not movies.
    """
    from tomofly.model import TomoflyError
    from tomofly.simulate import GAIN_FILE

    images = (path for path in folder.rglob("*") if path.suffix.lower() in MOVIE_SUFFIXES)
    earlier = sum(1 for path in images if path.parent.name != GAIN_FILE.parent.name)
    if earlier:
        raise TomoflyError(
            f"The folder {folder} holds {earlier} movies already",
            f"Name a new folder, or go on numbering with --start {next_number or earlier}",
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
