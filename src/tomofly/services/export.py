"""Exports: a folder that other programs read, with the settings and the provenance of everything in it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from tomofly._version import __version__
from tomofly.flow.graph import Workflow
from tomofly.model import Settings, TomoflyError
from tomofly.services.home import Home, checked_folder
from tomofly.services.sessions import EXPORT_MARK
from tomofly.services.settings import settings_in_force
from tomofly.services.table import (
    TableScope,
    table_columns,
    table_filter,
    table_row,
    table_scope,
    write_csv,
    write_json,
)
from tomofly.store import browse
from tomofly.store.browse import BrowsedItem

Format = Literal["relion", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ExportOptions:
    """What to export: the format, which items, and whether to copy images or link to them."""

    format: Format = "relion"
    filters: tuple[str, ...] = ()
    particles: bool = False
    copy_files: bool = False


@dataclass(frozen=True)
class Export:
    """What an export holds; ``left_out`` counts items that passed the filter but had nothing to give."""

    format: Format
    folder: Path
    items: int
    left_out: int
    particles: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {**vars(self), "folder": str(self.folder)}


@dataclass
class Draft:
    """An export in the making: where it goes, what it is made of, and what has been written."""

    scope: TableScope
    settings: Mapping[str, Settings]
    options: ExportOptions
    folder: Path
    names: "SafeNames"
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: int = 0
    left_out: int = 0
    particles: int = 0

    def section(self, stage: str) -> Any:
        """Give the parameters of a stage that are in force."""
        return self.settings[self.scope.workflow[stage].track][stage]

    def add_file(self, name: str) -> Path:
        """Note a file that the export holds and give its path."""
        self.files.append(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finished(self) -> Export:
        """Give what the export has become."""
        return Export(
            self.options.format, self.folder, self.items, self.left_out, self.particles, tuple(self.files),
            tuple(self.notes),
        )  # fmt: skip


class SafeNames:
    """Names that every program can read, made of the keys of items: each key has its own."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def of(self, key: str) -> str:
        """Give the name for a key; two keys that would share one are told apart by a digest."""
        name = _UNSAFE.sub("_", key.replace("/", "__")).lstrip(".-") or "item"
        if self._taken.setdefault(name, key) != key:
            name = f"{name}-{blake2b(key.encode(), digest_size=4).hexdigest()}"
            self._taken[name] = key
        return name


def export_session(
    home: Home, name: str, folder: str | Path | None = None, options: ExportOptions | None = None
) -> Export:
    """Export the items of a session that pass the filters; items left out by hand stay out.

    Without a folder it goes to ``exports/<format>`` in the session's own. An earlier export there is
    replaced. Raises TomoflyError for a folder that holds anything else.
    """
    options = options or ExportOptions()
    scope = table_scope(home, name)
    target = checked_folder(folder or scope.folder / "exports" / options.format, "an export")
    _refuse_products(scope, target)
    with home.database.read() as connection:
        settings = settings_in_force(connection, scope.session, scope.workflow)
    _prepare(target)
    draft = Draft(scope, settings, options, target, SafeNames())
    _WRITERS[options.format](home, draft)
    _write_settings(draft)
    if draft.items == 0:
        draft.notes.append("No item passed the filter: the export is empty")
    return draft.finished()


def exported_items(home: Home, draft: Draft) -> Iterator[BrowsedItem]:
    """Give the items of an export in the order of their keys, writing the provenance of each beside it."""
    wanted = table_filter(draft.scope, draft.options.filters, excluded=False)
    path = draft.add_file("provenance.json")
    with path.open("w", encoding="utf-8") as file, home.database.read() as connection:
        head = {
            "tomofly": __version__,
            "session": draft.scope.session.name,
            "kind": draft.scope.session.kind,
            "filters": list(draft.options.filters),
            "stages": _stage_versions(draft.scope.workflow),
        }
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "items": [')
        comma = "\n"
        for item in browse.each_item(connection, draft.scope.session.id, wanted):
            file.write(comma + json.dumps(_provenance(draft, item), ensure_ascii=False))
            comma = ",\n"
            yield item
        file.write("\n]}\n")


def _stage_versions(workflow: Workflow) -> dict[str, str]:
    return {stage.name: stage.version for stage in workflow.stages}


def _provenance(draft: Draft, item: BrowsedItem) -> dict[str, Any]:
    return {
        "key": item.key,
        "name": draft.names.of(item.key),
        "source": item.source,
        "state": item.state(draft.scope.final_stages),
        "fingerprints": {stage: task.fingerprint for stage, task in item.tasks.items() if task.fingerprint},
        "done_at": {stage: task.done_at for stage, task in item.tasks.items() if task.state == "done"},
        "flags": [{"stage": s, "code": c, "message": m} for s, c, m in item.flags],
    }


def _refuse_products(scope: TableScope, target: Path) -> None:
    """An export must not land among the products, nor above them."""
    for stage in scope.workflow.stages:
        if target.is_relative_to((scope.folder / stage.name).resolve()):
            raise TomoflyError(f"The folder {target} holds products of the session", "Name another")
    if scope.folder.resolve().is_relative_to(target):
        raise TomoflyError(
            f"The session itself lies in {target}", "Name a folder beside it, or a new one in it"
        )


def _prepare(folder: Path) -> None:
    """Make the folder, or empty it of an earlier export."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / EXPORT_MARK).is_file():
            raise TomoflyError(f"The folder {folder} is not empty and no earlier export", "Name a new folder")
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EXPORT_MARK).write_text(
            f"Written by tomofly {__version__}; replaced by the next export here.\n"
        )
    except OSError as error:
        raise TomoflyError(
            f"The folder {folder} cannot be written: {error.strerror}", "Name another"
        ) from error


def _write_settings(draft: Draft) -> None:
    content = {
        "tomofly": __version__,
        "kind": draft.scope.session.kind,
        "tracks": {track: settings.document() for track, settings in draft.settings.items()},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    draft.add_file("settings.json").write_text(text, encoding="utf-8")


def _write_table(home: Home, draft: Draft) -> None:
    write: Callable[..., int] = write_csv if draft.options.format == "csv" else write_json
    columns = table_columns(draft.scope.workflow)
    rows = (table_row(draft.scope, item) for item in exported_items(home, draft))
    draft.items = write(draft.add_file(f"items.{draft.options.format}"), columns, rows)


def _write_relion(home: Home, draft: Draft) -> None:
    # Only this format needs the image formats, which take a while to load.
    from tomofly.services.export_relion import write_relion

    write_relion(exported_items(home, draft), draft)


_WRITERS: Mapping[Format, Callable[[Home, Draft], None]] = {
    "relion": _write_relion,
    "csv": _write_table,
    "json": _write_table,
}


def checked_format(text: str) -> Format:
    """Return the name of a format if there is one. Raises TomoflyError."""
    for known in FORMATS:
        if text == known:
            return known
    raise TomoflyError(f"There is no export format '{text}'", f"Legal are: {', '.join(FORMATS)}")
