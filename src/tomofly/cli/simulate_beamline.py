"""``tomofly simulate scan`` and ``beamline``: X-ray tomography with known truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli.options import SeedOption, pair
from tomofly.cli.output import tell

if TYPE_CHECKING:
    from tomofly.simulate.beamline import BeamlineConfig
    from tomofly.simulate.beamline.replay import RecordedScan

PixelType = Literal["uint8", "uint16", "float32"]
Pattern = Literal["continuous", "back-and-forth", "interlaced", "golden"]
PatternOrNone = Literal["none", "continuous", "back-and-forth", "interlaced", "golden"]

SizeOption = Annotated[str, typer.Option("--size", help="Pixels of the camera, height x width")]
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

# What only `scan` has.
OutOption = Annotated[Path, typer.Option("--out", help="File to write, such as scan.h5", show_default=False)]
ProjectionsOption = Annotated[int, typer.Option(min=1, help="Projections")]
FlatsOption = Annotated[int, typer.Option(min=0, help="Flat fields, taken before")]
DarksOption = Annotated[int, typer.Option(min=0, help="Dark fields, taken before")]
SpanOption = Annotated[float, typer.Option(help="Degrees that the projections cover, the end left out")]
StartOption = Annotated[float, typer.Option(help="Angle of the first projection, degrees")]
ScanRateOption = Annotated[float, typer.Option(min=0.001, help="Projections per second")]
OrderOption = Annotated[Pattern, typer.Option(help="Order of the angles")]
FormatOption = Annotated[Literal["dx", "nxtomo"], typer.Option("--format", help="Layout")]
TypeOption = Annotated[PixelType, typer.Option(help="Number type of the pixels")]

# What only `beamline` has: its names, its camera, its stage, what is lost, where it serves.
PrefixOption = Annotated[str, typer.Option(help="Prefix of motors, shutters, optics and Sim:")]
CameraPrefixOption = Annotated[str, typer.Option(help="Prefix of the camera")]
FrameTypeOption = Annotated[
    str | None,
    typer.Option(help="PV (Channel Access) that says what frames are; default: the camera's own"),
]
RateOption = Annotated[float, typer.Option(min=0.001, help="Frames per second")]
ExposureOption = Annotated[
    float | None, typer.Option(min=0.00001, help="Exposure, s; default: 10 ms, or what the rate leaves")
]
TypeOrReplayedOption = Annotated[
    PixelType | None,
    typer.Option(help="Number type of the pixels; default: uint16, or that of the scan replayed"),
]
CodecOption = Annotated[
    Literal["none", "lz4", "bslz4", "blosc"], typer.Option(help="Compression of the frames")
]
AcquireOption = Annotated[bool, typer.Option(help="Take frames from the start on")]
ReplayOption = Annotated[
    Path | None, typer.Option(help="Send a recorded scan: a Data Exchange file, or a folder of TIFF files")
]
TurningOption = Annotated[
    PatternOrNone, typer.Option(help="How the stage turns by itself; none: as its PVs are told")
]
SpeedOption = Annotated[
    float | None, typer.Option(min=0.001, help="Degrees per second; default: 360 frames in half a turn")
]
DropOption = Annotated[Literal["none", "random", "periodic", "burst"], typer.Option(help="Lose frames")]
DropShareOption = Annotated[float, typer.Option(min=0, max=1, help="Probability of random losses")]
DropPeriodOption = Annotated[int, typer.Option(min=1, help="Frames from loss to loss")]
DropBurstOption = Annotated[int, typer.Option(min=1, help="Losses in a row of the mode burst")]
WrapOption = Annotated[bool, typer.Option(help="Ids of 16 bits")]
FirstIdOption = Annotated[int, typer.Option(min=0, help="Id of the first frame")]
TruthOption = Annotated[Path | None, typer.Option(help="File for the truth, kept up to date")]
CaPortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of Channel Access")]
PvaPortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of PVAccess")]
NetworkOption = Annotated[bool, typer.Option(help="Serve the network, not only this computer")]


def scan(
    out: OutOption,
    size: SizeOption = "256x256",
    projections: ProjectionsOption = 180,
    flats: FlatsOption = 20,
    darks: DarksOption = 20,
    span: SpanOption = 180.0,
    start: StartOption = 0.0,
    rate: ScanRateOption = 50.0,
    pattern: OrderOption = "continuous",
    event_after: EventOption = None,
    file_format: FormatOption = "dx",
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
    prefix: PrefixOption = "2bmb:",
    camera_prefix: CameraPrefixOption = "2bmSP2:",
    frame_type_pv: FrameTypeOption = None,
    size: SizeOption = "256x256",
    rate: RateOption = 50.0,
    exposure: ExposureOption = None,
    dtype: TypeOrReplayedOption = None,
    codec: CodecOption = "none",
    pattern: TurningOption = "continuous",
    speed: SpeedOption = None,
    acquire: AcquireOption = True,
    event_after: EventOption = None,
    replay: ReplayOption = None,
    drop: DropOption = "none",
    drop_share: DropShareOption = 0.01,
    drop_period: DropPeriodOption = 100,
    drop_burst: DropBurstOption = 5,
    wrap16: WrapOption = False,
    first_id: FirstIdOption = 1,
    truth: TruthOption = None,
    ca_port: CaPortOption = None,
    pva_port: PvaPortOption = None,
    network: NetworkOption = False,
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
            drop=drop, drop_share=drop_share, drop_period=drop_period, drop_burst=drop_burst,
            wrap_16_bits=wrap16, codec=codec,
        ),
        first_id=first_id,
        truth=None if truth is None else truth.expanduser().absolute(),
    )  # fmt: skip
    run_beamline(config, options, Names(prefix, camera_prefix, frame_type_pv), tell)


def _recorded(replay: Path | None) -> "RecordedScan | None":
    """Read the scan to be replayed, if there is one."""
    from tomofly.simulate.beamline.replay import read_recorded

    return None if replay is None else read_recorded(replay.expanduser())


def _pixel_type(recorded: "RecordedScan") -> PixelType:
    """The camera's number type for a recording; what the camera has none for is sent as float32."""
    if recorded.projections.dtype == "uint8":
        return "uint8"
    return "uint16" if recorded.projections.dtype == "uint16" else "float32"


def beamline_config(
    size: str, dtype: str, centre: float | None, event_after: float | None, seed: int, assignments: list[str]
) -> "BeamlineConfig":
    """Make the beamline that the options describe. Raises TomoflyError with what is legal."""
    from tomofly.cli.instrument import make_instrument
    from tomofly.simulate.beamline import BeamlineConfig

    values: dict[str, object] = {
        "detector_yx_px": pair(size, "the size"),
        "dtype": dtype,
        "centre_px": centre,
        "event_after_s": event_after,
        "seed": seed,
    }
    return make_instrument(BeamlineConfig, "beamline", values, assignments)
