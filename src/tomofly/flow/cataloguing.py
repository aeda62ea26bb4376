"""From files to items: every file is one, unless the session kind has a catalogue that knows better."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping

from tomofly.flow.arrivals import spelled
from tomofly.flow.graph import Workflow
from tomofly.flow.watch import Arrival, Watcher, companion_suffixes
from tomofly.model import Catalog, Entry, MapStage, Settings, SourceFile, SourceParams
from tomofly.model.sections import watched_folder
from tomofly.store.intake import NewItem

NOTE_ALERTS = 10
"""So many useless notes are told one by one: a folder of foreign files would fill the screen."""


class Cataloguer:
    """Makes items of what has arrived. ``began``: what was acquired later than this is live."""

    def __init__(self, workflow: Workflow, settings: Settings, began: float) -> None:
        self.kind = workflow.root_kind
        self._began = began
        self._catalog = _catalog_of(workflow, settings)

    def note_sources(self, source: SourceParams) -> list[SourceParams]:
        """Say where to look for the files that describe items, such as mdoc files."""
        patterns = () if self._catalog is None or not source.pattern else self._catalog.notes
        return [source.model_copy(update={"pattern": _below(source.pattern, p)}) for p in patterns]

    def remember(self, rows: Iterable[RowMapping]) -> None:
        """Take in the items that were registered by an earlier conductor."""
        if self._catalog is not None:
            self._catalog.remember(_entry(row) for row in rows)

    @property
    def has_catalog(self) -> bool:
        """Whether items are known by more than their files."""
        return self._catalog is not None

    def alerts(self) -> dict[str, str]:
        """Say which files are of no use and why, by path; of very many, the first, and how many there are."""
        problems = {} if self._catalog is None else self._catalog.problems
        named = {
            spelled(path): spelled(f"{path}: {problems[path]}") for path in sorted(problems)[:NOTE_ALERTS]
        }
        more = len(problems) - len(named)
        return named | ({"": f"{more} more files are of no use"} if more else {})

    def items(self, arrivals: Sequence[Arrival]) -> list[NewItem]:
        """Give the items that are new, or of which something else is known now."""
        if self._catalog is None:
            return [self._of_file(arrival) for arrival in arrivals]
        return [self._of_entry(entry) for entry in self._catalog.take([_source_file(a) for a in arrivals])]

    def _of_file(self, arrival: Arrival) -> NewItem:
        entry = Entry(arrival.key, arrival.path, arrival.content, arrival.acquired_at)
        return self._of_entry(entry)

    def _of_entry(self, entry: Entry) -> NewItem:
        """Make an item; one whose name no database can hold will fail, visibly."""
        key, source = spelled(entry.key), spelled(str(entry.source))
        attributes = dict(entry.attributes)
        if source != str(entry.source):
            attributes["unusable"] = f"The name of the file {source} is not UTF-8. Rename it."
        live = entry.acquired_at is None or entry.acquired_at >= self._began
        return NewItem(self.kind, key, source, entry.content, attributes, entry.acquired_at, live)


def _catalog_of(workflow: Workflow, settings: Settings) -> Catalog | None:
    makers = [s.catalog for s in workflow.stages if isinstance(s, MapStage) and s.catalog is not None]
    return makers[0](settings) if makers else None


def _below(pattern: str, note: str) -> str:
    """Complete a note's pattern that names no folder: everywhere below the watched one."""
    return note if "/" in note else str(watched_folder(pattern) / "**" / note)


def _source_file(arrival: Arrival) -> SourceFile:
    return SourceFile(
        arrival.path, arrival.key, arrival.content, arrival.acquired_at, arrival.whole, arrival.reason
    )


def _entry(row: RowMapping) -> Entry:
    attributes: dict[str, Any] = row["attributes"]
    return Entry(row["key"], Path(row["source"]), row["content"], row["acquired_at"], attributes)


def look_once(workflow: Workflow, settings: Settings) -> list[SourceFile]:
    """Give the files of a source, and the notes beside them, as they are now; nothing is waited for."""
    source = settings.section("source", SourceParams)
    now = source.model_copy(update={"settle_s": 0.0})
    suffixes = companion_suffixes(settings)
    watchers = [Watcher(notes) for notes in Cataloguer(workflow, settings, 0.0).note_sources(now)]
    watchers.append(Watcher(now, companion_suffixes=suffixes))
    return [_source_file(found) for watcher in watchers for found in _everything(watcher)]


def _everything(watcher: Watcher) -> Iterator[Arrival]:
    """Look until nothing new is found: one look takes so many files only."""
    while found := watcher.poll(time.time(), impatient=True):
        yield from found
