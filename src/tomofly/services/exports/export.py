"""Exports: a folder that other programs read, with the settings and the provenance of everything in it."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from tomofly._version import __version__
from tomofly.flow.graph import Workflow
from tomofly.model import Settings, TomoflyError
from tomofly.services.exports.folder import staged_export
from tomofly.services.home import Home, checked_folder
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

Format = Literal["relion", "relion4", "imod", "aretomo", "warp", "csv", "json", "tiff", "hdf5", "zarr"]
PixelType = Literal["float32", "float16", "uint16"]
FORMATS: tuple[Format, ...] = get_args(Format)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ExportOptions:
    """What to export: the format, which items, and whether to copy images or link to them.

    ``particles``: also cut out the particles of micrographs. ``full_stacks``: stacks of tilts have the pixels
    of the motion-corrected tilts, not those that the session aligned its series with. ``threshold``: take the
    candidates that score so high, instead of the session's picks. ``pixels``: the type of the voxels of
    exported volumes.
    """

    format: Format = "relion"
    filters: tuple[str, ...] = ()
    particles: bool = False
    copy_files: bool = False
    full_stacks: bool = False
    threshold: float | None = None
    pixels: PixelType = "float32"


@dataclass(frozen=True)
class Export:
    """What an export holds; ``left_out`` counts items that passed the filter but had nothing to give.

    ``reasons`` says why they had nothing, by key, as far as each has a reason of its own.
    """

    format: Format
    folder: Path
    items: int
    left_out: int
    particles: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {**vars(self), "folder": str(self.folder)}


@dataclass
class Draft:
    """An export in the making: what it is made of, and what has been written.

    ``folder`` is where it is built, ``final`` where it will be.
    """

    scope: TableScope
    settings: Mapping[str, Settings]
    options: ExportOptions
    folder: Path
    final: Path
    names: "SafeNames"
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: int = 0
    left_out: int = 0
    particles: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def section(self, stage: str) -> Any:
        """Give the parameters of a stage that are in force."""
        return self.settings[self.scope.workflow[stage].track][stage]

    def add_file(self, name: str) -> Path:
        """Note a file by which the export is read, and give its path."""
        self.files.append(name)
        return self.new_file(name)

    def new_file(self, name: str) -> Path:
        """Give the path of a file that others point to."""
        self.made.append(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def whole_or_none(self) -> Iterator[None]:
        """Take back the files of an item that cannot be exported after all."""
        files, made = len(self.files), len(self.made)
        try:
            yield
        except BaseException:
            for name in self.made[made:]:
                (self.folder / name).unlink(missing_ok=True)
            del self.files[files:], self.made[made:]
            raise

    def place(self, product: str, name: str) -> str:
        """Link or copy a product of the session into the export under another name; give that name."""
        source = (self.scope.folder / product).resolve()
        if not source.is_file():
            raise TomoflyError(f"The file {source} is gone", "Clear the track that made it, and export again")
        target = self.new_file(name)
        if self.options.copy_files:
            shutil.copyfile(source, target)
        else:
            target.symlink_to(os.path.relpath(source, (self.final / name).parent))
        return name

    def note(self, text: str) -> None:
        """Say something of the export, once."""
        if text not in self.notes:
            self.notes.append(text)

    def leave_out(self, key: str, reason: str) -> None:
        """Say why an item has nothing to give."""
        self.left_out += 1
        self.reasons[key] = reason

    def finished(self) -> Export:
        """Give what the export has become."""
        return Export(
            self.options.format, self.final, self.items, self.left_out, self.particles, tuple(self.files),
            tuple(self.notes), self.reasons,
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
    replaced once the new one is whole. Raises TomoflyError for a format that the kind of session has not, or
    a folder that holds anything else.
    """
    options = options or ExportOptions()
    scope = table_scope(home, name)
    write = _writer(scope.workflow, options.format)
    target = checked_folder(folder or scope.folder / "exports" / options.format, "an export")
    _refuse_products(scope, target)
    with home.database.read() as connection:
        settings = settings_in_force(connection, scope.session, scope.workflow)
    with staged_export(target) as part:
        draft = Draft(scope, settings, options, part, target, SafeNames())
        _check_threshold(draft)
        write(home, draft)
        _write_settings(draft)
    if draft.items == 0:
        why = "No item passed the filter" if draft.left_out == 0 else "No item has anything to export yet"
        draft.note(f"{why}: the export is empty")
    return draft.finished()


def _check_threshold(draft: Draft) -> None:
    """Refuse a threshold below which no candidates have been kept."""
    threshold = draft.options.threshold
    if threshold is None:
        return
    picking = [s.name for s in draft.scope.workflow.stages if "keep_threshold" in s.params.model_fields]
    if not picking:
        raise TomoflyError(
            f"Sessions of kind {draft.scope.session.kind} pick nothing", "Leave the threshold out"
        )
    for stage in picking:
        lowest = draft.section(stage).keep_threshold
        if threshold < lowest:
            raise TomoflyError(
                f"Candidates that score less than {stage}.keep_threshold={lowest:g} were not kept, so that "
                f"none can be exported from {threshold:g} on",
                f"Set {stage}.keep_threshold lower and restart the session, or choose {lowest:g} at least",
            )


def exported_items(home: Home, draft: Draft) -> Iterator[BrowsedItem]:
    """Give the items of an export in the order of their keys, and note the provenance of each afterwards."""
    wanted = table_filter(draft.scope, draft.options.filters, excluded=False)
    path = draft.add_file("provenance.json")
    with path.open("w", encoding="utf-8") as file, home.database.read() as connection:
        head = {
            "tomofly": __version__,
            "session": draft.scope.session.name,
            "kind": draft.scope.session.kind,
            "filters": list(draft.options.filters),
            "threshold": draft.options.threshold,
            "stages": _stage_versions(draft.scope.workflow),
        }
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "items": [')
        comma = "\n"
        for item in browse.each_item(connection, draft.scope.session.id, wanted):
            yield item
            file.write(comma + json.dumps(_provenance(draft, item), ensure_ascii=False))
            comma = ",\n"
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
        "left_out": draft.reasons.get(item.key, ""),
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
    from tomofly.services.exports.relion import write_relion

    write_relion(exported_items(home, draft), draft)


def _write_series(home: Home, draft: Draft) -> None:
    from tomofly.services.exports.tomo import write_series

    write_series(home, exported_items(home, draft), draft)


def _write_volumes(home: Home, draft: Draft) -> None:
    from tomofly.services.exports.volumes import write_volumes

    write_volumes(exported_items(home, draft), draft)


Writer = Callable[[Home, Draft], None]

_WRITERS: Mapping[Format, Writer] = {"relion": _write_relion, "csv": _write_table, "json": _write_table}
"""Of sessions whose items are micrographs, or anything that makes a table."""

_VOLUME_FORMATS: tuple[Format, ...] = ("tiff", "hdf5", "zarr")

_SERIES_WRITERS: Mapping[Format, Writer] = {
    wanted: _write_series for wanted in FORMATS if wanted not in _VOLUME_FORMATS
}
"""Of sessions whose items are tilt series."""

_VOLUME_WRITERS: Mapping[Format, Writer] = {
    **dict.fromkeys(_VOLUME_FORMATS, _write_volumes), "csv": _write_table, "json": _write_table,
}  # fmt: skip
"""Of sessions whose items are X-ray scans."""


def _writer(workflow: Workflow, wanted: Format) -> Writer:
    """Give what writes a format for a kind of session. Raises TomoflyError naming those that there are."""
    writers = _WRITERS
    if "series_alignment" in workflow.by_name:
        writers = _SERIES_WRITERS
    elif "volume" in workflow.by_name:
        writers = _VOLUME_WRITERS
    if wanted not in writers:
        raise TomoflyError(
            f"A session of kind '{workflow.kind}' has no export format '{wanted}'",
            f"Legal are: {', '.join(writers)}",
        )
    return writers[wanted]


def checked_pixels(text: str) -> PixelType:
    """Return the name of a type of voxels if there is one. Raises TomoflyError."""
    for known in get_args(PixelType):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise TomoflyError(f"Voxels cannot be {text}", f"Legal are: {', '.join(get_args(PixelType))}")


def checked_format(text: str) -> Format:
    """Return the name of a format if there is one. Raises TomoflyError."""
    for known in FORMATS:
        if text == known:
            return known
    raise TomoflyError(f"There is no export format '{text}'", f"Legal are: {', '.join(FORMATS)}")
