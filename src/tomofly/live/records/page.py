"""The tables of PVs as a page of the reference."""

from collections.abc import Iterable

from tomofly.live.records import scan_table, stream_table
from tomofly.live.records.pv import COMPUTED, PV, Record

RECORDS = {Record.BUSY: "busy (a bo, see below)", Record.TEXT: "waveform of 256 UCHAR"}
SECTIONS: tuple[tuple[str, str, tuple[tuple[str, tuple[PV, ...]], ...]], ...] = (
    (
        "Collection",
        "After `prefixes.scan`, `2bmb:TomoScanStream:` by default.",
        (
            ("Streaming", scan_table.STREAMING),
            ("Commands and state", scan_table.COMMANDS),
            ("Rotation", scan_table.ROTATION),
            ("Exposure", scan_table.EXPOSURE),
            ("Dark and flat fields", scan_table.FIELDS),
            ("Files", scan_table.FILES),
            ("Experiment", scan_table.EXPERIMENT),
            ("Devices", scan_table.DEVICES),
            ("Added by tomofly", scan_table.ADDED),
        ),
    ),
    (
        "Reconstruction",
        "After `prefixes.stream`, `2bmb:TomoStream:` by default.",
        (
            ("Parameters", stream_table.PARAMETERS),
            ("Commands and state", stream_table.STATE),
            ("Channels", stream_table.CHANNELS),
            ("Added by tomofly", stream_table.ADDED),
        ),
    ),
)

OPENING = """# PVs of the live program

`tomofly live pvs --markdown` writes this page. All PVs answer over Channel Access and PVAccess. *Set by*
says who writes: clients, or the program alone (a put by a client is refused, and `StreamNotice` says so).
*Kept* ones outlive a restart. A value outside its limits, NaN, or one that does not go with the others is
refused: the PV keeps its value, and `StreamNotice` of the same prefix says why.

**Busy PVs** are 1 while the work lasts and 0 when it is done. A put with completion (`caput -c`, or a p4p
put with `wait=True`) returns when the work is done. EPICS's busy record is no part of the server, so each
is a bo of the known name and a second record `<name>_Hold` behind it, which is of no use to clients.

**Text PVs** are arrays of characters: `caget -S` shows them; with p4p,
`bytes(value).split(b"\\0")[0].decode()`.

**Channels over PVAccess alone**: the broadcast `StreamDarkFields`, `StreamFlatFields` (`value`, `sizex`,
`sizey`; behind them `firstFrame`, `frames`, `version`, `lens`, `exposure`, `binning`, `timeStamp`) and
`StreamTheta` (`value` in degrees, `sizex`; behind them `firstProjid`, `timeStamp`) after the scan prefix;
the slices `StreamRecon` (three beside each other), `StreamReconZ`, `StreamReconY`, `StreamReconX`,
`StreamReconVolume` and `Status` (a JSON text) after the stream prefix.
"""


def pv_page() -> str:
    """Write the page, Markdown."""
    parts = [OPENING]
    for title, where, groups in SECTIONS:
        parts.append(f"## {title}\n\n{where}\n")
        parts += [f"### {name}\n\n{_table(rows)}" for name, rows in groups]
    return "\n".join(parts)


def _table(rows: Iterable[PV]) -> str:
    lines = ["| PV | record | values | default | set by | kept | meaning |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(pv))} |" for pv in rows]
    return "\n".join(lines) + "\n"


def _cells(pv: PV) -> tuple[str, ...]:
    by_program = pv.readback or pv.record in COMPUTED
    return (
        f"`{pv.name}`",
        RECORDS.get(pv.record, str(pv.record)),
        " / ".join(pv.choices) or pv.range_text() or pv.unit,
        "" if pv.record in COMPUTED or pv.shown(pv.default) == "" else f"{pv.shown(pv.default)}",
        "program" if by_program else "clients",
        "kept" if pv.saved else "",
        pv.meaning,
    )
