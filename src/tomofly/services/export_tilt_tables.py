"""Everything that is known of tilt series, as tables: one line for each series, and one for each tilt."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tomofly.services.export import Draft
from tomofly.services.export_series import NotReady, aligned_series, is_done, tilt_items
from tomofly.services.filters import metrics_of
from tomofly.services.home import Home
from tomofly.services.table import Column, table_columns, table_row, write_csv
from tomofly.stages.tilts.files import AlignmentFile, CtfFile, SeriesFile, View, read_ctf, read_series
from tomofly.store.browse import BrowsedItem

GEOMETRY = (
    "A point p = (x, y, z) from the middle of the volume, index n // 2 from 0, is seen at "
    "[Rz(axis_angle) Ry(tilt_angle) Rx(x_tilt) p]_xy - shift from the middle of the image, right-handed; "
    "the defocus there is that of the tilt plus hand times the third row"
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


def write_tilt_tables(home: Home, items: Iterable[BrowsedItem], draft: Draft) -> None:
    """Write all series that passed the filter, however far they are, and the tilts of those composed."""
    described = _described(home, items, draft)
    if draft.options.format == "json":
        _write_json(draft, described)
        return
    tilts = draft.add_file("tilts.csv")
    with tilts.open("w", encoding="utf-8", newline="") as file:
        columns = tilt_columns(draft)
        writer = csv.writer(file)
        writer.writerow(
            [f"{column.name} [{column.unit}]" if column.unit else column.name for column in columns]
        )
        rows = _noting_tilts(described, columns, writer)
        series_columns = table_columns(draft.scope.workflow, draft.scope.kind)
        draft.items = write_csv(draft.add_file("series.csv"), series_columns, rows)


def tilt_columns(draft: Draft) -> list[Column]:
    """Give the columns of a tilt: as composed, aligned and fitted, then what its own stages measured."""
    workflow = draft.scope.workflow
    measured = [
        Column(f"{stage}.{metric.name}", metric.unit, metric.help, metric.good)
        for stage, metric in metrics_of(workflow, workflow.root_kind)
    ]
    return [*_VIEW, *_ALIGNMENT, *_CTF, *measured, Column("image", help="Below the session's folder")]


def _noting_tilts(
    described: Iterable[tuple[Row, list[Row]]], columns: Sequence[Column], writer: Any
) -> Iterator[Row]:
    for series, tilts in described:
        for tilt in tilts:
            writer.writerow(["" if (value := tilt.get(c.name)) is None else value for c in columns])
        yield series


def _write_json(draft: Draft, described: Iterable[tuple[Row, list[Row]]]) -> None:
    columns = {
        "columns": [vars(c) for c in table_columns(draft.scope.workflow, draft.scope.kind)],
        "tilt_columns": [vars(c) for c in tilt_columns(draft)],
    }
    head = {"geometry": GEOMETRY, "shift_unit": "Å", **columns}
    with draft.add_file("series.json").open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"items": [\n')
        for series, tilts in described:
            text = json.dumps({**series, "tilts": tilts}, ensure_ascii=False)
            file.write((",\n" if draft.items else "") + text)
            draft.items += 1
        file.write("\n]}\n")


def _described(home: Home, items: Iterable[BrowsedItem], draft: Draft) -> Iterator[tuple[Row, list[Row]]]:
    for item in items:
        yield table_row(draft.scope, item), _tilt_rows(home, draft, item)


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
