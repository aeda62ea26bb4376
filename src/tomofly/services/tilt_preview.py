"""What a session would make of the tilts of a folder, before it is made."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tomofly.flow.cataloguing import look_once
from tomofly.flow.workflows import workflow_of
from tomofly.model import Settings, SourceParams, TomoflyError
from tomofly.model.sections import watched_folder
from tomofly.services.home import Home
from tomofly.services.settings import current_settings, prepared
from tomofly.stages.tilts.notes import NOTE_SUFFIXES
from tomofly.stages.tilts.preview import PreviewedSeries, preview_groups
from tomofly.stages.tilts.rules import ComposeParams

KIND = "tomo"
SUFFIXES_SHOWN = 5


def session_settings(home: Home, name: str) -> Settings:
    """Give the newest settings of a session. Raises TomoflyError for one without tilt series."""
    settings = current_settings(home, name)
    if settings.kind != KIND:
        raise TomoflyError(f"Session '{name}' is of kind {settings.kind}, which has no tilt series")
    return settings


def preview_settings(assignments: Sequence[str], settings: Settings | None = None) -> Settings:
    """Give the settings to preview: those of a session, or the defaults, with changes.

    Raises TomoflyError.
    """
    changed = prepared((settings or workflow_of(KIND).settings()).changed(assignments))
    if not _pattern(changed):
        raise TomoflyError("Nothing says where the tilts are", "Give --source, such as '/data/**/*.tif'")
    return changed


def preview_source(settings: Settings) -> list[PreviewedSeries]:
    """Look at the source, and group what is there as a session would. Raises TomoflyError for no folder."""
    folder = watched_folder(_pattern(settings))
    if not folder.is_dir():
        raise TomoflyError(f"There is no folder {folder}", "Check the folder in the pattern of the source")
    compose = settings.section("compose", ComposeParams)
    return preview_groups(look_once(workflow_of(settings.kind), settings), compose)


def nothing_found(settings: Settings) -> TomoflyError:
    """Say that the source gives nothing, and what there is instead."""
    pattern = _pattern(settings)
    if Path(pattern).is_dir():
        return TomoflyError(
            f"{pattern} is a folder", f"Say which of its files are tilts, as in {pattern}/*.mrc"
        )
    folder = watched_folder(pattern)
    if Path(pattern).suffix.lower() in NOTE_SUFFIXES:
        advice = f"Name the movies or stacks, as in {folder}/*.mrc: mdoc files are found by themselves"
        return TomoflyError(f"The pattern {pattern} names files that describe tilts", advice)
    counts = Counter(path.suffix or path.name for path in folder.iterdir() if path.is_file())
    there = ", ".join(f"{count} of {suffix}" for suffix, count in counts.most_common(SUFFIXES_SHOWN))
    return TomoflyError(f"No file matches the pattern {pattern}", f"{folder} holds {there or 'no files'}")


def _pattern(settings: Settings) -> str:
    source = settings["source"]
    return str(Path(source.pattern)) if isinstance(source, SourceParams) and source.pattern else ""
