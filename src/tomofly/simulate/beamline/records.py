"""Rows of PVs as softioc records: what is written acts, and what is shown is refreshed."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from softioc import builder

from tomofly.simulate.beamline.doings import Order, Orders, Shown
from tomofly.simulate.beamline.pv_table import Kind, Row

TEXT_BYTES = 256
# Stands for no limit.
LARGEST = 1e9


class Group:
    """The PVs of one prefix."""

    def __init__(
        self, prefix: str, rows: Sequence[Row], orders: Orders, shown: Shown, start: dict[str, Any]
    ) -> None:
        """`start`: values that PVs begin with, where they differ from those of the table."""
        self.prefix = prefix
        self._shown = shown
        self._last: dict[str, float | str] = {}
        self._records: dict[str, Any] = {}
        for row in rows:
            value = start.get(row.name, row.initial)
            self._records[row.name] = self._build(row, value, orders.get(row.name))

    @property
    def names(self) -> list[str]:
        """Names of the PVs."""
        return [self.prefix + name for name in self._records]

    def __getitem__(self, name: str) -> Any:
        """The value of a PV."""
        return self._records[name].get()

    def refresh(self) -> None:
        """Show what has changed."""
        for name, read in self._shown.items():
            value = read()
            if self._last.get(name) != value:
                self._last[name] = value
                self._records[name].set(value)

    def set(self, name: str, value: float) -> None:
        """Show a value without acting on it."""
        self._records[name].set(value, process=False)

    def _build(self, row: Row, value: float | str, order: Order | None) -> Any:
        name = self.prefix + row.name
        common: dict[str, Any] = {"DESC": row.meaning[:40], "initial_value": _typed(row, value)}
        if row.readback:
            return _readback(name, row, common)
        common |= {"always_update": True, "on_update": self._updater(row, order)}
        common |= {"blocking": True} if row.lasting else {}
        return _writable(name, row, common)

    def _updater(self, row: Row, order: Order | None) -> Callable[[Any], Any]:
        async def wait_for(end: float) -> None:
            while (left := end - time.time()) > 0:
                await asyncio.sleep(left)
            self.refresh()

        async def act(value: Any) -> None:
            if order is None:
                return
            ends_at = order(value)
            self.refresh()
            if row.lasting and isinstance(ends_at, float):
                await wait_for(ends_at)

        return act


def _typed(row: Row, value: float | str) -> float | int | str:
    if row.kind is Kind.TEXT:
        return str(value) if value != 0 else ""
    return float(value) if row.kind is Kind.NUMBER else int(value)


def _writable(name: str, row: Row, common: dict[str, Any]) -> Any:
    limits = _limits(row)
    if row.kind is Kind.NUMBER:
        common |= {"validate": lambda _record, value: math.isfinite(value)}
    makers: dict[Kind, Callable[[], Any]] = {
        Kind.NUMBER: lambda: builder.aOut(name, PREC=5, **limits, **common),
        Kind.WHOLE: lambda: builder.longOut(name, **limits, **common),
        Kind.SWITCH: lambda: builder.boolOut(name, *row.choices, **common),
        Kind.CHOICE: lambda: builder.mbbOut(name, *row.choices, **common),
        Kind.TEXT: lambda: builder.longStringOut(name, length=TEXT_BYTES, **common),
    }
    return makers[row.kind]()


def _limits(row: Row) -> dict[str, float]:
    """Fields that cut what is written; EPICS cuts only where both differ."""
    if row.low is None:
        return {}
    number = int if row.kind is Kind.WHOLE else float
    return {"DRVL": number(row.low), "DRVH": number(LARGEST if row.high is None else row.high)}


def _readback(name: str, row: Row, common: dict[str, Any]) -> Any:
    makers: dict[Kind, Callable[[], Any]] = {
        Kind.NUMBER: lambda: builder.aIn(name, PREC=5, **common),
        Kind.WHOLE: lambda: builder.longIn(name, **common),
        Kind.SWITCH: lambda: builder.boolIn(name, *row.choices, **common),
        Kind.CHOICE: lambda: builder.mbbIn(name, *row.choices, **common),
        Kind.TEXT: lambda: builder.stringIn(name, **common),
    }
    return makers[row.kind]()
