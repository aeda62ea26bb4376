"""What ``tomofly session`` shows of the tilts of a series, and of series before there is a session."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomofly.cli.item_commands import tell_when
from tomofly.cli.options import HomeOption, JsonOption, NameArgument, SetOption
from tomofly.cli.output import fitting_columns, tell, write_json, write_line, write_table

if TYPE_CHECKING:
    from tomofly.services.tilts import TiltSeries
    from tomofly.stages.tilts.preview import PreviewedSeries

LOOK_AGAIN_S = 2.0


def tilts(
    name: NameArgument,
    series: Annotated[str, typer.Argument(help="Key of a series; none: a line for each")] = "",
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show each tilt of a series: angle, order, dose, what was found, and why it is not used."""
    from tomofly.services.home import open_home
    from tomofly.services.tilts import all_series, series_tilts

    place = open_home(home)
    if not series:
        found = all_series(place, name)
        write_json([asdict(each) for each in found]) if json else _write_series(found)
        return
    one = series_tilts(place, name, series)
    write_json(asdict(one)) if json else _write_tilts(one)


def _write_series(found: "list[TiltSeries]") -> None:
    if not found:
        tell("No series yet: `tomofly session preview-groups` says what would make one.")
        return
    rows = [
        (one.series, _state(one), len(one.tilts) - len(_not_come(one)), _count(one, "used"),
         _count(one, "left out"), _count(one, "failed"), one.not_come, one.waits_for or one.reason)
        for one in found
    ]  # fmt: skip
    write_table(
        ("series", "state", "tilts", "used", "left_out", "failed", "not_come", "why"), rows
    )  # fmt: skip


def _write_tilts(one: "TiltSeries") -> None:
    rows = [_row(tilt) for tilt in map(asdict, one.tilts)]
    if rows:
        columns = fitting_columns([name for name in rows[0] if _tells(name, rows)], rows)
        write_table(columns, [[row.get(name) for name in columns] for row in rows])
    axis = "axis not known" if one.axis_angle_deg is None else f"axis {one.axis_angle_deg:.1f}°"
    order = f", order by {one.order_source}" if one.order_source else ""
    tell(f"{one.series}: {_state(one)}, {_count(one, 'used')} tilts used, {axis}{order}")
    for word, text in (("waits for", one.waits_for), ("failed", one.reason)):
        if text:
            tell(f"{word}: {text}")
    if one.not_come > len(_not_come(one)):
        tell(f"{one.not_come} of {one.expected} tilts have not come, of which some are named above")
    for code, message in one.flags:
        tell(f"{code}: {message}")


def _row(tilt: dict[str, Any]) -> dict[str, Any]:
    """Give a line for people: short names of columns, the unit where it is not plain."""
    return {
        "order": tilt["order"],
        "angle": None if tilt["tilt_angle_deg"] is None else round(tilt["tilt_angle_deg"], 2) + 0.0,
        "state": tilt["state"],
        "dose before": tilt["pre_exposure_e_per_a2"],
        "dose": tilt["dose_e_per_a2"],
        "dy/Å": tilt["shift_y_angstrom"],
        "dx/Å": tilt["shift_x_angstrom"],
        "±/Å": tilt["shift_error_angstrom"],
        "residual/Å": tilt["residual_angstrom"],
        "defocus/Å": tilt["defocus_angstrom"],
        "file": Path(tilt["file"]).name + ("" if tilt["section"] is None else f"[{tilt['section']}]"),
        "why": " ".join(filter(None, (tilt["excluded"] and f"({tilt['excluded']})", tilt["reason"]))),
    }


def _tells(column: str, rows: list[dict[str, Any]]) -> bool:
    """Say whether a column is worth its place."""
    return column in ("order", "angle", "state", "file") or any(row[column] not in (None, "") for row in rows)


def _state(one: "TiltSeries") -> str:
    return f"{one.state} (provisional)" if one.provisional else one.state


def _not_come(one: "TiltSeries") -> list[str]:
    return [tilt.name for tilt in one.tilts if tilt.state == "not come"]


def _count(one: "TiltSeries", state: str) -> int:
    return sum(tilt.state == state for tilt in one.tilts)


def process_now(
    name: NameArgument,
    series: Annotated[list[str], typer.Argument(help="Keys of series", show_default=False)],
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Go on with the tilts that a series has now, without waiting for more."""
    from tomofly.services import tilts as services
    from tomofly.services.home import open_home

    place = open_home(home)
    count = services.process_now(place, name, series)
    if json:
        write_json({"series": series, "files": count})
        return
    write_line(f"{', '.join(series)}: {count} {'file is' if count == 1 else 'files are'} there")
    tell_when(place, name, "It goes on with these as soon as all of them are ready")


def preview_groups(
    name: Annotated[str, typer.Argument(help="Session whose settings are taken; none: the defaults")] = "",
    source: Annotated[str, typer.Option(help="Files to look at, such as '/data/**/*.tif'")] = "",
    set_: SetOption = None,
    each: Annotated[bool, typer.Option("--each", help="Show each tilt")] = False,
    live: Annotated[bool, typer.Option("--live", help="Look again and again until Ctrl-C")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show which series a session would make of the tilts in a folder; nothing is made or written.

    Try patterns with --set 'compose.pattern={series}_{order:03d}_{angle}_*'.
    """
    from tomofly.services.home import open_home
    from tomofly.services.tilt_preview import (
        nothing_found,
        preview_settings,
        preview_source,
        session_settings,
    )

    lines = [*(set_ or ()), *([f"source.pattern={source}"] if source else ())]
    settings = preview_settings(lines, session_settings(open_home(home), name) if name else None)
    shown = preview_source(settings)
    if not shown and not live:
        raise nothing_found(settings)
    write_json([asdict(one) for one in shown]) if json else _write_preview(shown, each)
    while live:
        try:
            time.sleep(LOOK_AGAIN_S)
        except KeyboardInterrupt:
            return
        now = preview_source(settings)
        if now != shown:
            shown = now
            write_line()
            _write_preview(shown, each)


def _write_preview(shown: "list[PreviewedSeries]", each: bool) -> None:
    series = [one for one in shown if one.series]
    if not shown:
        tell("No file matches the pattern of the source yet.")
        return
    rows = [
        (
            one.series,
            one.source,
            len(one.tilts),
            *_span(one),
            one.axis_angle_deg,
            one.order_source,
            _dose(one),
        )
        for one in series
    ]
    if rows:
        write_table(("series", "by", "tilts", "from", "to", "axis", "order by", "dose"), rows)
    for one in shown:
        for problem in one.problems:
            tell(f"{one.series or 'notes'}: {problem}")
        for tilt in one.tilts if each or not one.series else ():
            _write_previewed(one, asdict(tilt))


def _write_previewed(one: "PreviewedSeries", tilt: dict[str, Any]) -> None:
    if not one.series:
        tell(f"in no series: {tilt['name']}: {tilt['remark']}")
        return
    angle = "no angle" if tilt["tilt_angle_deg"] is None else f"{tilt['tilt_angle_deg']:.1f}°"
    dose = (
        "" if tilt["accumulated_dose_e_per_a2"] is None else f", {tilt['accumulated_dose_e_per_a2']:g} before"
    )
    remark = f": {tilt['remark']}" if tilt["remark"] else ""
    write_line(f"  {one.series}  {tilt['order']}  {angle}{dose}  {tilt['name']}{remark}")


def _span(one: "PreviewedSeries") -> tuple[float | None, float | None]:
    angles = [tilt.tilt_angle_deg for tilt in one.tilts if tilt.tilt_angle_deg is not None]
    return (round(min(angles), 1), round(max(angles), 1)) if angles else (None, None)


def _dose(one: "PreviewedSeries") -> float | None:
    """Give the dose of all exposures of a series, as far as it is known."""
    ends = [
        tilt.accumulated_dose_e_per_a2 + tilt.dose_e_per_a2
        for tilt in one.tilts
        if tilt.dose_e_per_a2 is not None and tilt.accumulated_dose_e_per_a2 is not None
    ]
    return max(ends, default=None)
