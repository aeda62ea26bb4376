"""EPICS motor records without a compiler: their fields under their names, over Channel Access and PVAccess.

EPICS base has no motor record, and a new record type needs compiled code. But a type may be defined with the
structure and the code of another: `motor` here is base's calc record whose inputs A to U carry the names of
a motor's fields. Its expression keeps VAL as it is, so that processing only tells others of a new VAL. All
fields are numbers.
"""

import ctypes
import re
import tempfile
from pathlib import Path

import epicscorelibs.path
from softioc import fields, imports, pdbbase, softioc
from softioc.imports import dbCore

from tomofly.model import TomoflyError

CALC_INPUTS = "ABCDEFGHIJKLMNOPQRSTU"
MOTOR_FIELDS = (
    "RBV", "VELO", "VMAX", "DMOV", "MOVN", "STOP", "JOGF", "JOGR", "JVEL", "JAR", "ACCL", "HLM", "LLM", "OFF",
    "MRES", "ERES", "SET", "DIR", "HOMF", "HOMR", "DVAL",
)  # fmt: skip
"""What the calc record's inputs are called, in their order."""
ORDERING_FIELDS = ("VAL", "STOP", "JOGF", "JOGR", "HOMF", "HOMR")
"""Those that act when they are written."""


def define_motor_records() -> None:
    """Add the record type to this process's EPICS; once, before records are made. Raises TomoflyError."""
    folder = Path(epicscorelibs.path.base_path) / "dbd"
    try:
        text = (folder / "calcRecord.dbd").read_text(encoding="utf-8")
        calc = _code_of("calc")
    except (OSError, AttributeError) as error:
        raise TomoflyError(
            f"Motor records cannot be made of this EPICS base: {error}", "Install another epicscorelibs"
        ) from error
    text = text.replace("recordtype(calc)", "recordtype(motor)")
    for letter, name in zip(CALC_INPUTS, MOTOR_FIELDS, strict=True):
        text = re.sub(rf"field\({letter},", f"field({name},", text)
    text = re.sub(r"\bpp\(TRUE\)", "", text)
    for name in ORDERING_FIELDS:
        text = re.sub(rf"field\({name}, *DBF_DOUBLE\) *\{{", f"field({name},DBF_DOUBLE) {{ pp(TRUE)", text)
    _load(text, str(folder))
    names = (ctypes.c_char_p * 1)(b"motor")
    dbCore.registerRecordTypes.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    dbCore.registerRecordTypes.restype = None
    dbCore.registerRecordTypes(pdbbase, 1, names, calc)


def _code_of(record_type: str) -> int:
    """Address of a record type's code in this process."""
    dbCore.registryRecordTypeFind.restype = ctypes.c_void_p
    dbCore.registryRecordTypeFind.argtypes = [ctypes.c_char_p]
    found: int = dbCore.registryRecordTypeFind(record_type.encode())
    return found


def load_motor(name: str, unit: str, meaning: str, forward: str, values: dict[str, float]) -> None:
    """Make one motor record; after other records, before the server starts.

    Whoever writes VAL, STOP, JOGF, … has the record `forward` processed, until whose end a put with
    completion waits.
    """
    lines = [f'field({key}, "{value:.10g}")' for key, value in values.items()]
    _load(
        f'record(motor, "{name}") {{ field(CALC, "VAL") field(PREC, "5") field(EGU, "{unit}") '
        f'field(DESC, "{meaning}") field(FLNK, "{forward}") field(TSE, "0") {" ".join(lines)} }}\n'
    )


def _load(text: str, path: str | None = None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".db", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        softioc.dbLoadDatabase(file.name, path)


def get_number(name: str) -> float:
    """Read a numerical field by its full name."""
    data = (ctypes.c_double * 1)()
    imports.db_get_field(name, fields.DBF_DOUBLE, ctypes.addressof(data), 1)
    return float(data[0])


def put_number(name: str, value: float, *, process: bool = False) -> None:
    """Write a numerical field by its full name and tell its monitors; process the record or do not."""
    data = (ctypes.c_double * 1)(value)
    imports.db_put_field_process(name, fields.DBF_DOUBLE, ctypes.addressof(data), 1, process)
