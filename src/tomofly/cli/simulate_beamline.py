"""``tomofly simulate scan``: X-ray tomography with known truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli.options import pair
from tomofly.cli.output import tell

if TYPE_CHECKING:
    from tomofly.simulate.beamline import BeamlineConfig

SizeOption = Annotated[str, typer.Option("--size", help="Pixels of the camera, height x width")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random follows from this")]
TypeOption = Annotated[Literal["uint8", "uint16", "float32"], typer.Option(help="Number type of the pixels")]
CentreOption = Annotated[
    float | None, typer.Option(help="Rotation centre, from the middle of the first pixel; default: 3 % off")
]
EventOption = Annotated[
    float | None,
    typer.Option(help="Seconds after which the crack begins to open; default: never", show_default=False),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Another number of the beamline: name=value")
]
Pattern = Literal["continuous", "back-and-forth", "interlaced", "golden"]


def scan(
    out: Annotated[Path, typer.Option("--out", help="File to write, such as scan.h5", show_default=False)],
    size: SizeOption = "256x256",
    projections: Annotated[int, typer.Option(min=1, help="Projections")] = 180,
    flats: Annotated[int, typer.Option(min=0, help="Flat fields, taken before")] = 20,
    darks: Annotated[int, typer.Option(min=0, help="Dark fields, taken before")] = 20,
    span: Annotated[float, typer.Option(help="Degrees that the projections cover, the end left out")] = 180.0,
    start: Annotated[float, typer.Option(help="Angle of the first projection, degrees")] = 0.0,
    rate: Annotated[float, typer.Option(min=0.001, help="Projections per second")] = 50.0,
    pattern: Annotated[Pattern, typer.Option(help="Order of the angles")] = "continuous",
    event_after: EventOption = None,
    file_format: Annotated[Literal["dx", "nxtomo"], typer.Option("--format", help="Layout")] = "dx",
    dtype: TypeOption = "uint16",
    centre: CentreOption = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
) -> None:
    """Write one scan of a sample that is known, at once, and its truth beside it."""
    from tomofly.model import TomoflyError
    from tomofly.simulate.beamline import ScanPlan, write_scan

    config = beamline_config(size, dtype, centre, event_after, seed, set_ or [])
    path = out.expanduser().absolute()
    if path.exists():
        raise TomoflyError(f"The file {path} exists", "Name a new one with --out")
    plan = ScanPlan(projections, flats, darks, span, start, rate, pattern)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        truth = write_scan(config, path, plan, file_format=file_format)
    except OSError as error:
        raise TomoflyError(
            f"The scan {path} cannot be written: {error}", "Name another place with --out"
        ) from error
    tell(f"wrote {path} ({projections} projections, centre {truth.centre_px:.3f} px)")


def beamline_config(
    size: str, dtype: str, centre: float | None, event_after: float | None, seed: int, assignments: list[str]
) -> "BeamlineConfig":
    """Make the beamline that the options describe. Raises TomoflyError with what is legal."""
    import json

    from pydantic import ValidationError

    from tomofly.model import TomoflyError
    from tomofly.simulate.beamline import BeamlineConfig

    values: dict[str, object] = {
        "detector_yx_px": pair(size, "the size"),
        "dtype": dtype,
        "centre_px": centre,
        "event_after_s": event_after,
        "seed": seed,
    }
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise TomoflyError(f"'{assignment}' is no setting of the beamline", "Write it as name=value")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text
    try:
        return BeamlineConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "The beamline"
        legal = ", ".join(BeamlineConfig.model_fields)
        raise TomoflyError(f"{where}: {first['msg']}", f"Names are: {legal}") from None
