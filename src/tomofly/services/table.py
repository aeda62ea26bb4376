"""The table of a session: pages for looking, and the whole of it for spreadsheets and notebooks."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomofly.flow.graph import Workflow
from tomofly.flow.workflows import workflow_of
from tomofly.model import TomoflyError
from tomofly.services.filters import checked_kind, final_stages, metrics_of, parse_filters, parse_order
from tomofly.services.home import Home
from tomofly.services.progress import enabled_stages
from tomofly.services.series import TOMOGRAM
from tomofly.services.settings import settings_in_force
from tomofly.store import SessionRow, browse, sessions, statistics
from tomofly.store.browse import BrowsedItem, ItemFilter, Order

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Column:
    """One column of the table; ``good`` says which end of a metric is the better one."""

    name: str
    unit: str = ""
    help: str = ""
    good: str = ""


TIME_COLUMNS = ("acquired_at", "detected_at", "done_at", "shown_at")
IDENTITY_COLUMNS: tuple[Column, ...] = (
    Column("key"),
    Column("state"),
    Column("waiting_for", help="What has to come before it goes on"),
    Column("excluded", help="Why it is left out by hand"),
    Column("flags"),
    Column("source"),
    *(Column(name, "s") for name in TIME_COLUMNS),
    Column("latency_s", "s", "From when it, or the last of its members, was whole to its last result", "low"),
)
GROUP_COLUMNS = (
    Column("members", help="Items that belong to it, those left out by hand too"),
    Column("failed_members", help="Those that came to nothing", good="low"),
    Column("excluded_members", help="Those left out by hand", good="low"),
)
TOMOGRAM_COLUMN = Column(
    "last_tilt_to_tomogram_s", "s", "From when the last tilt was whole to the tomogram on disk", "low"
)


@dataclass(frozen=True)
class Page:
    """One page of the table, how many items passed the filter, and which columns are metrics."""

    total: int
    offset: int
    items: tuple[BrowsedItem, ...]
    rows: tuple[dict[str, Any], ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class TableScope:
    """A session as its table needs it: the table is of one kind of items."""

    session: SessionRow
    workflow: Workflow
    final_stages: tuple[str, ...]
    kind: str

    @cached_property
    def metric_names(self) -> Mapping[tuple[str, str], str]:
        """The column of each metric."""
        return _metric_names(self.workflow, self.kind)

    @property
    def folder(self) -> Path:
        """Where the session's products are."""
        return Path(self.session.folder)


def table_scope(home: Home, name: str, kind: str = "") -> TableScope:
    """Give what the table needs to know of a session; of the main kind of items unless another is named.

    Raises TomoflyError.
    """
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        workflow = workflow_of(session.kind)
        settings = settings_in_force(connection, session, workflow)
    kind = checked_kind(workflow, kind)
    final = final_stages(workflow, enabled_stages(workflow, settings), kind=kind)
    return TableScope(session, workflow, final, kind)


def table_filter(
    scope: TableScope, expressions: Sequence[str] = (), *, excluded: bool | None = None
) -> ItemFilter:
    """Read filter expressions for a session; ``excluded`` holds unless an expression speaks of it."""
    base = ItemFilter(scope.kind, scope.final_stages)
    wanted = parse_filters(scope.workflow, expressions, base)
    return wanted if wanted.excluded is not None else replace(wanted, excluded=excluded)


def table_page(
    home: Home,
    name: str,
    *,
    filters: Sequence[str] = (),
    sort: str = "-arrival",
    limit: int = 50,
    offset: int = 0,
    kind: str = "",
) -> Page:
    """Give one page of a session's table, of its main kind of items unless another is named.

    Raises TomoflyError for a filter that cannot be read.
    """
    scope = table_scope(home, name, kind)
    wanted = table_filter(scope, filters)
    order: Order = parse_order(scope.workflow, sort, scope.kind)
    with home.database.read() as connection:
        total = browse.count_items(connection, scope.session.id, wanted)
        items = browse.browse_items(connection, scope.session.id, wanted, order, limit=limit, offset=offset)
    rows = tuple(table_row(scope, item) for item in items)
    return Page(total, offset, tuple(items), rows, tuple(scope.metric_names.values()))


def table_columns(workflow: Workflow, kind: str = "") -> list[Column]:
    """Give the columns of the table: what an item is, then every metric with its unit."""
    kind = kind or workflow.main_kind
    names = _metric_names(workflow, kind)
    of_groups = GROUP_COLUMNS if workflow.group_of(kind) else ()
    to_tomogram = (TOMOGRAM_COLUMN,) if _makes_tomograms(workflow, kind) else ()
    metrics = [
        Column(names[stage, metric.name], metric.unit, metric.help, metric.good)
        for stage, metric in metrics_of(workflow, kind)
    ]
    return [*IDENTITY_COLUMNS, *of_groups, *to_tomogram, *metrics]


def _makes_tomograms(workflow: Workflow, kind: str) -> bool:
    return TOMOGRAM in workflow.by_name and workflow.item_kind[TOMOGRAM] == kind


def _metric_names(workflow: Workflow, kind: str) -> dict[tuple[str, str], str]:
    """A metric's column has its own name, with the stage before it where two stages share one."""
    metrics = [(stage, metric.name) for stage, metric in metrics_of(workflow, kind)]
    names = [name for _, name in metrics]
    return {(s, n): n if names.count(n) == 1 else f"{s}.{n}" for s, n in metrics}


def table_row(scope: TableScope, item: BrowsedItem) -> dict[str, Any]:
    """Give one line of the table by the names of its columns; None where there is no value."""
    gathered = item.gathered
    row: dict[str, Any] = {
        "key": item.key,
        "state": item.state(scope.final_stages),
        "waiting_for": item.waiting_for,
        "excluded": item.excluded,
        "flags": ";".join(dict.fromkeys(code for _, code, _ in item.flags)),
        "source": item.source,
        "acquired_at": item.acquired_at if gathered is None else gathered.acquired_at,
        "detected_at": item.detected_at,
        "done_at": item.done_at(scope.final_stages),
        "shown_at": item.shown_at,
        "latency_s": item.latency_s(scope.final_stages),
    }
    if scope.workflow.group_of(scope.kind):
        row |= {
            "members": gathered.members if gathered else 0,
            "failed_members": gathered.failed if gathered else 0,
            "excluded_members": gathered.excluded if gathered else 0,
        }
    if _makes_tomograms(scope.workflow, scope.kind):
        row[TOMOGRAM_COLUMN.name] = item.latency_s((TOMOGRAM,))
    row |= {column: item.metrics.get(metric) for metric, column in scope.metric_names.items()}
    return row


def table_rows(home: Home, scope: TableScope, wanted: ItemFilter) -> Iterator[dict[str, Any]]:
    """Give all lines that pass a filter, in the order of their keys, without holding them all."""
    with home.database.read() as connection:
        for item in browse.each_item(connection, scope.session.id, wanted):
            yield table_row(scope, item)


def data_frame(home: Home, name: str, filters: Sequence[str] = (), *, kind: str = "") -> "pandas.DataFrame":
    """Give a session's table as a pandas DataFrame, one line per item; times become UTC timestamps."""
    import pandas

    scope = table_scope(home, name, kind)
    columns = [column.name for column in table_columns(scope.workflow, scope.kind)]
    frame = pandas.DataFrame(table_rows(home, scope, table_filter(scope, filters)), columns=columns)
    for column in TIME_COLUMNS:
        frame[column] = pandas.to_datetime(frame[column].astype("float64"), unit="s", utc=True)
    return frame


def write_csv(path: Path, columns: Sequence[Column], rows: Iterator[dict[str, Any]]) -> int:
    """Write a table with the units in the names of its columns; give the number of lines."""
    titles = [f"{column.name} [{column.unit}]" if column.unit else column.name for column in columns]
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        for row in rows:
            writer.writerow(["" if (value := row[column.name]) is None else value for column in columns])
            count += 1
    return count


def write_json(path: Path, columns: Sequence[Column], rows: Iterator[dict[str, Any]]) -> int:
    """Write a table as JSON, one item per line of the file, with its columns described before it."""
    described = [vars(column) for column in columns]
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"columns": ' + json.dumps(described, ensure_ascii=False) + ',\n"items": [\n')
        for row in rows:
            file.write((",\n" if count else "") + json.dumps(row, ensure_ascii=False))
            count += 1
        file.write("\n]}\n")
    return count


@dataclass(frozen=True)
class Failure:
    """A failed task: the item, the stage, why, and where its log is."""

    item: str
    stage: str
    reason: str
    attempts: int
    permanent: bool
    at: float | None
    log: str


def list_failures(home: Home, name: str, *, limit: int = 100, offset: int = 0) -> list[Failure]:
    """Give the failed tasks of a session, the latest first."""
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        rows = statistics.list_failures(connection, session.id, limit=limit, offset=offset)
    return [
        Failure(
            row["key"], row["stage"], row["reason"], row["attempts"], row["permanent"], row["done_at"],
            str(log_path(Path(session.folder), row["stage"], row["key"])),
        )
        for row in rows
    ]  # fmt: skip


def find_item(home: Home, name: str, key: str, kind: str = "") -> tuple[TableScope, BrowsedItem]:
    """Give one item with everything that is known of it, of any kind unless one is named.

    Where items of several kinds have this key, one of the main kind comes first. Raises TomoflyError.
    """
    first = table_scope(home, name, kind)
    others = () if kind else first.workflow.kinds
    for scope in (first, *(table_scope(home, name, other) for other in others if other != first.kind)):
        wanted = ItemFilter(scope.kind, scope.final_stages, keys=(key,))
        with home.database.read() as connection:
            found = browse.browse_items(connection, scope.session.id, wanted, limit=1)
        if found:
            return scope, found[0]
    raise TomoflyError(f"Session '{name}' has no item '{key}'", "`tomofly session items` lists them")


def item_previews(home: Home, name: str, key: str) -> dict[str, Path]:
    """Give the previews of an item that are there, by ``stage.preview``."""
    scope, item = find_item(home, name, key)
    named = {(stage.name, preview) for stage in scope.workflow.stages for preview in stage.previews}
    return {
        f"{stage}.{product}": scope.folder / path
        for (stage, product), path in sorted(item.products.items())
        if (stage, product) in named
    }


def log_path(folder: Path, stage: str, key: str) -> Path:
    """Give where a task writes its log; keys are names below the session's folder, never above it."""
    path = folder / "logs" / stage / f"{key}.log"
    if ".." in path.parts:
        raise TomoflyError(f"'{key}' is no key of an item")
    return path


def item_logs(home: Home, name: str, key: str, stage: str = "") -> dict[str, str]:
    """Give the logs of an item by stage, those that were written."""
    scope, item = find_item(home, name, key)
    stages = [stage] if stage else [s.name for s in scope.workflow.stages_for(item.kind)]
    paths = {s: log_path(scope.folder, s, item.key) for s in stages}
    return {
        s: path.read_text(encoding="utf-8", errors="replace") for s, path in paths.items() if path.is_file()
    }
