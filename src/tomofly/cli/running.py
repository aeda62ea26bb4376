"""Running a session in this process, with a view of it and a summary at the end."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tomofly.cli.output import duration_text, tell, write_json, write_line
from tomofly.cli.view import shown
from tomofly.flow.conductor import RunOptions
from tomofly.flow.process import run_session
from tomofly.model import TomoflyError
from tomofly.services import control, sessions, settings
from tomofly.services.exports.export import Export
from tomofly.services.highlights import telling_metrics
from tomofly.services.home import Home
from tomofly.services.progress import session_progress
from tomofly.services.series import SERIES_KIND
from tomofly.services.summary import summarise_session

SOME_FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True)
class RunRequest:
    """How to run: when to end, what to show, and what to export at the end."""

    options: RunOptions
    plain: bool = False
    json: bool = False
    export: Callable[[], Export] | None = None


def open_session(home: Home, folder: Path, kind: str, assignments: Sequence[str], name: str = "") -> str:
    """Make a session in a folder, or take up the one that is there with these settings; give its name."""
    known = sessions.session_in(home, folder)
    if known is None:
        wanted = name or sessions.free_name(home, folder.expanduser().resolve().name)
        sessions.create_session(home, wanted, kind=kind, folder=folder, assignments=assignments)
        return wanted
    if known.row.kind != kind:
        raise TomoflyError(f"The session in {folder} is of kind {known.row.kind}", "Choose another folder")
    if not (known.folder / sessions.SESSION_FILE).is_file():
        raise TomoflyError(
            f"The files of session '{known.row.name}' in {known.folder} are gone",
            f"Bring them back, or forget it: `tomofly session delete {known.row.name} --yes`",
        )
    if control.session_alive(known.row):
        raise TomoflyError(
            f"Session '{known.row.name}' in {known.folder} is being run already by {known.row.conductor}",
            f"Look at it with `tomofly session show --live {known.row.name}`, or stop it first",
        )
    settings.change_settings(home, known.row.name, assignments)
    return known.row.name


def run_here(home: Home, name: str, request: RunRequest) -> int:
    """Run a session until it ends; write the summary and give the exit status."""
    summary, status = run_to_summary(home, name, request)
    if request.json:
        write_json(summary)
    else:
        write_summary(summary)
    return status


def run_to_summary(home: Home, name: str, request: RunRequest) -> tuple[dict[str, Any], int]:
    """Run a session until it ends; give the summary and the exit status."""
    control.put_in_force(home, name)
    info = sessions.session_info(home, name)
    begin = time.monotonic()
    with logged_to(info.folder / control.CONDUCTOR_LOG), shown(home, name, plain=request.plain):
        state = run_session(home.database, info.row.id, request.options)
    wall = time.monotonic() - begin
    _require_items(home, name, request.options)
    exports = [request.export()] if request.export is not None else []
    summary = summarise_session(home, name, wall_s=wall, exports=exports)
    if any(count["failed"] for count in summary["kinds"].values()):
        return summary, SOME_FAILED
    return summary, INTERRUPTED if state == "stopped" else 0


def _require_items(home: Home, name: str, options: RunOptions) -> None:
    """A run over what is there that finds nothing has most likely been given a wrong pattern."""
    if not options.once or any(count.items for count in session_progress(home, name).kinds.values()):
        return
    source: Any = settings.current_settings(home, name)["source"]
    raise TomoflyError(
        f"No file matches the pattern {source.pattern}", "Check the folder and the pattern given as --source"
    )


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Let the session's process log to a file while it shares its terminal with a view."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))
        try:
            yield
        finally:
            structlog.reset_defaults()


COMPARED = (
    ("axis", "axis_angle_deg", "{:.1f}", "°"),
    ("inclined by", "tilt_offset_deg", "{:.1f}", "°"),
    ("thickness", "thickness_nm", "{:.0f}", " nm"),
    ("defocus", "defocus_at_zero_angstrom", "{:.0f}", " Å"),
)
"""What of a simulated series is told beside the truth."""


def against_truth(series: dict[str, Any]) -> list[str]:
    """Tell for people what was measured of a simulated series, with the truth in brackets."""
    told = []
    for label, name, form, unit in COMPARED:
        measured = f"{form.format(series[name])}{unit}" if name in series else "not known"
        if f"true_{name}" in series:
            told.append(f"{label} {measured} ({form.format(series[f'true_{name}'])}{unit})")
    if "shift_rms_angstrom" in series:
        told.append(f"shifts right within {series['shift_rms_angstrom']:.1f} Å")
    if "hand" in series:
        told.append(f"hand {series['hand']}")
    if "picks_f1" in series:
        told.append(f"{series['picks']} particles picked, F1 {series['picks_f1']:.2f}")
    return told


def write_summary(summary: dict[str, Any]) -> None:
    """Write a summary for people."""
    kind = next(iter(summary["kinds"]))
    write_line(
        f"{summary['done']} of {summary['items']} {kind if kind == SERIES_KIND else 'items'} done, "
        f"{summary['failed']} failed, "
        f"in {duration_text(summary['wall_s'])} ({summary['throughput_per_hour']:.0f} per hour); latency p50 "
        f"{duration_text(summary['latency_p50_s'])}, p95 {duration_text(summary['latency_p95_s'])}"
    )
    metrics = summary["metrics"]
    for name in telling_metrics(list(metrics)):
        spread = metrics[name]
        unit = f" {spread['unit']}" if spread["unit"] else ""
        write_line(
            f"  {name}: median {spread['median']:.4g}{unit} "
            f"({spread['minimum']:.4g} to {spread['maximum']:.4g})"
        )
    for series in summary.get("series", ()):
        write_line(f"  {series['series']}: {', '.join(against_truth(series))}")
    for name, value in summary.get("accuracy", {}).items():
        write_line(f"  against the truth, {name}: {value:.4g}")
    for failure in summary["failures"]:
        tell(f"failed: {failure['item']}, {failure['stage']}: {failure['reason']}")
    for export in summary["exports"]:
        write_line(f"exported {export['items']} items for {export['format']}: {export['folder']}")
    write_line(f"The session is in {summary['folder']}{os.sep}")
