"""How tilts are brought together to series: the settings, and the rule for when a series is complete."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from pydantic import field_validator

from tomofly.model import Completion, GroupState, MemberState, StageParams, TaskState, parameter
from tomofly.stages.tilts.names import NamePattern

QUIET_INTERVALS = 1.25
"""An mdoc is not taken as final before so many of its series' longer intervals have passed."""

LONGER_PART = 0.9
"""Of the intervals of a series, this part is shorter than its longer ones: turns of the stage repeat."""

SILENT_INTERVALS = 3.0
"""The same for a series that is taken to have ended because nothing more comes."""


class ComposeParams(StageParams):
    """How tilts are brought together to series, and when a series is complete."""

    grouping: Literal["auto", "mdoc", "pattern", "stack"] = parameter(
        "auto", "What says to which series a tilt belongs: the mdoc, else the name (auto); the mdoc alone; "
        "the pattern of names; or every file is a whole series (stack)",
    )  # fmt: skip
    pattern: str = parameter(
        "", "Names of tilts, such as {series}_{order:03d}_{angle}_*; empty recognises the common ones"
    )
    notes_folder: str = parameter(
        "", "Folder of the mdoc files where they do not lie below the watched folder", affects_result=False
    )
    angles_deg: tuple[float, ...] = parameter(
        (), "Tilt angles where no file tells them: in the order of exposure; of a stack, of its sections",
        unit="deg",
    )  # fmt: skip
    first_number: int = parameter(
        1, "Number of the first tilt in names, to find its place among angles_deg", ge=0, advanced=True
    )
    order: tuple[int, ...] = parameter(
        (), "Order of exposure of the sections of a stack, where no file tells it", advanced=True
    )
    axis_angle_deg: float | None = parameter(
        None, "Tilt axis, anticlockwise from the image's y axis; none takes it from the mdoc", unit="deg",
        ge=-360, le=360,
    )  # fmt: skip
    dose_per_tilt_e_per_a2: float = parameter(
        0.0, "Dose of one tilt; 0: not known", unit="e⁻/Å²", ge=0, le=1000
    )
    dose_from: Literal["mdoc", "settings"] = parameter(
        "mdoc", "Which dose is taken where both mdoc and settings give one"
    )
    complete: Literal["mdoc", "count", "silence"] = parameter(
        "mdoc", "A series is complete when the tilts in its mdoc are there; when there are so many; or when "
        "nothing more comes. Silence ends a series by the first two rules, too",
        affects_result=False,
    )  # fmt: skip
    tilts: int = parameter(0, "Tilts in a series; 0: not known", ge=0, le=1000, affects_result=False)
    quiet_s: float = parameter(
        20.0, "An mdoc that has not changed for so long is final, if all its tilts are there", unit="s",
        ge=0, le=86400, affects_result=False,
    )  # fmt: skip
    silence_s: float = parameter(
        120.0, "A series to which nothing came for so long has ended", unit="s", gt=0, le=86400,
        affects_result=False,
    )  # fmt: skip
    minimum_count: int = parameter(
        10, "A series does not end by silence with fewer tilts", ge=1, le=1000, affects_result=False
    )
    provisional_every: int = parameter(
        10,
        "Make a provisional tomogram after each so many tilts; 0: none",
        ge=0,
        le=1000,
        affects_result=False,
    )
    minimum_tilts: int = parameter(3, "Refuse to make a tomogram of fewer tilts", ge=2, le=1000)
    retaken: Literal["last", "best"] = parameter(
        "last", "Of several exposures at one angle, take the last, or the best by brightness and sharpness"
    )
    angle_tolerance_deg: float = parameter(
        0.3, "Exposures whose angles differ by less are of one angle", unit="deg", ge=0, le=5, advanced=True
    )
    left_out: tuple[str, ...] = parameter(
        (), "Views to leave out by hand, such as sections of a stack: TS_01[7]"
    )
    dark_below: float = parameter(
        0.3, "Leave out tilts darker than this part of what their angle lets expect; 0: none", ge=0, lt=1
    )
    blocked_above: float = parameter(
        0.4, "Leave out tilts of which more than this part is blocked, as by a grid bar; 1: none", ge=0, le=1
    )
    shifted_above: float = parameter(
        0.4, "Leave out tilts that are shifted by more than this part of the field; 1: none", ge=0, le=1
    )

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str) -> str:
        if pattern.strip():
            NamePattern(pattern)
        return pattern.strip()

    @field_validator("angles_deg")
    @classmethod
    def _possible(cls, angles: tuple[float, ...]) -> tuple[float, ...]:
        if any(abs(angle) > 90 for angle in angles):
            raise ValueError("tilt angles lie between -90 and 90 degrees")
        return angles


def series_of(attributes: Mapping[str, Any]) -> str | None:
    """Give the key of the series that a tilt belongs to, None while it is not known."""
    return attributes.get("series") or None


def complete(state: GroupState, params: ComposeParams) -> Completion:
    """Say whether a series is complete, why, and when to ask again. A tilt that failed never blocks it."""
    count = _counted(state, params)
    busy = state.unsettled
    if busy:
        return Completion(False, f"{count}; {busy} of them {_are(busy)} being processed")
    if state.closed:
        return Completion(True, f"{count}; no more will come, as the session has ended")
    if state.requested:
        return Completion(True, f"{count}; somebody asked to go on with these")
    if any(member.attributes.get("views") for member in state.members):
        return Completion(True, "the series is one file, which is there")
    ready = _by_rule(state, params, count)
    return ready or _by_silence(state, params, count)


def provisional(state: GroupState, params: ComposeParams) -> list[str]:
    """Give the keys of the tilts of which a provisional result is made: the first so many times n exposed.

    None while catching up: it would be late as soon as it is there, and hold up the complete one.
    """
    every = params.provisional_every
    if not every or state.unsettled >= 2 * every or _is_last_in_work(state, params):
        return []
    done = [member for member in state.members if member.state is TaskState.DONE]
    if any(member.attributes.get("views") for member in done):
        return []
    done.sort(key=lambda member: (member.attributes.get("order") or 0, member.key))
    enough = len(done) // every * every
    return [member.key for member in done[:enough]] if enough >= params.minimum_tilts else []


def _is_last_in_work(state: GroupState, params: ComposeParams) -> bool:
    """Say whether the series is complete as soon as what is there has been processed."""
    if not state.unsettled or state.closed:
        return state.unsettled > 0
    return (_by_rule(state, params, "") or _by_silence(state, params, "")).ready


def _by_rule(state: GroupState, params: ComposeParams, count: str) -> Completion | None:
    """Complete by mdoc or count; None where silence decides."""
    found = len(state.members)
    counted = bool(params.tilts) and max(found, _newest(state).get("found") or 0) >= params.tilts
    if params.complete == "count" and counted:
        return Completion(True, f"{count}: all of compose.tilts={params.tilts}")
    listed, missing = _newest(state).get("expected"), _newest(state).get("not_found")
    if params.complete != "mdoc" or not listed or missing:
        return None
    if counted:
        return Completion(True, f"{count}: all of compose.tilts={params.tilts}, and of the mdoc")
    if state.done < params.minimum_tilts:
        return None
    quiet_s = max(params.quiet_s, QUIET_INTERVALS * _interval_s(state, LONGER_PART))
    if state.done < params.minimum_count:  # it has but begun, or there is little to lose
        quiet_s = max(params.silence_s, SILENT_INTERVALS * _interval_s(state))
    due = _last_sign(state) + quiet_s
    if state.now >= due:
        return Completion(True, f"{count}: all that the mdoc lists, and it has not changed any more")
    wait = f"{count}; complete when the mdoc has not changed for {_seconds(quiet_s)}"
    return Completion(False, wait, due)


def _by_silence(state: GroupState, params: ComposeParams, count: str) -> Completion:
    """End a series to which nothing more comes, if it has the tilts to be worth it."""
    awaited = _awaited(state, params)
    if state.done < params.minimum_count:
        few = f"goes on with {params.minimum_count} tilts at least, when asked, or when the session ends"
        return Completion(False, f"{count}{awaited}; {few}")
    silence_s = max(params.silence_s, SILENT_INTERVALS * _interval_s(state))
    due = _last_sign(state) + silence_s
    if state.now >= due:
        return Completion(True, f"{count}{awaited}; nothing has come for {_seconds(silence_s)}")
    return Completion(False, f"{count}{awaited}; goes on at silence of {_seconds(silence_s)}", due)


def _counted(state: GroupState, params: ComposeParams) -> str:
    """Say how many tilts there are, of how many: ``38 of 41 tilts (2 failed)``."""
    expected = _newest(state).get("expected") if params.complete == "mdoc" else params.tilts
    failed = sum(m.state in (TaskState.FAILED, TaskState.SKIPPED) for m in state.members)
    there = len(state.members)
    of = f" of {expected}" if expected and expected >= there else ""
    return f"{there}{of} tilt{'' if there == 1 and not of else 's'}" + (
        f" ({failed} failed)" if failed else ""
    )


def _awaited(state: GroupState, params: ComposeParams) -> str:
    newest = _newest(state)
    missing = newest.get("not_found") or 0
    if params.complete == "mdoc" and not newest.get("expected"):
        return "; no mdoc lists them yet"
    if params.complete == "mdoc" and missing:
        return f"; {missing} named in the mdoc {'has' if missing == 1 else 'have'} not come"
    return ""


def _newest(state: GroupState) -> Mapping[str, Any]:
    """Give the attributes of the member that knows the latest of the series."""
    return max(
        (member.attributes for member in state.members),
        key=lambda a: (a.get("mdoc_changed_at") or 0.0, a.get("found") or 0),
        default={},
    )


def _last_sign(state: GroupState) -> float:
    """Give when the series was last seen to go on. A clock that is ahead is not believed."""
    changed = _newest(state).get("mdoc_changed_at") or 0.0
    return max(state.last_arrival, changed if changed <= state.now else 0.0)


def _interval_s(state: GroupState, part: float = 0.5) -> float:
    """Give the time between the files of the series that this part of them keep; 0 for fewer than three."""
    times = sorted(t for m in state.members if (t := m.attributes.get("written_at")) is not None)
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    return gaps[min(len(gaps) - 1, int(part * len(gaps)))] if len(gaps) >= 2 else 0.0


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.0f} s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def waiting_tilts(members: Sequence[MemberState]) -> list[str]:
    """Give the names, as far as they are known, of tilts that an mdoc lists and that have not come."""
    names = dict.fromkeys(n for m in members for n in m.attributes.get("not_found_names") or ())
    return sorted(names)
