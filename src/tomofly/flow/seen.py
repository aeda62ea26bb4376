"""What the watcher remembers of folders and files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tomofly.flow.pattern import Depth
from tomofly.model.content import own_content, with_companions


class Stamp(NamedTuple):
    """What tells two contents of a name apart; ``inode`` is that of the listing, 0 where none was seen.

    ``beside`` are the tags of the files that belong to a movie, as they were announced.
    """

    inode: int
    size: int
    mtime_ns: int
    beside: str = ""

    @property
    def content(self) -> str:
        """What the item is known by."""
        return f"{self.size}:{self.mtime_ns}{self.beside}"

    def says_the_same(self, other: "Stamp") -> bool:
        """Say whether both stand for the same file content."""
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    def with_tags(self, tags: Mapping[str, str]) -> "Stamp":
        """Give the same with other files beside it."""
        return self._replace(beside=with_companions("", tags))


@dataclass(slots=True, eq=False)
class WatchedFolder:
    """A folder as last listed; ``above`` holds the (device, inode) of the folders that it lies in."""

    path: str
    depth: Depth
    above: frozenset[tuple[int, int]]
    known: dict[str, Stamp]
    children: dict[str, "WatchedFolder"] = field(default_factory=dict)
    identity: tuple[int, int] = (0, 0)
    mtime_ns: int | None = None
    changed_at: float = 0.0
    listed_at: float = 0.0
    trouble: str = ""


@dataclass(slots=True)
class PendingFile:
    """A file that is not yet known to be whole; ``since`` is when it was last seen to change."""

    folder: WatchedFolder
    name: str
    stamp: Stamp
    since: float


def by_folder(known: Iterable[tuple[str, str]]) -> dict[str, dict[str, Stamp]]:
    """Sort (path, content) pairs by folder; a content that no watcher wrote is as good as none."""
    folders: dict[str, dict[str, Stamp]] = {}
    for path, content in known:
        own = own_content(content)
        size, _, mtime_ns = own.partition(":")
        if size.isdecimal() and mtime_ns.isdecimal():
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, {})[name] = Stamp(0, int(size), int(mtime_ns), content[len(own) :])
    return folders
