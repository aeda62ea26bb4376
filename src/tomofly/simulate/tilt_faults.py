"""What goes wrong in a tilt-series session, on request."""

from dataclasses import dataclass
from typing import Literal, get_args

from tomofly.simulate.tilt_microscope import TiltSeriesConfig

FaultKind = Literal["interrupted", "retaken", "dark", "blocked", "late", "missing", "misnamed", "no-mdoc"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong in series number `series`, which counts from 1 as its name does.

    `tilt` counts from 0 in the order taken. "interrupted": it is the last one; "retaken": the stage takes
    it a second time; "dark", "blocked": no beam, a grid bar before it; "late": its movie comes `seconds`
    after its turn; "missing": its movie never comes; "misnamed": the mdoc gives it a name that no file
    has; "no-mdoc": the series has none (`tilt` means nothing).
    """

    kind: FaultKind
    series: int
    tilt: int = 0
    seconds: float = 0.0


def parse_fault(text: str) -> Fault:
    """Read a fault as in "late:2:7:40" or "dark:1:3": kind, series, tilt, seconds. Raises ValueError."""
    kind, *numbers = text.split(":")
    known = next((name for name in FAULT_KINDS if name == kind), None)
    least = 1 if known == "no-mdoc" else 3 if known == "late" else 2
    if known is None or not least <= len(numbers) <= 3:
        kinds = ", ".join(FAULT_KINDS)
        raise ValueError(
            f"'{text}' is no fault: write kind:series:tilt, or late:series:tilt:seconds; {kinds}"
        )
    try:
        series, tilt = int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
        seconds = float(numbers[2]) if len(numbers) > 2 else 0.0
    except ValueError:
        raise ValueError(
            f"'{text}' is no fault: series and tilt are whole numbers, seconds a number"
        ) from None
    if series < 1 or tilt < 0 or seconds < 0:
        raise ValueError(f"'{text}' is no fault: series count from 1, tilts from 0, seconds from 0")
    return Fault(known, series, tilt, seconds)


def with_faults(config: TiltSeriesConfig, faults: list[Fault]) -> TiltSeriesConfig:
    """The microscope for one series: its tilts as they will really be taken, with re-takes.

    `tilt` of a fault counts in that order, so a tilt re-taken is followed by its second take. Raises
    ValueError for a tilt that is not there.
    """
    angles = config.nominal_tilts_deg.tolist()
    for fault in sorted((f for f in faults if f.kind == "retaken"), key=lambda f: f.tilt):
        _check(fault, len(angles))
        angles.insert(fault.tilt + 1, angles[fault.tilt])
    for fault in faults:
        _check(fault, len(angles))
    dark = [fault.tilt for fault in faults if fault.kind == "dark"]
    blocked = [fault.tilt for fault in faults if fault.kind == "blocked"]
    changed = {
        "tilt_angles_deg": tuple(angles),
        "dark_tilts": (*config.dark_tilts, *dark),
        "blocked_tilts": (*config.blocked_tilts, *blocked),
    }
    return TiltSeriesConfig.model_validate(config.model_dump() | changed) if faults else config


def _check(fault: Fault, tilts: int) -> None:
    if fault.tilt >= tilts:
        raise ValueError(
            f"{fault.kind}: series {fault.series} has no tilt {fault.tilt}, the last is {tilts - 1}"
        )
