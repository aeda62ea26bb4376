"""What is asked of a running live program, all through its PVs: screens and commands see the same thing."""

import difflib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from p4p.client.thread import Context, Disconnected, RemoteError

from tomofly.live.records.pv import COMPUTED, PV, Record, Value
from tomofly.live.records.saving import configure
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.records.waveform_text import as_text, as_waveform
from tomofly.model import BadInput, TomoflyError

STATUS_NAME = "Status"
ANSWER_S = 5.0
NOTICE_S, REFUSAL_S, LOOK_AGAIN_S = 1.0, 0.3, 0.02
SHORT_NAMES = {
    "filter": "FilterType", "centre": "Center", "window": "WindowLength", "exposure": "ExposureTime",
    "step": "RotationStep", "binning": "StreamBinning", "pre": "StreamPreCount", "frames": "StreamNumCapture",
    "paganin": "Alpha", "rings": "RingRemoval",
}  # fmt: skip
"""Words that people use for PVs. Each PV has its own name as well, in any spelling: OrthoZ, ortho_z."""
SAME_TO = 1e-9
_TIME_OF_DAY = re.compile(r"^\d\d:\d\d:\d\d ")
UNDER_WAY = {
    "StartScan": ("Collection is under way already", "`tomofly live stop` ends it"),
    "StreamCapture": (
        "A capture is under way already",
        "Wait for it, or end it: tomofly live capture --stop",
    ),
}
"""What is said of a command that is asked for a second time."""


class Refused(TomoflyError):
    """The running program has not taken a value."""


@dataclass(frozen=True)
class Change:
    """A PV and the value that it has taken."""

    name: str
    value: Value


Wanted = tuple[bool, PV, Value]
"""Whether it belongs to reconstruction, its row, and the value that it shall have."""


def _plain(name: str) -> str:
    return re.sub(r"[_\-\s]", "", name).lower()


def _settable() -> dict[str, tuple[bool, PV]]:
    """Give what can be set: by plain name, whether it belongs to reconstruction, and its row."""
    rows = [(False, pv) for pv in SCAN_TABLE] + [(True, pv) for pv in STREAM_TABLE]
    named = {
        _plain(pv.name): (stream, pv)
        for stream, pv in rows
        if pv.record not in COMPUTED and not pv.readback and pv.record is not Record.BUSY and not pv.command
    }
    return named | {_plain(short): named[_plain(full)] for short, full in SHORT_NAMES.items()}


SETTABLE = _settable()


def find_setting(name: str) -> tuple[bool, PV]:
    """Find what a name means. Raises BadInput with the nearest name."""
    found = SETTABLE.get(_plain(name))
    if found is not None:
        return found
    rows = {_plain(pv.name): pv for pv in (*SCAN_TABLE, *STREAM_TABLE)}
    if _plain(name) in rows:
        raise BadInput(f"{rows[_plain(name)].name} cannot be set: it is shown or commanded, not a setting")
    close = difflib.get_close_matches(_plain(name), SETTABLE, n=1)
    nearest = f"Did you mean '{spelled(SETTABLE[close[0]][1].name)}'?" if close else ""
    do = nearest or "`tomofly live pvs` lists all names"
    raise BadInput(f"There is no setting '{name}'", do)


def spelled(name: str) -> str:
    """Spell a PV's name as commands do: OrthoZ as ortho_z."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class LiveClient:
    """A client of one live program."""

    def __init__(self, scan_prefix: str, stream_prefix: str, answer_s: float = ANSWER_S) -> None:
        self.prefixes = (scan_prefix, stream_prefix)
        self.answer_s = answer_s
        self._context = Context("pva")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def get(self, name: str, *, stream: bool) -> Any:
        """Give a PV's value. Raises TomoflyError where nobody serves it."""
        return self._get(self.prefixes[stream] + name)

    def _get(self, full: str) -> Any:
        try:
            return self._context.get(full, timeout=self.answer_s)
        except (TimeoutError, Disconnected, RemoteError) as error:
            raise TomoflyError(
                f"{full} does not answer",
                "Check that `tomofly live run` is at work, its prefixes, and the EPICS_PVA_* variables here",
            ) from error

    def _text(self, name: str, *, stream: bool) -> str:
        value = self.get(name, stream=stream)
        # A slice is a plain text, whatever p4p adds to it for printing.
        return value[:] if isinstance(value, str) else as_text(value)

    def _put(self, full: str, value: Any, wait_s: float | None = None) -> None:
        try:
            limit = self.answer_s if wait_s is None else wait_s
            self._context.put(full, value, timeout=limit, wait=wait_s is not None)
        except (Disconnected, RemoteError) as error:
            raise TomoflyError(f"{full} cannot be set: {error}") from error
        except TimeoutError as error:
            what = "does not answer" if wait_s is None else f"is not done after {wait_s:g} s"
            raise TomoflyError(f"{full} {what}") from error

    def set(self, assignments: Iterable[str]) -> list[Change]:
        """Set `name=value` pairs: all are checked before the first is put. Raises TomoflyError."""
        wanted = [self._checked(assignment) for assignment in assignments]
        for stream, pv, value in wanted:
            self._check_limits(stream, pv, value)
        return self._set_all(wanted)

    def _checked(self, assignment: str) -> Wanted:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise BadInput(f"'{assignment}' is no setting", "Write it as name=value, such as center=512.5")
        stream, pv = find_setting(name.strip())
        return stream, pv, pv.checked(text.strip())

    def _check_limits(self, stream: bool, pv: PV, value: Value) -> None:
        """Check a number against the limits that hold now, as those of the detector. Raises BadInput."""
        if pv.low is None or pv.high is None or pv.choices:
            return
        shown = self._get(self.prefixes[stream] + pv.name).raw.display
        if shown.limitLow < shown.limitHigh:
            replace(pv, low=shown.limitLow, high=shown.limitHigh).checked(value)

    def _set_all(self, wanted: Sequence[Wanted]) -> list[Change]:
        """Set each; what is refused because of another, as alpha before its distance, once more after it."""
        done: list[Change] = []
        while wanted:
            refused: list[Wanted] = []
            reasons: list[Refused] = []
            for one in wanted:
                try:
                    done.append(self._set(*one))
                except Refused as reason:
                    refused.append(one)
                    reasons.append(reason)
            if len(refused) == len(wanted):
                taken = ", ".join(f"{name}={value}" for name, value in changes_told(done).items())
                raise TomoflyError(reasons[0].what, f"Set before that: {taken}" if taken else reasons[0].do)
            wanted = refused
        return done

    def _set(self, stream: bool, pv: PV, value: Value) -> Change:
        full = self.prefixes[stream] + pv.name
        self._put(full, _for_put(pv, value), wait_s=self.answer_s)
        now = _from_get(pv, self._get(full))
        if not _same(now, value):
            stays = f"{pv.name} is {pv.shown(now)}"
            if why := self._reason(pv.name, stream=stream):
                raise Refused(why, stays)
            raise TomoflyError(f"{stays}, not {pv.shown(value)}: somebody else has set it at the same time")
        return Change(pv.name, pv.shown(value))

    def _reason(self, name: str, *, stream: bool) -> str:
        """Give the notice that speaks of a PV; it comes right after the refusal, or not at all."""
        until = time.monotonic() + NOTICE_S
        while name not in (why := self._notice(stream=stream)):
            if time.monotonic() > until:
                return ""
            time.sleep(LOOK_AGAIN_S)
        return without_time(why)

    def _notice(self, *, stream: bool = False) -> str:
        """Give the notice as it stands, with its time of day: so the same said again is seen as new."""
        return self._text("StreamNotice", stream=stream)

    def capture(self, frames: int | None, pre: int | None, wait_s: float | None = None) -> str:
        """Ask for a capture; with `wait_s`, wait for its file and give its path."""
        wanted = [("frames", frames), ("pre", pre)]
        self.set(f"{name}={value}" for name, value in wanted if value is not None)
        return self._command("StreamCapture", wait_s, "FullFileName")

    def stop_capture(self) -> None:
        """End a capture with the frames that it has. Raises TomoflyError where there is none."""
        if not int(self.get("StreamCapture", stream=False)):
            raise TomoflyError("No capture is under way")
        self._put(self.prefixes[False] + "StreamCapture", 0)

    def start(self) -> None:
        """Ask collection to start streaming. Raises TomoflyError where that is refused."""
        self._command("StartScan", None, "")

    def abort(self) -> None:
        """Ask collection to end streaming."""
        self._put(self.prefixes[False] + "AbortScan", 1)

    def put(self, full_name: str, value: Any) -> None:
        """Put a value to any PV by its whole name. Raises TomoflyError where nobody takes it."""
        self._put(full_name, value)

    def copy(self, file: str = "") -> None:
        """Ask for a captured file to be copied once more, or all that failed. Raises TomoflyError."""
        before = self._notice()
        self._put(self.prefixes[False] + "StreamCopyFile", as_waveform(file), 5)
        until = time.monotonic() + REFUSAL_S
        while time.monotonic() < until:
            notice = self._notice()
            if notice != before and ("captured file" in notice or "cop" in notice.lower()):
                raise TomoflyError(without_time(notice))
            time.sleep(LOOK_AGAIN_S)

    def retake(self, kind: str, wait_s: float | None = None) -> str:
        """Ask for dark or flat fields to be taken anew. Raises TomoflyError where that is refused."""
        return self._command(f"StreamRetake{kind.capitalize()}", wait_s, "StreamMessage")

    def _command(self, name: str, wait_s: float | None, result: str) -> str:
        """Put 1 to a busy PV. A refusal sets it back to 0 at once, and stands in the notice."""
        before = self._notice()
        if int(self.get(name, stream=False)):
            raise TomoflyError(*UNDER_WAY.get(name, (f"{name} is under way already", "Wait for it")))
        self._put(self.prefixes[False] + name, 1, wait_s)
        self._raise_refusal(name, before)
        return self._text(result, stream=False) if wait_s is not None else ""

    def _raise_refusal(self, name: str, before: str) -> None:
        """Look for a refusal, which comes soon or not at all: the PV is 0 again, with a new notice."""
        until = time.monotonic() + REFUSAL_S
        while time.monotonic() < until:
            notice = self._notice()
            if notice != before and not int(self.get(name, stream=False)):
                raise TomoflyError(without_time(notice))
            time.sleep(LOOK_AGAIN_S)

    def configuration(self) -> dict[str, dict[str, Value]]:
        """Give all settings that are kept, by prefix and name: what `load` takes."""
        tables = ((False, SCAN_TABLE), (True, STREAM_TABLE))
        return {
            self.prefixes[stream]: {
                pv.name: pv.shown(_from_get(pv, self._get(self.prefixes[stream] + pv.name)))
                for pv in table
                if pv.saved
            }
            for stream, table in tables
        }

    def load(self, document: Mapping[str, Any]) -> list[Change]:
        """Set what a configuration says, also one of tomoScan; all is checked first. Raises TomoflyError."""
        groups = [PVValues(self.prefixes[0], SCAN_TABLE), PVValues(self.prefixes[1], STREAM_TABLE)]
        if troubles := configure(groups, document):
            raise BadInput("; ".join(troubles), "Nothing was set; correct the file")
        before = self.configuration()
        wanted = [
            (bool(stream), pv, group[name])
            for stream, group in enumerate(groups)
            for name, pv in group.table.items()
            if name in _named(group, document) and pv.shown(group[name]) != before[group.prefix][name]
        ]
        return self._set_all(wanted)

    def status(self) -> dict[str, Any]:
        """Give the status document."""
        document: dict[str, Any] = json.loads(self._text(STATUS_NAME, stream=True))
        return document


def _named(group: PVValues, document: Mapping[str, Any]) -> set[str]:
    """Give which settings of a group a configuration names."""
    section = document.get(group.prefix)
    names = section if isinstance(section, Mapping) else document
    return {str(name).removeprefix(group.prefix) for name in names} & set(group.saved())


def without_time(notice: str) -> str:
    """Give a notice less the time of day that it begins with."""
    return _TIME_OF_DAY.sub("", notice)


def _for_put(pv: PV, value: Value) -> Any:
    if pv.record is Record.TEXT:
        return as_waveform(str(value))
    return value


def _from_get(pv: PV, value: Any) -> Value:
    if pv.record is Record.TEXT:
        return as_text(value)
    if pv.record is Record.STRINGOUT:
        return str(value[:])
    return int(value) if pv.choices or pv.record is Record.LONGOUT else float(value)


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= SAME_TO * max(1.0, abs(other))


def changes_told(changes: Iterable[Change]) -> Mapping[str, Value]:
    """Give changes by the names that commands use."""
    return {spelled(change.name): change.value for change in changes}
