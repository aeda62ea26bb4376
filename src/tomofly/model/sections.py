"""Sections of the settings that several stages read."""

from pathlib import Path
from typing import Literal

from tomofly.model.parameters import StageParams, parameter


class MicroscopeParams(StageParams):
    """The instrument, as it was during the data collection."""

    pixel_size_angstrom: float = parameter(
        1.0, "Pixel size of the movies as recorded", unit="Å", gt=0, le=100
    )
    voltage_kv: float = parameter(300.0, "Acceleration voltage", unit="kV", ge=40, le=1000)
    spherical_aberration_mm: float = parameter(2.7, "Spherical aberration Cs", unit="mm", ge=0, le=20)
    amplitude_contrast: float = parameter(0.1, "Fraction of amplitude contrast", ge=0, lt=1)
    dose_per_frame_e_per_a2: float = parameter(
        0.0, "Dose per frame; 0 takes it from the file or its metadata", unit="e⁻/Å²", ge=0, le=100
    )
    pre_exposure_e_per_a2: float = parameter(0.0, "Dose before the first frame", unit="e⁻/Å²", ge=0, le=1000)


class GainParams(StageParams):
    """The gain reference that the movies need, as they were recorded."""

    path: str = parameter(
        "", "Gain reference (MRC, TIFF or EER .gain); empty: the movies are corrected already",
        affects_result=False,
    )  # fmt: skip
    checksum: str = parameter(
        "", "Digest of the gain reference; filled in when the settings are saved", advanced=True
    )
    rotation_deg: Literal[0, 90, 180, 270] = parameter(
        0, "Rotate the gain reference anticlockwise before use", unit="deg"
    )
    flip: Literal["none", "up-down", "left-right"] = parameter("none", "Flip it after the rotation")
    divide: bool = parameter(False, "Divide by it instead of multiplying (Falcon EER gains)")


class SourceParams(StageParams):
    """Where the instrument writes, and when it is taken to have stopped."""

    pattern: str = parameter(
        "", "Files to watch: a folder and a pattern, ** for sub-folders; empty: nothing", affects_result=False
    )
    settle_s: float = parameter(
        2.0, "A file whose size has not changed for so long is looked at", unit="s", ge=0, le=600,
        affects_result=False,
    )  # fmt: skip
    give_up_s: float = parameter(
        60.0,
        "A file that is not whole and has not grown for so long is reported as truncated",
        unit="s", ge=0, le=86400, affects_result=False,
    )  # fmt: skip
    poll_s: float = parameter(
        1.0, "Time between two looks at the folder", unit="s", gt=0, le=600, affects_result=False
    )
    ignore: tuple[str, ...] = parameter(
        ("*gain*",), "Patterns of file names that are not movies", affects_result=False
    )


class ResourceParams(StageParams):
    """What the session may use of the machine."""

    workers: int = parameter(
        0, "Worker processes; 0 takes one per CPU core", ge=0, le=1024, affects_result=False
    )
    memory_gb: float = parameter(
        0.0, "Memory for all workers together; 0 takes 80 % of what there is", unit="GB", ge=0,
        affects_result=False,
    )  # fmt: skip
    scheduler: str = parameter(
        "", "Address of a running Dask scheduler; empty starts one in the session", affects_result=False
    )
    minimum_free_gb: float = parameter(
        5.0, "Pause with an alert when the session's disk has less free space", unit="GB", ge=0,
        affects_result=False,
    )  # fmt: skip
    priority: Literal["newest first", "oldest first"] = parameter(
        "newest first", "Which of the waiting items comes first when there is a backlog", affects_result=False
    )


def watched_folder(pattern: str) -> Path:
    """Give the deepest folder of ``pattern`` that holds no wildcard."""
    parts = Path(pattern).expanduser().parts
    plain = []
    for part in parts[:-1]:
        if any(sign in part for sign in "*?["):
            break
        plain.append(part)
    return Path(*plain) if plain else Path()
