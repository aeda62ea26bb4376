"""An EPICS server of tables of PVs: softioc records over Channel Access and PVAccess.

One process can serve once: EPICS initialises its database a single time. A busy record is made of two: a bo
of the known name, and `<name>_Hold` behind it whose processing lasts until the bo is 0 again. So a put with
completion (`caput -c`) returns when the work is done, monitors see 1 at once, and 0 can be put meanwhile.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

from softioc import asyncio_dispatcher, builder, fields, imports, softioc
from softioc.builder import PythonDevice

from tomofly.live.memory import unlock_memory
from tomofly.live.records.pv import PV, TEXT_BYTES, Record, Value
from tomofly.live.records.values import PVValues
from tomofly.live.records.waveform_text import as_text, as_waveform
from tomofly.live.records.writers import Writers

STATE_PREFIXES = (
    "ZR",
    "ON",
    "TW",
    "TH",
    "FR",
    "FV",
    "SX",
    "SV",
    "EI",
    "NI",
    "TE",
    "EL",
    "TV",
    "TT",
    "FT",
    "FF",
)
WATCHDOG_S = 5
HOLD = "_Hold"


class Ioc:
    """Serves groups of values; made, started and used in the thread of one asyncio loop."""

    def __init__(self, groups: Sequence[PVValues]) -> None:
        self.groups = groups
        self._loop = asyncio.get_running_loop()
        # Puts of the program's own come back through the same door as those of clients: told apart by this.
        self._own = threading.local()
        self._writers = Writers()
        self._records: dict[str, Any] = {}
        self._idle: dict[str, asyncio.Event] = {}
        for group in groups:
            for pv in group.table.values():
                self._records[group.prefix + pv.name] = self._build(group, pv)
            group.mirror = self._mirror_of(group)
            group.deliver = self._loop.call_soon_threadsafe

    def start(self) -> None:
        """Serve. The EPICS_* variables of the environment say where."""
        builder.LoadDatabase()
        softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher(self._loop))
        unlock_memory()

    def feed_watchdogs(self) -> None:
        """Say that the program is at work; it is believed for 5 s."""
        for group in self.groups:
            if "Watchdog" in group.table:
                self.put_field(f"{group.prefix}Watchdog", WATCHDOG_S)

    @staticmethod
    def put_field(name: str, value: float) -> None:
        """Put a number into a record or field by its full name."""
        data = (ctypes.c_double * 1)(value)
        imports.db_put_field_process(name, fields.DBF_DOUBLE, ctypes.addressof(data), 1, True)

    def show_limits(self, group: PVValues, name: str) -> None:
        """Write the limits of a number into its record, where screens take the ends of sliders from."""
        low, high = group.limits(name)
        for field, limit in (("LOPR", low), ("HOPR", high)):
            if limit is not None:
                self.put_field(f"{group.prefix}{name}.{field}", limit)

    def _mirror_of(self, group: PVValues) -> Callable[[PV, Value], None]:
        def mirror(pv: PV, value: Value) -> None:
            record = self._records[group.prefix + pv.name]
            self._own.writing = True
            try:
                record.set(_for_record(pv, value))
            finally:
                self._own.writing = False
            if pv.record is Record.BUSY:
                self._loop.call_soon_threadsafe(self._note_busy, group.prefix + pv.name, value)

        return mirror

    def _validator(self, group: PVValues, pv: PV) -> Callable[[Any, Any], bool]:
        def validate(_record: Any, value: Any) -> bool:
            plain = as_text(value) if pv.record is Record.TEXT else value
            if getattr(self._own, "writing", False):
                group.note(pv.name, plain)
                return True
            accepted = group.take(pv.name, plain, self._writers.current())
            if accepted and pv.record is Record.BUSY:
                self._loop.call_soon_threadsafe(self._note_busy, group.prefix + pv.name, value)
            return accepted

        return validate

    def _note_busy(self, name: str, value: Value) -> None:
        event = self._idle[name]
        event.clear() if value else event.set()

    def _build(self, group: PVValues, pv: PV) -> Any:
        name = group.prefix + pv.name
        if pv.record in (Record.CALC, Record.CALCOUT):
            return _computed(group.prefix, pv)
        if pv.name == "ServerRunning":
            return builder.records.bi(name, **_states(pv))
        value = _for_record(pv, group[pv.name])
        common = {"DESC": pv.meaning[:40], "initial_value": value}
        if pv.record in (Record.BI, Record.MBBI):
            make = builder.boolIn if pv.record is Record.BI else PythonDevice.mbbi
            scan = {"SCAN": "I/O Intr", "PINI": "YES", "DISP": 1} if pv.record is Record.MBBI else {}
            return make(name, **common, **scan, **_states(pv))
        common |= {"validate": self._validator(group, pv)}
        common |= {"always_update": pv.command or pv.record is Record.BUSY}
        return self._output(name, pv, common)

    def _output(self, name: str, pv: PV, common: dict[str, Any]) -> Any:
        limits = {k: v for k, v in (("LOPR", pv.low), ("HOPR", pv.high)) if v is not None}
        if pv.record is Record.TEXT:
            made = builder.WaveformOut(name, NELM=TEXT_BYTES, FTVL="UCHAR", **common)
            made.add_info("Q:form", "String")
            return made
        if pv.record is Record.BUSY:
            self._hold(name)
            return builder.boolOut(name, FLNK=name + HOLD, **_states(pv), **common)
        makers = {
            Record.AO: lambda: builder.aOut(name, EGU=pv.unit, PREC=pv.precision, **limits, **common),
            Record.LONGOUT: lambda: builder.longOut(name, EGU=pv.unit, **limits, **common),
            Record.BO: lambda: builder.boolOut(name, **_states(pv), **common),
            Record.MBBO: lambda: PythonDevice.mbbo(name, OMSL="supervisory", **_states(pv), **common),
            Record.STRINGOUT: lambda: builder.stringOut(name, **common),
        }
        return makers[pv.record]()

    def _hold(self, name: str) -> None:
        idle = self._idle[name] = asyncio.Event()
        idle.set()

        async def until_idle(_value: int) -> None:
            await idle.wait()

        builder.boolOut(name + HOLD, blocking=True, always_update=True, on_update=until_idle, initial_value=0)


def _computed(prefix: str, pv: PV) -> Any:
    name = prefix + pv.name
    follow = "CP" if pv.record is Record.CALC else "NPP"
    inputs = {f"INP{x}": f"{prefix}{source} {follow}" for x, source in zip("ABC", pv.inputs, strict=False)}
    if pv.record is Record.CALC:
        return builder.records.calc(
            name, CALC=pv.formula, EGU=pv.unit, PREC=pv.precision, PINI="YES", **inputs
        )
    out = {"OUT": f"{prefix}{pv.target} PP", "CALC": pv.formula}
    if pv.name == "Watchdog":
        out |= {"SCAN": "1 second", "DOPT": "Use OCAL", "OCAL": "A>0"}
    return builder.records.calcout(name, **out, **inputs)


def _states(pv: PV) -> dict[str, Any]:
    """Give the fields that name the choices of an enumerated record, with their alarms."""
    if pv.record in (Record.BO, Record.BI, Record.BUSY):
        named = dict(zip(("ZNAM", "ONAM"), pv.choices, strict=True))
        return named | dict(zip(("ZSV", "OSV"), pv.severities, strict=False))
    stated: dict[str, Any] = {}
    for place, (prefix, word) in enumerate(zip(STATE_PREFIXES, pv.choices, strict=False)):
        stated[prefix + "ST"] = word
        stated[prefix + "VL"] = pv.raw[place] if pv.raw else place
        if pv.severities:
            stated[prefix + "SV"] = pv.severities[place]
    return stated


def _for_record(pv: PV, value: Value) -> Any:
    if pv.record is Record.TEXT:
        return as_waveform(str(value))
    return value
