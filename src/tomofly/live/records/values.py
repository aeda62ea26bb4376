"""The values of a table of PVs: checked, watched, saved; EPICS is a mirror of them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from tomofly.live.records.pv import COMPUTED, PV, Record, Value
from tomofly.model import BadInput, TomoflyError

Watcher = Callable[[Value], object]
Mirror = Callable[[PV, Value], object]
Refused = Callable[[str], object]
Guard = Callable[[str, Value], object]
Taken = Callable[[str, PV, Value, Value, str], object]


class PVValues:
    """The values of one table under one prefix.

    `set` is for the program, `take` for what a client has put: that is checked, and told to those who watch,
    by `deliver`. What the program sets goes to the mirror. There is no lock here: under EPICS the lock of a
    record puts its changes in order, and the mirror notes each value under that lock.
    """

    def __init__(self, prefix: str, table: Iterable[PV]) -> None:
        self.prefix = prefix
        self.table: Mapping[str, PV] = {pv.name: pv for pv in table}
        self._values = {pv.name: pv.default for pv in self.table.values() if pv.record not in COMPUTED}
        self._limits: dict[str, tuple[float | None, float | None]] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._refused: list[Refused] = []
        self._guards: list[Guard] = []
        self._taken: list[Taken] = []
        self.mirror: Mirror | None = None
        self.deliver: Callable[..., object] = _at_once

    def __getitem__(self, name: str) -> Value:
        return self._values[self._known(name)]

    def number(self, name: str) -> float:
        """Give a number's value."""
        return float(self[name])

    def whole(self, name: str) -> int:
        """Give the value of a whole number, or the place of a choice."""
        return int(self[name])

    def text(self, name: str) -> str:
        """Give a text, or the word of a choice."""
        return str(self.table[name].shown(self[name]))

    def full_name(self, name: str) -> str:
        """Give the name that clients use."""
        return self.prefix + self._known(name)

    def _known(self, name: str) -> str:
        if name not in self._values:
            raise TomoflyError(f"There is no PV '{name}' under {self.prefix}")
        return name

    def watch(self, name: str, watcher: Watcher) -> None:
        """Tell `watcher` each value that a client puts."""
        self._watchers.setdefault(self._known(name), []).append(watcher)

    def on_refusal(self, told: Refused) -> None:
        """Tell `told` why a put was refused."""
        self._refused.append(told)

    def guard(self, guard: Guard) -> None:
        """Ask `guard` about what a client puts, beyond the limits of each PV; it raises BadInput."""
        self._guards.append(guard)

    def on_taken(self, told: Taken) -> None:
        """Tell `told` each put that is taken: prefix, row, old and new value, by whom."""
        self._taken.append(told)

    def proposed(self, name: str, value: Value) -> "PVValues":
        """Give a copy with one value changed, to see whether it fits the others."""
        copy = PVValues(self.prefix, self.table.values())
        copy._values = self._values | {name: value}
        return copy

    def limit(self, name: str, low: float | None, high: float | None) -> None:
        """Set the limits of a number anew, as those of a position when the detector is known."""
        self._limits[self._known(name)] = (low, high)

    def limits(self, name: str) -> tuple[float | None, float | None]:
        """Give the limits of a number that hold now."""
        pv = self.table[name]
        return self._limits.get(name, (pv.low, pv.high))

    def checked(self, name: str, value: Any) -> Value:
        """Check a value against type and limits. Raises BadInput."""
        pv = self.table[self._known(name)]
        low, high = self.limits(name)
        if (low, high) != (pv.low, pv.high):
            pv = PV(pv.name, pv.record, pv.meaning, low=low, high=high, unit=pv.unit)
        return pv.checked(value)

    def set(self, name: str, value: Any) -> None:
        """Set a value from within the program; the mirror is told where it changes."""
        pv = self.table[self._known(name)]
        kept = pv.checked(value) if pv.choices else _fitting(pv, value)
        if self._values[name] == kept:
            return
        self._values[name] = kept
        if self.mirror is not None:
            self.mirror(pv, kept)

    def notice(self, text: str) -> None:
        """Tell an operator something, with the time of day: so the same said again is seen as new."""
        self.set("StreamNotice", f"{datetime.now():%H:%M:%S} {text}")

    def note(self, name: str, value: Value) -> None:
        """Keep a value that is already in the mirror."""
        self._values[name] = value

    def take(self, name: str, value: Any, by: str = "") -> bool:
        """Take what a client, `by`, has put; tell whether it is accepted. Never raises."""
        pv = self.table[name]
        try:
            if pv.readback:
                raise BadInput(f"{name} is written by the program")  # noqa: TRY301 - told like other refusals
            kept = self.checked(name, value)
            for guard in self._guards:
                guard(name, kept)
        except BadInput as refusal:
            for told in self._refused:
                self.deliver(told, str(refusal))
            return False
        for noted in self._taken:
            noted(self.prefix, pv, self._values[name], kept, by)
        self._values[name] = kept
        for watcher in self._watchers.get(name, ()):
            self.deliver(watcher, kept)
        return True

    def saved(self) -> dict[str, Value]:
        """Give the settings that outlive a restart; a choice by its word."""
        return {name: pv.shown(self[name]) for name, pv in self.table.items() if pv.saved}

    def restore(self, document: Mapping[str, Any]) -> list[str]:
        """Set what was saved; what cannot be is left out, and said why."""
        troubles = []
        for name, value in document.items():
            pv = self.table.get(name)
            if pv is None or not pv.saved:
                troubles.append(f"{self.prefix}{name} is no setting of this version")
                continue
            try:
                self.set(name, pv.checked(value))
            except BadInput as error:
                troubles.append(str(error))
        return troubles

    def shown(self) -> dict[str, Value]:
        """Give all values as people read them."""
        return {name: self.table[name].shown(value) for name, value in self._values.items()}


def _at_once(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


def _fitting(pv: PV, value: Any) -> Value:
    """Make what the program publishes fit: a long text loses its end, a number keeps its kind."""
    if pv.record in (Record.TEXT, Record.STRINGOUT):
        room = 255 if pv.record is Record.TEXT else 39
        return str(value).encode()[:room].decode(errors="ignore")
    return round(value) if pv.record is Record.LONGOUT else float(value)
