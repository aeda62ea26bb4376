"""Everything that is known of tilt series, as tables: one line for each series, and one for each tilt."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from tomofly.formats.errors import BadFile
from tomofly.services.exports.export import Draft
from tomofly.services.exports.picks import picks_of
from tomofly.services.exports.series import NotReady, aligned_series, is_done, tilt_items, tomogram_layout
from tomofly.services.filters import metrics_of
from tomofly.services.home import Home
from tomofly.services.table import Column, table_columns, table_row, write_csv
from tomofly.stages.tilts.files import AlignmentFile, CtfFile, SeriesFile, View, read_ctf, read_series
from tomofly.store.browse import BrowsedItem

GEOMETRY = (
    "A point p = (x, y, z) from the middle of the volume, index n // 2 from 0, is seen at "
    "[Rz(axis_angle) Ry(tilt_angle) Rx(x_tilt) p]_xy - shift from the middle of the image, right-handed; "
    "the defocus there is that of the tilt plus hand times the third row. Local movement, if any, is "
    "to be applied on top of the shift, at places (y_px, x_px) of the specimen, per tilt in the stack"
)

_VIEW = (
    Column("series"),
    Column("key"),
    Column("section", help="Of its file, from 0; none for a file of its own"),
    Column("order", help="Of exposure, from 0"),
    Column("nominal_tilt_angle", "deg"),
    Column("dose", "e⁻/Å²"),
    Column("accumulated_dose", "e⁻/Å²", "Of all exposures of the series before it"),
    Column("target_defocus", "Å", "Underfocus positive"),
    Column("used", help="1 where it is in the stack and aligned"),
    Column("excluded", help="Why it is not used, in a word"),
    Column("reason"),
)
_ALIGNMENT = (
    Column("tilt_angle", "deg", "Of the specimen, its inclination included"),
    Column("axis_angle", "deg", "Anticlockwise from the image's y axis"),
    Column("x_tilt", "deg"),
    Column("shift_x", "Å", "To be applied to the image"),
    Column("shift_y", "Å", "To be applied to the image"),
    Column("shift_error", "Å", good="low"),
    Column("residual", "Å", good="low"),
)
_CTF = (
    Column("defocus_u", "Å", "Underfocus positive, at the tilt axis"),
    Column("defocus_v", "Å"),
    Column("astigmatism_angle", "deg", "Direction of U, from +x towards +y"),
    Column("defocus_error", "Å", good="low"),
    Column("fit_resolution", "Å", good="low"),
    Column("hand", help="1 where the defocus grows with depth, -1 where it falls"),
)

Row = dict[str, Any]


_PICK = (
    Column("series"),
    Column("x", "Å", "From the middle of the volume, index n // 2 from 0"),
    Column("y", "Å"),
    Column("z", "Å"),
    Column("score", "", "In deviations of the noise", "high"),
)


@dataclass(frozen=True)
class _Described:
    """A series as the tables have it: its own line, those of its tilts and picks, and its local movement."""

    series: Row
    tilts: list[Row]
    picks: list[Row]
    local: Row | None


def write_tilt_tables(home: Home, items: Iterable[BrowsedItem], draft: Draft) -> None:
    """Write all series that passed the filter, however far they are, and the tilts of those composed."""
    described = _described(home, items, draft)
    if draft.options.format == "json":
        _write_json(draft, described)
        return
    columns = table_columns(draft.scope.workflow, draft.scope.kind)
    with (
        draft.add_file("tilts.csv").open("w", encoding="utf-8", newline="") as tilts,
        draft.add_file("particles.csv").open("w", encoding="utf-8", newline="") as picks,
    ):
        parts = _Lines(tilts, tilt_columns(draft)), _Lines(picks, _PICK)
        draft.items = write_csv(draft.add_file("series.csv"), columns, _noting(described, *parts))


def tilt_columns(draft: Draft) -> list[Column]:
    """Give the columns of a tilt: as composed, aligned and fitted, then what its own stages measured."""
    workflow = draft.scope.workflow
    measured = [
        Column(f"{stage}.{metric.name}", metric.unit, metric.help, metric.good)
        for stage, metric in metrics_of(workflow, workflow.root_kind)
    ]
    return [*_VIEW, *_ALIGNMENT, *_CTF, *measured, Column("image", help="Below the session's folder")]


class _Lines:
    """A CSV file that is written line by line, with the units in the names of its columns."""

    def __init__(self, file: TextIO, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        self._writer = csv.writer(file)
        self._writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in columns])

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows; what has no value is an empty cell."""
        for row in rows:
            self._writer.writerow(["" if row.get(name) is None else row[name] for name in self._names])


def _noting(described: Iterable[_Described], tilts: _Lines, picks: _Lines) -> Iterator[Row]:
    for each in described:
        tilts.write(each.tilts)
        picks.write(each.picks)
        yield each.series


def _write_json(draft: Draft, described: Iterable[_Described]) -> None:
    columns = {
        "columns": [vars(c) for c in table_columns(draft.scope.workflow, draft.scope.kind)],
        "tilt_columns": [vars(c) for c in tilt_columns(draft)],
        "pick_columns": [vars(c) for c in _PICK],
    }
    head = {"geometry": GEOMETRY, "shift_unit": "Å", **columns}
    with draft.add_file("series.json").open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"items": [\n')
        for each in described:
            row = {**each.series, "tilts": each.tilts, "picks": each.picks, "local_movement": each.local}
            text = json.dumps(row, ensure_ascii=False)
            file.write((",\n" if draft.items else "") + text)
            draft.items += 1
        file.write("\n]}\n")


def _described(home: Home, items: Iterable[BrowsedItem], draft: Draft) -> Iterator[_Described]:
    for item in items:
        yield _Described(
            table_row(draft.scope, item),
            _tilt_rows(home, draft, item),
            list(_pick_rows(draft, item)),
            _local(draft, item),
        )


def _local(draft: Draft, item: BrowsedItem) -> Row | None:
    """Give the local movement as the alignment has it, in pixels of the stack; None where there is none."""
    if not is_done(item, "series_alignment"):
        return None
    try:
        _, alignment = aligned_series(draft, item)
    except FileNotFoundError:
        return None
    if alignment.local is None:
        return None
    return {"pixel_size_angstrom": alignment.pixel_size_angstrom, **alignment.local.model_dump()}


def _pick_rows(draft: Draft, item: BrowsedItem) -> Iterator[Row]:
    try:
        picks = picks_of(draft, item, tomogram_layout(draft, item))
    except (BadFile, FileNotFoundError) as error:
        draft.note(f"The picks of {item.key} are not listed, as they are changing: {error}")
        return
    for (x, y, z), score in zip(picks.xyz_angstrom.tolist(), picks.score.tolist(), strict=True):
        yield {"series": item.key, "x": x, "y": y, "z": z, "score": score}


def _tilt_rows(home: Home, draft: Draft, item: BrowsedItem) -> list[Row]:
    """Describe the views of a series in the order of exposure; none while it is not composed."""
    if ("compose", "series") not in item.products:
        return []
    try:
        series = read_series(draft.scope.folder / item.products["compose", "series"])
        members = tilt_items(home, draft, series)
        results = _results(draft, item, series)
    except (NotReady, FileNotFoundError) as error:
        draft.note(f"The tilts of {item.key} are not listed, as they are changing: {error}")
        return []
    used = iter(results)
    rows = [
        _view_row(item.key, view) | ({} if view.excluded else next(used)) | _measured(members.get(view.key))
        for view in series.views
    ]
    return sorted(rows, key=lambda row: row["order"])


def _view_row(series: str, view: View) -> Row:
    return {
        "series": series,
        "key": view.key,
        "section": view.section,
        "order": view.order,
        "nominal_tilt_angle": view.tilt_angle_deg,
        "dose": view.dose_e_per_a2,
        "accumulated_dose": view.accumulated_dose_e_per_a2,
        "target_defocus": view.target_defocus_angstrom,
        "used": int(not view.excluded),
        "excluded": view.excluded,
        "reason": view.reason,
    }


def _results(draft: Draft, item: BrowsedItem, series: SeriesFile) -> list[Row]:
    """Give what alignment and CTF say of each view in the stack, as far as they stand."""
    rows: list[Row] = [{} for _ in series.used]
    if not is_done(item, "compose") or not is_done(item, "series_alignment"):
        return rows
    _, alignment = aligned_series(draft, item)
    if len(alignment.aligned) != len(rows):
        return rows
    path = item.products.get(("series_ctf", "ctf"))
    ctf = read_ctf(draft.scope.folder / path) if path and is_done(item, "series_ctf") else None
    for n in range(len(rows)):
        rows[n] = _alignment_row(alignment, n)
        if ctf is not None and len(ctf.defocus_u_angstrom) == len(rows):
            rows[n] |= _ctf_row(ctf, n)
    return rows


def _alignment_row(alignment: AlignmentFile, n: int) -> Row:
    pixel = alignment.pixel_size_angstrom
    left_out = {"used": 0, "excluded": "not_aligned", "reason": "It could not be aligned"}
    return {
        "tilt_angle": alignment.tilt_angle_deg[n],
        "axis_angle": alignment.axis_angle_deg[n],
        "x_tilt": alignment.x_tilt_deg,
        "shift_x": alignment.shift_x_px[n] * pixel,
        "shift_y": alignment.shift_y_px[n] * pixel,
        "shift_error": _known(alignment.shift_error_px[n] * pixel),
        "residual": _known(alignment.residual_angstrom[n]),
        **({} if alignment.aligned[n] else left_out),
    }


def _ctf_row(ctf: CtfFile, n: int) -> Row:
    return {
        "defocus_u": _known(ctf.defocus_u_angstrom[n]),
        "defocus_v": _known(ctf.defocus_v_angstrom[n]),
        "astigmatism_angle": _known(ctf.astigmatism_angle_deg[n]),
        "defocus_error": _known(ctf.defocus_error_angstrom[n]),
        "fit_resolution": _known(ctf.fit_resolution_angstrom[n]),
        "hand": ctf.hand,
    }


def _measured(item: BrowsedItem | None) -> Row:
    """Give what the stages of a tilt measured of it, and where its image lies."""
    if item is None:
        return {}
    numbers: Row = {f"{stage}.{name}": value for (stage, name), value in item.metrics.items()}
    return {**numbers, "image": item.products.get(("tilt_motion", "average"))}


def _known(value: float) -> float | None:
    """Give a number, None for one that is none: neither CSV nor JSON has a word for it."""
    return value if math.isfinite(value) else None
