"""Catalogues: what makes items of the files of a source, where a file alone does not say what it is.

A tilt's file does not tell its series: an mdoc beside it may, or its name. The catalogue of a session kind
is given the files as they are found and gives back items, again whenever more has become known of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class SourceFile:
    """A file of the source that is whole, or was given up for the ``reason`` given.

    ``key`` is its path below the watched folder without suffix; ``content`` changes when the file does.
    ``acquired_at`` is the time of its last byte, in seconds since 1970.
    """

    path: Path
    key: str
    content: str
    acquired_at: float
    whole: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Entry:
    """An item as the catalogue knows it now. ``attributes`` are plain JSON values."""

    key: str
    source: Path
    content: str
    acquired_at: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Catalog(Protocol):
    """What a session kind knows of its source. ``notes``: patterns of files that describe items.

    A note pattern without a folder holds for the watched folder and everything below it.
    """

    notes: tuple[str, ...]

    @property
    def problems(self) -> Mapping[str, str]:
        """Give what people must know of files that are of no use as things stand: by path, and why."""
        ...

    def take(self, files: Sequence[SourceFile]) -> list[Entry]:
        """Take in new or changed files; give the items that are new, or of which more is known now."""
        ...

    def remember(self, entries: Iterable[Entry]) -> None:
        """Take in items that were registered earlier, without giving them back."""
        ...
