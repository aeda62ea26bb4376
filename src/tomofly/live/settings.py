"""Settings of the live program: one TOML file, checked whole before anything starts."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tomofly.live.triggers.settings import TriggerSettings
from tomofly.model import TomoflyError

Put = tuple[str, str]
"""Name of a PV and the value to put, as text."""


class Section(BaseModel):
    """Base of the sections: unknown names are refused, values are frozen, no number is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _section(model: type[Section]) -> Any:
    return Field(default_factory=model)


class PrefixSettings(Section):
    """Names under which this program serves."""

    scan: str = Field("2bmb:TomoScanStream:", min_length=1, max_length=35, description="Collection's PVs")
    stream: str = Field("2bmb:TomoStream:", min_length=1, max_length=35, description="Reconstruction's PVs")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.scan == self.stream:
            raise ValueError("scan and stream must differ")
        return self


class CameraSettings(Section):
    """The camera: where its frames come from and how it is driven."""

    prefix: str = Field("2bmSP2:", description="areaDetector prefix; `cam1:` follows it")
    image: str = Field("2bmSP2:Pva1:Image", description="PVAccess channel of the frames")
    binning: Literal["here", "roi"] = Field(
        "here", description="Who bins what is streamed; roi: the ROI plugin, so that captures are binned too"
    )
    roi: str = Field("", description="Prefix of the ROI plugin before the PVA plugin; empty: none")
    lens: str = Field("", description="PV of the lens that is in; empty: one lens")
    optics: str = Field("", description="Prefix of the optics, whose LensSelect says the lens; empty: none")
    readout_s: float = Field(0.0, ge=0, le=10, description="Time from the end of an exposure to the next one")
    period: str = Field("", description="PV to put the time from frame to frame into; empty: none")
    queue: int = Field(200, ge=4, le=100_000, description="Frames that each consumer may lag behind")

    @model_validator(mode="after")
    def _roi_is_named(self) -> Self:
        if self.binning == "roi" and not self.roi:
            raise ValueError("binning by a ROI plugin needs its prefix: set camera.roi")
        return self


class MotorSettings(Section):
    """A motor. Names left empty are the fields of the motor record `record`."""

    record: str = Field("", description="Motor record; empty: there is none")
    setpoint: str = Field("", description="Instead of .VAL")
    readback: str = Field("", description="Instead of .RBV")
    done: str = Field("", description="Instead of .DMOV")
    velocity: str = Field("", description="Instead of .VELO")
    stop: str = Field("", description="Instead of .STOP")
    jog: str = Field("", description="Instead of .JOGF")
    jog_velocity: str = Field("", description="Instead of .JVEL")
    tolerance: float = Field(0.01, gt=0, description="How near to its target it must come")


class RotationSettings(MotorSettings):
    """The rotation."""

    endless: Literal["jog", "move"] = Field(
        "jog", description="How it turns on and on: by jogging, or a far target"
    )
    arm: tuple[Put, ...] = Field((), description="Puts that arm the camera's triggers, before turning")
    disarm: tuple[Put, ...] = Field((), description="Puts that disarm them, after turning")


class ShutterSettings(Section):
    """The shutter. Without any name there is none."""

    open: Put = Field(("", "1"), description="PV and value that open it")
    close: Put = Field(("", "0"), description="PV and value that close it")
    fast_open: Put = Field(("", "1"), description="PV and value that open the fast shutter")
    fast_close: Put = Field(("", "0"), description="PV and value that close the fast shutter")
    status: str = Field("", description="PV that says whether it is open")
    status_open: float = Field(1, description="Value of it when it is open")
    beam_ready: Put = Field(("", "1"), description="PV and value that say that there is beam")


class CollectionSettings(Section):
    """What drives the beamline. Switched off, another program does, and its broadcast is listened to."""

    enabled: bool = Field(True, description="Drive stage, shutter and camera from here")
    foreign: str = Field(
        "", description="Where switched off: prefix of the tomoScan that drives; empty: none"
    )
    guard_frames: int = Field(2, ge=0, le=1000, description="Frames after each change that count as nothing")
    resume_camera: bool = Field(True, description="Start the camera again when its server comes back")


class ReconstructionSettings(Section):
    """Live reconstruction."""

    backend: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: a GPU where there is one")
    memory_gb: float = Field(
        4.0, gt=0.01, le=2000, description="Most memory of the ring of filtered projections"
    )
    projections: int = Field(1536, ge=64, le=100_000, description="Most projections that slices are made of")
    threads: int = Field(0, ge=0, le=1024, description="Threads; 0: all cores")
    preview: int = Field(96, ge=0, le=512, description="Edge of the preview volume, voxels; 0: none")
    preview_s: float = Field(10.0, ge=0.2, le=3600, description="Time between two preview volumes")
    images: str = Field("", description="Channel of the three slices; empty: stream prefix + StreamRecon")
    start: bool = Field(True, description="Begin to reconstruct at once")
    clicks: str = Field("", description="File into which a viewer writes clicks, lines x,y; empty: none")


class CaptureSettings(Section):
    """Files of captured frames."""

    folder: Path = Field(Path("captures"), description="Where they go, unless FilePath says otherwise")
    ring_gb: float = Field(2.0, ge=0, le=2000, description="Memory of the pre-trigger ring")
    minimum_free_gb: float = Field(5.0, ge=0, description="Free space that a capture must leave")
    copy_limit_s: float = Field(3600.0, ge=1, le=864_000, description="Longest time of one file's copy")


class ServiceSettings(Section):
    """The program itself."""

    state_folder: Path = Field(Path(), description="Where settings PVs are saved")
    log: str = Field("live.log", min_length=1, description="File of the log, JSON lines; -: standard error")
    status_s: float = Field(1.0, ge=0.1, le=60, description="Time between two updates of the status")
    reserve: bool = Field(
        False, description="Take the memory of both rings at start, so that no frame waits for it"
    )
    presence_s: float = Field(
        1.0, ge=0.1, le=30, description="How long to look for another server of the names"
    )

    @property
    def aside(self) -> Path:
        """Where goes what libraries print while a terminal shows the view: beside the log."""
        return Path("live.log" if self.log == "-" else self.log).with_suffix(".err")


class LiveSettings(Section):
    """All settings of the live program."""

    prefixes: PrefixSettings = _section(PrefixSettings)
    camera: CameraSettings = _section(CameraSettings)
    rotation: RotationSettings = _section(RotationSettings)
    sample_x: MotorSettings = _section(MotorSettings)
    sample_y: MotorSettings = _section(MotorSettings)
    shutter: ShutterSettings = _section(ShutterSettings)
    collection: CollectionSettings = _section(CollectionSettings)
    reconstruction: ReconstructionSettings = _section(ReconstructionSettings)
    capture: CaptureSettings = _section(CaptureSettings)
    service: ServiceSettings = _section(ServiceSettings)
    triggers: tuple[TriggerSettings, ...] = Field((), description="Rules that start captures, one table each")
    initial: dict[str, str | int | float] = Field(
        {}, description="Values of PVs where none are saved: ExposureTime, RotationStep, ..."
    )

    @property
    def click_file(self) -> Path | None:
        """The file of clicks, where one is named."""
        return Path(self.reconstruction.clicks) if self.reconstruction.clicks else None


_LEGAL_FORMS: Mapping[Any, str] = {
    Put: 'Write the PV and its value, such as ["2bmb:A_shutter:open", "1"]',
    str | int | float: "Give a number or a text",
}
"""What is legal, where pydantic's own words do not help."""


def read_settings(path: Path) -> LiveSettings:
    """Read and check a settings file; its relative paths start from its folder. Raises TomoflyError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TomoflyError(
            f"The settings {path} cannot be read: {error.strerror}", "Print an example: tomofly live config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TomoflyError(f"The settings {path} are no TOML: {error}") from error
    return _placed(checked_settings(document, str(path)), path.absolute().parent)


def checked_settings(document: dict[str, Any], source: str = "the settings") -> LiveSettings:
    """Check a document of settings. Raises TomoflyError naming the place, the value and what is legal."""
    try:
        return LiveSettings.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise _explained(first, source) from None


def _explained(first: Any, source: str) -> TomoflyError:
    unknown = first["type"] == "extra_forbidden"
    names, kind = _followed(first["loc"][:-1] if unknown else first["loc"])
    if unknown:
        name, legal = str(first["loc"][-1]), sorted(kind.model_fields)
        close = difflib.get_close_matches(name, legal, n=1)
        do = f"Did you mean '{close[0]}'?" if close else f"Legal are: {', '.join(legal)}"
        return TomoflyError(f"There is no setting '{'.'.join([*names, name])}', as in {source}", do)
    where = ".".join(names) or "the whole"
    if first["type"] == "missing":
        return TomoflyError(f"In {source}: {where} is missing")
    message = _LEGAL_FORMS.get(kind, first["msg"].removeprefix("Value error, "))
    return TomoflyError(f"In {source}: {where} cannot be {first['input']!r}: {message}")


def _followed(place: tuple[str | int, ...]) -> tuple[list[str], Any]:
    """Follow a place through the settings: the names as the file has them, and the kind that is there."""
    names: list[str] = []
    kind: Any = LiveSettings
    for step in place:
        if _is_model(kind) and step in kind.model_fields:
            kind = kind.model_fields[str(step)].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(step, int) and get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        else:  # one of several kinds, which the file does not name
            kind = next((one for one in get_args(kind) if _is_model(one) and _tag(one) == step), kind)
            continue
        names.append(str(step))
    return names, kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _tag(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _placed(settings: LiveSettings, folder: Path) -> LiveSettings:
    """Make relative paths start from the folder of the file."""
    service = settings.service
    log = service.log if service.log == "-" else str(folder / service.log)
    reconstruction = settings.reconstruction
    clicks = str(folder / Path(reconstruction.clicks).expanduser()) if reconstruction.clicks else ""
    return settings.model_copy(
        update={
            "reconstruction": reconstruction.model_copy(update={"clicks": clicks}),
            "capture": settings.capture.model_copy(
                update={"folder": folder / settings.capture.folder.expanduser()}
            ),
            "triggers": tuple(trigger.placed(folder) for trigger in settings.triggers),
            "service": service.model_copy(
                update={"state_folder": folder / service.state_folder.expanduser(), "log": log}
            ),
        }
    )


def example() -> str:
    """Write all settings with their defaults and meanings, as a TOML file."""
    lines = ["# Settings of `tomofly live run --config FILE`. All values are the defaults.", ""]
    for name, info in LiveSettings.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            lines += _section_lines(name, annotation)
    lines += ["[initial]", f"# {LiveSettings.model_fields['initial'].description}"]
    lines += ["# ExposureTime = 0.02", "# RotationStep = 0.2", ""]
    return "\n".join(lines)


def _section_lines(name: str, model: type[Section]) -> list[str]:
    lines = [f"# {(model.__doc__ or '').strip()}", f"[{name}]"]
    for field, info in model.model_fields.items():
        legal = _legal(info.annotation)
        lines.append(f"{field} = {_toml(info.default)}  # {info.description}{legal}")
    return [*lines, ""]


def _legal(annotation: Any) -> str:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words = [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return f" ({', '.join(words)})" if words else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
