"""One process variable as a row of a table: its record, its default, its limits, its meaning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tomofly.model import BadInput

TEXT_BYTES = 256
"""Room of a text PV, the closing zero included."""
STRING_BYTES = 40
"""Room of an EPICS string, the closing zero included."""

Value = float | int | str


class Record(StrEnum):
    """The kinds of EPICS records that the tables use."""

    AO = "ao"
    LONGOUT = "longout"
    BO = "bo"
    BUSY = "busy"
    MBBO = "mbbo"
    MBBI = "mbbi"
    BI = "bi"
    STRINGOUT = "stringout"
    TEXT = "waveform"
    CALC = "calc"
    CALCOUT = "calcout"


ENUMERATED = frozenset({Record.BO, Record.BUSY, Record.MBBO, Record.MBBI, Record.BI})
TEXTS = frozenset({Record.STRINGOUT, Record.TEXT})
COMPUTED = frozenset({Record.CALC, Record.CALCOUT})


@dataclass(frozen=True)
class PV:
    """One process variable. `saved`: kept over a restart. `readback`: written by the program, not by clients.

    `command`: a put acts each time, also of the value that it has. `severities` belong to `choices`, and
    `raw` are the raw values of an mbbo whose choices do not count from 0. `formula` is that of a computed
    record, over the inputs `inputs` (names of the same table).
    """

    name: str
    record: Record
    meaning: str
    default: Value = 0
    low: float | None = None
    high: float | None = None
    unit: str = ""
    precision: int = 3
    choices: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    raw: tuple[int, ...] = ()
    saved: bool = False
    readback: bool = False
    command: bool = False
    formula: str = ""
    inputs: tuple[str, ...] = ()
    target: str = ""

    def checked(self, value: Any) -> Value:
        """Give `value` as this PV holds it. Raises BadInput that says what is wrong and what is legal."""
        if self.record in ENUMERATED:
            return self._choice(value)
        if self.record in TEXTS:
            return self._text(value)
        return self._number(value)

    def _choice(self, value: Any) -> int:
        if isinstance(value, str):
            wanted = value.strip().lower()
            for place, word in enumerate(self.choices):
                if word.lower() == wanted:
                    return place
        try:
            place = int(value)
        except (TypeError, ValueError):
            place = -1
        if not 0 <= place < len(self.choices):
            raise BadInput(f"{self.name} cannot be {value!r}", f"Legal are: {', '.join(self.choices)}")
        return place

    def _text(self, value: Any) -> str:
        text = str(value)
        room = (STRING_BYTES if self.record is Record.STRINGOUT else TEXT_BYTES) - 1
        if len(text.encode()) > room:
            raise BadInput(f"{self.name} cannot hold a text of {len(text.encode())} bytes", f"It has {room}")
        return text

    def _number(self, value: Any) -> float | int:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise BadInput(f"{self.name} cannot be {value!r}", "Give a number") from None
        if not math.isfinite(number):
            raise BadInput(f"{self.name} cannot be {number}", f"Give a number {self.range_text()}".rstrip())
        outside = (self.low is not None and number < self.low) or (
            self.high is not None and number > self.high
        )
        if outside:
            raise BadInput(f"{self.name} cannot be {number:.10g}", f"Legal is {self.range_text()}")
        if self.record is not Record.LONGOUT:
            return number
        if number != round(number):
            raise BadInput(f"{self.name} cannot be {number:.10g}", "Give a whole number")
        return round(number)

    def range_text(self) -> str:
        """Say what numbers are legal."""
        if self.low is None and self.high is None:
            return ""
        unit = f" {self.unit}" if self.unit else ""
        if self.high is None:
            return f"{self.low:.10g}{unit} or more"
        if self.low is None:
            return f"{self.high:.10g}{unit} or less"
        return f"from {self.low:.10g} to {self.high:.10g}{unit}"

    def shown(self, value: Value) -> Value:
        """Give a value as people read it: an enumeration's word instead of its number."""
        return self.choices[int(value)] if self.choices else value


def texts(names: Sequence[tuple[str, str, str]], *, saved: bool = True) -> tuple[PV, ...]:
    """Make text PVs out of (name, default, meaning)."""
    return tuple(PV(name, Record.TEXT, meaning, default, saved=saved) for name, default, meaning in names)


def strings(names: Sequence[tuple[str, str, str]], *, saved: bool = True) -> tuple[PV, ...]:
    """Make string PVs (at most 39 bytes) out of (name, default, meaning)."""
    return tuple(
        PV(name, Record.STRINGOUT, meaning, default, saved=saved) for name, default, meaning in names
    )


def readbacks(names: Sequence[tuple[str, str, str]], *, precision: int = 3) -> tuple[PV, ...]:
    """Make numbers that the program publishes, out of (name, unit, meaning)."""
    return tuple(
        PV(name, Record.AO, meaning, 0.0, unit=unit, precision=precision, readback=True)
        for name, unit, meaning in names
    )


def counters(names: Sequence[tuple[str, str]]) -> tuple[PV, ...]:
    """Make counts that the program publishes, out of (name, meaning); doubles, as counts outgrow 2^31."""
    return tuple(
        PV(name, Record.AO, meaning, 0.0, low=0, precision=0, readback=True) for name, meaning in names
    )
