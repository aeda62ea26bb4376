"""The folder watcher: which movies are there, whole, and new; by looking, as network file systems need.

A look costs one stat per folder, and as much again as there are new files. Folders are listed only when
they have changed, and known names in a listing are passed over by their inode number, without a stat.
"""

import heapq
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tomofly.flow.pattern import Depth, WatchPattern
from tomofly.formats.completeness import Evidence, probe
from tomofly.model import SourceParams

RACY_S = 2.5
"""A changed folder is listed for so long: file systems tell its times in steps of up to two seconds."""

RELIST_S = 60.0
"""Every folder is listed this often at least: network file systems may hide a change of its times."""

AUDITED_PER_POLL = 200
"""Known files looked at again in each poll, in turn: one rewritten in place leaves its folder as it was."""

RECENT = 50
"""The latest files are looked at in every poll: a writer that paused goes on with these."""

LOOKS_PER_POLL = 1000
"""Unfinished files looked at in one poll, the newest first: a backlog must not hold up what arrives now."""


@dataclass(frozen=True)
class Arrival:
    """A file that has become whole, has come again with other content, or was given up as truncated.

    ``content`` is "<size>:<mtime_ns>", ``acquired_at`` the time of its last byte (seconds since 1970);
    ``reason`` says why it is not ``whole``.
    """

    path: Path
    key: str
    content: str
    acquired_at: float
    whole: bool = True
    reason: str = ""


class _Stamp(NamedTuple):
    """What tells two contents of a name apart; ``inode`` is that of the listing, 0 where none was seen."""

    inode: int
    size: int
    mtime_ns: int

    @property
    def content(self) -> str:
        return f"{self.size}:{self.mtime_ns}"

    def says_the_same(self, other: "_Stamp") -> bool:
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


@dataclass(slots=True, eq=False)
class _Folder:
    """A folder as last listed; ``above`` holds the (device, inode) of the folders that it lies in."""

    path: str
    depth: Depth
    above: frozenset[tuple[int, int]]
    known: dict[str, _Stamp]
    children: dict[str, "_Folder"] = field(default_factory=dict)
    identity: tuple[int, int] = (0, 0)
    mtime_ns: int | None = None
    changed_at: float = 0.0
    listed_at: float = 0.0
    trouble: str = ""


@dataclass(slots=True)
class _Pending:
    """A file that is not yet known to be whole; ``since`` is when it was last seen to change."""

    folder: _Folder
    name: str
    stamp: _Stamp
    since: float


class Watcher:
    """Watches one source. ``poll`` is called by one thread; ``pending``, ``problem`` and ``newest`` by any.

    ``known`` holds the (path, content) pairs that are registered already; ``apart`` are folders never
    entered, such as the session's own.
    """

    def __init__(
        self, source: SourceParams, known: Iterable[tuple[str, str]] = (), *, apart: Iterable[Path] = ()
    ) -> None:
        self.pending = 0
        self.problem = ""
        self.newest = 0.0
        self._source = source
        self._pattern = WatchPattern(source.pattern, source.ignore) if source.pattern else None
        self._apart = frozenset(str(folder.absolute()) for folder in apart)
        self._remembered = _by_folder(known)
        self._unfinished: dict[str, _Pending] = {}
        self._recent: deque[tuple[_Folder, str]] = deque(maxlen=RECENT)
        self._audit: Iterator[tuple[_Folder, str]] = iter(())
        if self._pattern is not None:
            root, depth = self._pattern.root, self._pattern.top
            self._root = _Folder(root, depth, frozenset(), self._remembered.pop(root, {}))

    def poll(self, now: float, *, impatient: bool = False) -> list[Arrival]:
        """Look once, and give what has arrived since the last look, oldest first.

        ``now`` in seconds since 1970. ``impatient``: a file that has settled but is not whole is given up
        at once, as for a folder to which nothing more will come.
        """
        if self._pattern is None:
            return []
        folders = [folder for folder in self._walk() if self._visit(folder, now)]
        self.problem = self._trouble()
        if self._root.mtime_ns is None:
            return []
        self._recheck(folders, now)
        settle_s = self._source.settle_s
        patience_s = settle_s if impatient else max(settle_s, self._source.give_up_s)
        arrivals = [arrival for path in self._next_looks() if (arrival := self._look(path, now, patience_s))]
        self.pending = len(self._unfinished)
        return sorted(arrivals, key=lambda arrival: (arrival.acquired_at, arrival.key))

    # Folders

    def _walk(self) -> Iterator[_Folder]:
        """Give every watched folder; those found on the way come in the same walk."""
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            yield folder
            if folder.mtime_ns is not None:
                waiting.extend(folder.children.values())

    def _visit(self, folder: _Folder, now: float) -> bool:
        """List the folder if it may hold something new; say whether it is there."""
        try:
            status = _status(folder.path)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            folder.trouble = "" if gone and folder is not self._root else error.strerror or str(error)
            folder.mtime_ns = None
            return False
        folder.identity = (status.st_dev, status.st_ino)
        if folder.identity in folder.above:  # a link back to a folder that this one lies in
            folder.mtime_ns = None
            return False
        if status.st_mtime_ns != folder.mtime_ns:
            folder.mtime_ns, folder.changed_at = status.st_mtime_ns, now
        may_have_changed = abs(now - folder.changed_at) <= RACY_S or abs(now - folder.listed_at) >= RELIST_S
        if may_have_changed or folder.trouble:
            self._list(folder, now)
        return True

    def _list(self, folder: _Folder, now: float) -> None:
        folder.listed_at, folder.trouble = now, ""
        known = folder.known
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    stamp = known.get(entry.name)
                    if stamp is None or stamp.inode != entry.inode():
                        self._meet(folder, entry, now)
        except OSError as error:
            folder.trouble = error.strerror or str(error)

    def _meet(self, folder: _Folder, entry: os.DirEntry[str], now: float) -> None:
        """Deal with a name that is new in a listing, or stands for another file than it did."""
        assert self._pattern is not None  # noqa: S101
        name = entry.name
        if name in folder.children:
            return
        depth = self._pattern.below(folder.depth, name)
        if depth and _is_folder(entry):
            path = f"{folder.path}/{name}"
            if path not in self._apart:
                above = folder.above | {folder.identity}
                folder.children[name] = _Folder(path, depth, above, self._remembered.pop(path, {}))
        elif self._pattern.takes(folder.depth, name):
            self._notice(folder, name, entry.inode(), now)

    def _trouble(self) -> str:
        """Say in one line what cannot be watched."""
        root = self._root
        if root.trouble:
            return f"The folder {root.path} cannot be watched: {root.trouble}. It goes on when it is back."
        if root.mtime_ns is None:
            return f"{root.path} is not a folder that can be watched."
        troubled = [folder for folder in self._walk() if folder.trouble]
        if not troubled:
            return ""
        more = f" (and {len(troubled) - 1} other folders)" if len(troubled) > 1 else ""
        return f"The folder {troubled[0].path} cannot be watched: {troubled[0].trouble}{more}."

    # Files

    def _notice(self, folder: _Folder, name: str, inode: int, now: float) -> None:
        """Look at a name; when it has other content than was known, wait for it to settle."""
        path = f"{folder.path}/{name}"
        if path in self._unfinished:
            return
        old = folder.known.get(name)
        try:
            status = _status(path)
        except FileNotFoundError:
            if old is not None:
                folder.known[name] = old._replace(inode=0)  # so that it is looked at when it is back
            return
        except OSError as error:
            folder.trouble = f"{name}: {error.strerror}"
            return
        if not stat.S_ISREG(status.st_mode):
            return
        stamp = _Stamp(inode, status.st_size, status.st_mtime_ns)
        if old is not None and old.says_the_same(stamp):
            folder.known[name] = stamp
            return
        self._unfinished[path] = _Pending(folder, name, stamp, now)
        self.newest = now

    def _recheck(self, folders: list[_Folder], now: float) -> None:
        """Look again at the latest files, and at some of all others in turn."""
        turn = list(islice(self._audit, AUDITED_PER_POLL))
        if not turn:
            self._audit = ((folder, name) for folder in folders for name in list(folder.known))
            turn = list(islice(self._audit, AUDITED_PER_POLL))
        for folder, name in dict.fromkeys([*self._recent, *turn]):
            stamp = folder.known[name]
            if folder.mtime_ns is not None and stamp.inode:
                self._notice(folder, name, stamp.inode, now)

    def _next_looks(self) -> list[str]:
        if len(self._unfinished) <= LOOKS_PER_POLL:
            return list(self._unfinished)
        return heapq.nlargest(
            LOOKS_PER_POLL, self._unfinished, key=lambda path: self._unfinished[path].stamp.mtime_ns
        )

    def _look(self, path: str, now: float, patience_s: float) -> Arrival | None:
        """Look at an unfinished file: has it settled, and is it whole?"""
        waiting = self._unfinished[path]
        if not self._is_unchanged(path, now):
            return None
        waiting.since = min(waiting.since, now)  # the clock may have been set back
        quiet_s = now - waiting.since
        if quiet_s < self._source.settle_s:
            return None
        evidence = _judge(path)
        if evidence.whole is False and quiet_s < patience_s:
            return None
        # Opening the file has made a network file system ask the server: only now is its size certain.
        if not self._is_unchanged(path, now):
            return None
        return self._finish(path, evidence)

    def _is_unchanged(self, path: str, now: float) -> bool:
        waiting = self._unfinished[path]
        try:
            status = _status(path)
        except FileNotFoundError:
            del self._unfinished[path]
            return False
        except OSError:
            return False
        stamp = _Stamp(waiting.stamp.inode, status.st_size, status.st_mtime_ns)
        if stamp == waiting.stamp:
            return True
        waiting.stamp, waiting.since = stamp, now
        self.newest = now
        return False

    def _finish(self, path: str, evidence: Evidence) -> Arrival | None:
        """Count the file as known; announce it unless it has become again what it was."""
        assert self._pattern is not None  # noqa: S101
        waiting = self._unfinished.pop(path)
        folder, name, stamp = waiting.folder, waiting.name, waiting.stamp
        old = folder.known.get(name)
        folder.known[name] = stamp
        if old is not None and old.says_the_same(stamp):
            return None
        self._recent.append((folder, name))
        whole = evidence.whole is not False
        return Arrival(
            path=Path(path),
            key=self._pattern.key(path),
            content=stamp.content,
            acquired_at=stamp.mtime_ns / 1e9,
            whole=whole,
            reason="" if whole else evidence.reason,
        )


def _status(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - called for each file; a Path would cost more than the call


def _judge(path: str) -> Evidence:
    """Ask a file whether it is whole; one that breaks the reader must not end the watching."""
    try:
        return probe(path)
    except Exception as error:  # the rim: it becomes the reason on this item
        return Evidence(False, f"its header cannot be understood ({error!r})")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or one into a place that may not be read
        return False


def _by_folder(known: Iterable[tuple[str, str]]) -> dict[str, dict[str, _Stamp]]:
    """Sort (path, content) pairs by folder; a content that no watcher wrote is as good as none."""
    folders: dict[str, dict[str, _Stamp]] = {}
    for path, content in known:
        size, _, mtime_ns = content.partition(":")
        if size.isdecimal() and mtime_ns.isdecimal():
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, {})[name] = _Stamp(0, int(size), int(mtime_ns))
    return folders
