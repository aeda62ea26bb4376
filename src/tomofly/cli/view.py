"""A session at work, as a live view on a terminal or as plain lines elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tomofly.cli.output import duration_text, size_text
from tomofly.cli.series_view import SeriesRows
from tomofly.model import Settings
from tomofly.services.highlights import told_briefly
from tomofly.services.home import Home
from tomofly.services.progress import Progress, TrackProgress, note_shown, session_progress
from tomofly.services.series import SeriesProgress
from tomofly.services.settings import current_settings
from tomofly.store.browse import BrowsedItem

REFRESH_S = 1.0
COLOURS = {
    "running": "green", "idle": "cyan", "closed": "cyan", "finished": "bold green", "failed": "bold red",
    "crashed": "bold red", "stopped": "yellow", "stopping": "yellow", "paused": "yellow", "created": "white",
}  # fmt: skip
NEW_LINE = "\n"
MEMBER_WORDS = {"movie": "tilts"}
"""What the members of groups are called, by their kind."""

SHORT_SETTINGS = (
    ("microscope", "pixel_size_angstrom", "{:g} Å/px"),
    ("microscope", "voltage_kv", "{:g} kV"),
    ("microscope", "spherical_aberration_mm", "Cs {:g} mm"),
    ("picks", "diameter_angstrom", "particles {} Å"),
    ("tilt_image", "pixel_size_angstrom", "series at {:g} Å/px"),
    ("transfer", "mode", "transfer: {}"),
)


def settings_in_short(settings: Settings) -> str:
    """Give the settings that tell most, on one line."""
    parts = []
    for section, name, template in SHORT_SETTINGS:
        value = getattr(settings.sections.get(section), name, None)
        if value is not None:
            shown = "–".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
            parts.append(template.format(shown))
    return ", ".join(parts)


def metrics_in_short(item: BrowsedItem) -> str:
    """Give the numbers of an item that people look at first."""
    return ", ".join(told_briefly(item))


def drawn(progress: Progress, short_settings: str) -> RenderableType:
    """Draw a session: header, tracks, the latest items, troubles."""
    parts: list[RenderableType] = [_header(progress, short_settings), _Tracks(progress)]
    if progress.series:
        earlier = progress.items - len(progress.series)
        more = [Text(f"and {earlier} earlier ones: `tomofly session items` lists all", style="dim")]
        parts += [Text(""), SeriesRows(progress.series), *(more if earlier > 0 else [])]
    elif progress.latest:
        latest = Table(box=None, show_header=False, pad_edge=False)
        for item in progress.latest:
            flags = " ".join(dict.fromkeys(code for _, code, _ in item.flags))
            latest.add_row(escape(item.key), metrics_in_short(item), f"[yellow]{escape(flags)}[/]")
        parts += [Text("Latest", style="bold"), latest]
    troubles = [f"[red]{escape(e.item)}[/] {e.stage}: {escape(e.reason)}" for e in progress.errors]
    troubles += [f"[yellow]{escape(str(alert['message']))}[/]" for alert in progress.alerts]
    if troubles:
        parts += [Text("Troubles", style="bold"), *(Text.from_markup(line) for line in troubles)]
    return Group(*parts)


def _header(progress: Progress, short_settings: str) -> Text:
    colour = COLOURS.get(progress.status, "white")
    vitals = progress.vitals
    lines = [
        f"[bold]{escape(progress.name)}[/] ({progress.kind})  "
        f"[{colour}]{progress.status}[/]: {progress.meaning}",
        f"{escape(progress.folder)}   {escape(short_settings)}",
        f"{counts_text(progress)}{NEW_LINE if progress.series else '   '}"
        f"latency p50 {duration_text(progress.latency_p50_s)}, p95 {duration_text(progress.latency_p95_s)}   "
        + vitals_text(vitals),
    ]
    if progress.note:
        lines.append(f"[red]{escape(progress.note)}[/]")
    return Text.from_markup("\n".join(lines))


def counts_text(progress: Progress) -> str:
    """Give the counts of items; of a session that brings them together, also those of what it is made of."""
    main, *others = progress.kinds or [""]
    members = [kind for kind in others if progress.series and kind in MEMBER_WORDS]
    told = [
        f"{progress.items} {main if members else 'items'}, {progress.done} done, {progress.failed} failed"
    ]
    for kind in members:
        count = progress.kinds[kind]
        failed = f", {count.failed} failed" if count.failed else ""
        told.append(f"{count.items} {MEMBER_WORDS[kind]}, {count.done} done{failed}")
    return "; ".join(told)


def vitals_text(vitals: Any) -> str:
    """Give free space, transfer speed and files on their way, those that are known."""
    parts = []
    if vitals.get("free_bytes") is not None:
        parts.append(f"{size_text(vitals['free_bytes'])} free")
    if vitals.get("transfer_mb_per_s"):
        parts.append(f"transfer {vitals['transfer_mb_per_s']:.1f} MB/s")
    if vitals.get("pending_files"):
        parts.append(f"{vitals['pending_files']} files arriving")
    if vitals.get("workers"):
        parts.append(f"{vitals['workers']} workers")
    return ", ".join(parts)


TrackColumn = tuple[str, Callable[[TrackProgress], str]]
TRACK_COLUMNS: tuple[TrackColumn, ...] = (
    ("wait", lambda t: str(t.waiting)),
    ("queue", lambda t: str(t.queued)),
    ("run", lambda t: str(t.running)),
    ("done", lambda t: str(t.done)),
    ("fail", lambda t: str(t.failed)),
    ("skip", lambda t: str(t.skipped)),
    ("per h", lambda t: f"{t.rate_per_hour:.0f}" if t.rate_per_hour else "-"),
    ("backlog", lambda t: str(t.backlog)),
    ("ETA", lambda t: duration_text(t.eta_s) if t.backlog else "-"),
    ("p50", lambda t: duration_text(t.latency_p50_s)),
    ("p95", lambda t: duration_text(t.latency_p95_s)),
)


DISPENSABLE = ("p95", "skip", "wait", "p50", "queue", "per h", "backlog", "run")
"""What is left out first where the terminal is too narrow for all: a whole column rather than half a word."""


@dataclass(frozen=True)
class _Tracks:
    """The table of tracks, with as many columns as there is room for."""

    progress: Progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Leave out columns until the rest fits."""
        columns = list(TRACK_COLUMNS)
        for title in ("", *DISPENSABLE):
            columns = [column for column in columns if column[0] != title]
            table = _tracks(self.progress, columns)
            if Measurement.get(console, options.update(max_width=1000), table).maximum <= options.max_width:
                break
        yield table


def _tracks(progress: Progress, columns: Sequence[TrackColumn]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("track", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for track in progress.tracks:
        colour = COLOURS.get(track.state, "white")
        numbers = [cell(track) for _, cell in columns]
        table.add_row(escape(track.name), f"[{colour}]{track.state}[/]", *numbers)
    return table


def line_of(progress: Progress) -> str:
    """Give the state of a session on one line."""
    rate = max((track.rate_per_hour for track in progress.tracks), default=0.0)
    parts = [f"{progress.status}: {progress.done} of {progress.items} done"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.series:
        return ", ".join([*parts, *map(_said_of, reversed(progress.series))])
    if rate:
        parts.append(f"{rate:.0f} items/h")
    if progress.latest:
        latest = progress.latest[0]
        parts.append(f"latest {latest.key} ({metrics_in_short(latest)})")
    return ", ".join(parts)


def _said_of(series: SeriesProgress) -> str:
    """Give the state of a series in a few words."""
    counts = " ".join(f"{count} {mark}" for mark, count in series.counts().items())
    tomogram = {"": "", "provisional": ", provisional tomogram", "ready": ", tomogram"}[series.tomogram]
    return f"{series.item.key} {series.state} ({counts}{tomogram})"


def write_progress(progress: Progress) -> None:
    """Write a session's progress once, to standard output."""
    Console(highlight=False).print(drawn(progress, ""))


class View(Protocol):
    """Something that shows progress as it is."""

    def show(self, progress: Progress) -> None:
        """Show this progress now."""


class PlainView:
    """Lines on standard error, one for each change, and one for each new trouble."""

    def __init__(self) -> None:
        self._said: tuple[object, ...] = ()
        self._troubles: set[tuple[str, str, float | None]] = set()

    def show(self, progress: Progress) -> None:
        """Write what has changed."""
        for error in progress.errors:
            trouble = (error.item, error.stage, error.at)
            if trouble not in self._troubles:
                self._troubles.add(trouble)
                print(f"failed: {error.item}, {error.stage}: {error.reason}", file=sys.stderr)
        now = (progress.status, progress.items, progress.done, progress.failed)
        said = (*now, *map(_said_of, progress.series))
        if said != self._said:
            self._said = said
            print(line_of(progress), file=sys.stderr, flush=True)


class LiveView:
    """A picture on the terminal that is drawn again and again."""

    def __init__(self, live: Live, short_settings: str) -> None:
        self._live = live
        self._settings = short_settings

    def show(self, progress: Progress) -> None:
        """Draw the picture anew."""
        self._live.update(drawn(progress, self._settings), refresh=True)


@contextmanager
def opened_view(home: Home, name: str, *, plain: bool) -> Iterator[View]:
    """Give a view for a session: live where standard error is a terminal, unless ``plain`` is asked for."""
    console = Console(stderr=True, highlight=False)
    if plain or not console.is_terminal:
        yield PlainView()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        yield LiveView(live, settings_in_short(current_settings(home, name)))


@contextmanager
def shown(home: Home, name: str, *, plain: bool = False) -> Iterator[None]:
    """Show a session from a thread of its own while the caller runs it; once more at the end."""
    end = threading.Event()
    with opened_view(home, name, plain=plain) as view:
        thread = threading.Thread(target=_follow, args=(home, name, view, end), name="view", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join(timeout=10)
            _show(home, name, view)


def _show(home: Home, name: str, view: View, before: Progress | None = None) -> Progress:
    progress = session_progress(home, name, before=before)
    view.show(progress)
    note_shown(home, progress)
    return progress


def _follow(home: Home, name: str, view: View, end: threading.Event) -> None:
    progress = None
    while not end.wait(REFRESH_S):
        progress = _show(home, name, view, progress)


def follow_session(home: Home, name: str) -> None:
    """Show a session until Ctrl-C; it goes on without being watched."""
    end = threading.Event()
    with opened_view(home, name, plain=False) as view:
        try:
            _show(home, name, view)
            _follow(home, name, view, end)
        except KeyboardInterrupt:
            return
