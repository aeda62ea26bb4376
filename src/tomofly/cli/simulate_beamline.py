"""``tomofly simulate scan`` and ``beamline``: X-ray tomography with known truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli.options import pair
from tomofly.cli.output import tell

if TYPE_CHECKING:
    from tomofly.simulate.beamline import BeamlineConfig
    from tomofly.simulate.beamline.replay import RecordedScan

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
PatternOrNone = Literal["none", "continuous", "back-and-forth", "interlaced", "golden"]
Codec = Literal["none", "lz4", "bslz4", "blosc"]
Dropping = Literal["none", "random", "periodic", "burst"]


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


def beamline(
    prefix: Annotated[str, typer.Option(help="Prefix of motors, shutters, optics and Sim:")] = "2bmb:",
    camera_prefix: Annotated[str, typer.Option(help="Prefix of the camera")] = "2bmSP2:",
    frame_type_pv: Annotated[
        str | None,
        typer.Option(help="PV (Channel Access) that says what frames are; default: the camera's own"),
    ] = None,
    size: SizeOption = "256x256",
    rate: Annotated[float, typer.Option(min=0.001, help="Frames per second")] = 50.0,
    exposure: Annotated[
        float | None, typer.Option(min=0.00001, help="Exposure, s; default: 10 ms, or what the rate leaves")
    ] = None,
    dtype: Annotated[
        Literal["uint8", "uint16", "float32"] | None,
        typer.Option(help="Number type of the pixels; default: uint16, or that of the scan replayed"),
    ] = None,
    codec: Annotated[Codec, typer.Option(help="Compression of the frames")] = "none",
    pattern: Annotated[
        PatternOrNone, typer.Option(help="How the stage turns by itself; none: as its PVs are told")
    ] = "continuous",
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Degrees per second; default: 360 frames in half a turn")
    ] = None,
    acquire: Annotated[bool, typer.Option(help="Take frames from the start on")] = True,
    event_after: EventOption = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="Send a recorded scan: a Data Exchange file, or a folder of TIFF files"),
    ] = None,
    drop: Annotated[
        Literal["none", "random", "periodic", "burst"], typer.Option(help="Lose frames")
    ] = "none",
    drop_share: Annotated[float, typer.Option(min=0, max=1, help="Probability of random losses")] = 0.01,
    drop_period: Annotated[int, typer.Option(min=1, help="Frames from loss to loss")] = 100,
    drop_burst: Annotated[int, typer.Option(min=1, help="Losses in a row of the mode burst")] = 5,
    wrap16: Annotated[bool, typer.Option(help="Ids of 16 bits")] = False,
    first_id: Annotated[int, typer.Option(min=0, help="Id of the first frame")] = 1,
    truth: Annotated[Path | None, typer.Option(help="File for the truth, kept up to date")] = None,
    ca_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of Channel Access")] = None,
    pva_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of PVAccess")] = None,
    network: Annotated[bool, typer.Option(help="Serve the network, not only this computer")] = False,
    centre: CentreOption = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
) -> None:
    """Be a tomography beamline in EPICS: stages, shutter and camera, until SIGINT or SIGTERM."""
    from tomofly.simulate.beamline.network import settle_network

    settle_network(ca_port, pva_port, everywhere=network)
    # Only now: EPICS reads its environment when it is loaded.
    from tomofly.simulate.beamline.beamline import StartOptions
    from tomofly.simulate.beamline.faults import Wishes
    from tomofly.simulate.beamline.names import Names
    from tomofly.simulate.beamline.server import run_beamline

    recorded = _recorded(replay)
    if recorded is not None:
        height, width = recorded.projections.shape[1:]
        size, dtype = f"{height}x{width}", dtype or _pixel_type(recorded)
    more = [f"exposure_s={exposure or min(0.01, 1 / rate)}", *(set_ or [])]
    config = beamline_config(size, dtype or "uint16", centre, event_after, seed, more)
    options = StartOptions(
        rate_hz=rate,
        pattern=pattern,
        speed_deg_s=speed,
        acquire=acquire,
        recorded=recorded,
        wishes=Wishes(
            drop=drop,
            drop_share=drop_share,
            drop_period=drop_period,
            drop_burst=drop_burst,
            wrap_16_bits=wrap16,
            codec=codec,
        ),
        first_id=first_id,
        truth=None if truth is None else truth.expanduser().absolute(),
    )
    run_beamline(config, options, Names(prefix, camera_prefix, frame_type_pv), tell)


def _recorded(replay: Path | None) -> "RecordedScan | None":
    """Read the scan to be replayed, if there is one."""
    from tomofly.simulate.beamline.replay import read_recorded

    return None if replay is None else read_recorded(replay.expanduser())


def _pixel_type(recorded: "RecordedScan") -> Literal["uint8", "uint16", "float32"]:
    """The camera's number type for a recording; what the camera has none for is sent as float32."""
    if recorded.projections.dtype == "uint8":
        return "uint8"
    return "uint16" if recorded.projections.dtype == "uint16" else "float32"


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
