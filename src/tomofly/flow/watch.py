"""The folder watcher: which movies are there, whole, and new; by looking, as network file systems need.

A look costs one stat per folder, and as much again as there are new files. Folders are listed only when
they have changed, and known names in a listing are passed over by their inode number, without a stat.
"""

import heapq
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tomofly.flow.pattern import WatchPattern
from tomofly.flow.seen import PendingFile, Stamp, WatchedFolder, by_folder
from tomofly.formats.completeness import Evidence, probe
from tomofly.formats.epu import COMPANION_SUFFIXES, companion_names, movie_stems
from tomofly.model import Settings, SourceParams
from tomofly.model.content import companion_tag, companion_tags

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

    ``content`` is "<size>:<mtime_ns>" with a tag for each file beside it that belongs to it; it comes again
    when such a file comes later. ``acquired_at`` is the time of its last byte (seconds since 1970);
    ``reason`` says why it is not ``whole``.
    """

    path: Path
    key: str
    content: str
    acquired_at: float
    whole: bool = True
    reason: str = ""


class Watcher:
    """Watches one source. ``poll`` is called by one thread; ``pending``, ``problem`` and ``newest`` by any.

    ``known`` holds the (path, content) pairs that are registered already; ``apart`` are folders never
    entered, such as the session's own; ``companion_suffixes`` are those of files that belong to movies
    beside XML and mdoc.
    """

    def __init__(
        self,
        source: SourceParams,
        known: Iterable[tuple[str, str]] = (),
        *,
        apart: Iterable[Path] = (),
        companion_suffixes: Sequence[str] = (),
    ) -> None:
        self.pending = 0
        self.problem = ""
        self.newest = 0.0
        self._source = source
        self._pattern = WatchPattern(source.pattern, source.ignore) if source.pattern else None
        self._further = tuple(companion_suffixes)
        self._apart = frozenset(str(folder.absolute()) for folder in apart)
        self._remembered = by_folder(known)
        self._unfinished: dict[str, PendingFile] = {}
        self._recent: deque[tuple[WatchedFolder, str]] = deque(maxlen=RECENT)
        self._audit: Iterator[tuple[WatchedFolder, str]] = iter(())
        if self._pattern is not None:
            root, depth = self._pattern.root, self._pattern.top
            self._root = WatchedFolder(root, depth, frozenset(), self._remembered.pop(root, {}))

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
        # What belongs to a movie before the movie, so that they come together.
        looks = sorted(self._next_looks(), key=lambda path: not self._may_be_companion(path))
        arrivals = [found for path in looks for found in self._look(path, now, patience_s)]
        self.pending = len(self._unfinished)
        return sorted(arrivals, key=lambda arrival: (arrival.acquired_at, arrival.key))

    # Folders

    def _walk(self) -> Iterator[WatchedFolder]:
        """Give every watched folder; those found on the way come in the same walk."""
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            yield folder
            if folder.mtime_ns is not None:
                waiting.extend(folder.children.values())

    def _visit(self, folder: WatchedFolder, now: float) -> bool:
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

    def _list(self, folder: WatchedFolder, now: float) -> None:
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

    def _meet(self, folder: WatchedFolder, entry: os.DirEntry[str], now: float) -> None:
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
                folder.children[name] = WatchedFolder(path, depth, above, self._remembered.pop(path, {}))
        elif self._pattern.takes(folder.depth, name) or self._may_be_companion(name):
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

    def _notice(self, folder: WatchedFolder, name: str, inode: int, now: float) -> None:
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
        stamp = Stamp(inode, status.st_size, status.st_mtime_ns)
        if old is not None and old.says_the_same(stamp):
            folder.known[name] = old._replace(inode=inode)
            return
        if self._is_announced(folder, name, stamp):
            folder.known[name] = stamp
            return
        self._unfinished[path] = PendingFile(folder, name, stamp, now)
        self.newest = now

    def _recheck(self, folders: list[WatchedFolder], now: float) -> None:
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

    def _look(self, path: str, now: float, patience_s: float) -> list[Arrival]:
        """Look at an unfinished file: has it settled, and is it whole?"""
        waiting = self._unfinished[path]
        if not self._is_unchanged(path, now):
            return []
        waiting.since = min(waiting.since, now)  # the clock may have been set back
        quiet_s = now - waiting.since
        if quiet_s < self._source.settle_s or (
            quiet_s < 2 * self._source.settle_s and self._awaits_companion(waiting)
        ):
            return []
        if self._is_companion(waiting.folder, waiting.name):
            return self._finish_companion(path)
        evidence = _judge(path)
        if evidence.whole is False and quiet_s < patience_s:
            return []
        # Opening the file has made a network file system ask the server: only now is its size certain.
        if not self._is_unchanged(path, now):
            return []
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
        stamp = Stamp(waiting.stamp.inode, status.st_size, status.st_mtime_ns)
        if stamp == waiting.stamp:
            return True
        waiting.stamp, waiting.since = stamp, now
        self.newest = now
        return False

    def _finish(self, path: str, evidence: Evidence) -> list[Arrival]:
        """Count the file as known; announce it unless it has become again what it was."""
        assert self._pattern is not None  # noqa: S101
        waiting = self._unfinished.pop(path)
        folder, name, stamp = waiting.folder, waiting.name, waiting.stamp
        old = folder.known.get(name)
        if old is not None and old.says_the_same(stamp):
            folder.known[name] = old._replace(inode=stamp.inode)
            return []
        folder.known[name] = stamp.with_tags(self._tags_beside(folder, name))
        self._recent.append((folder, name))
        whole = evidence.whole is not False
        return [self._arrival(folder, name, whole, "" if whole else evidence.reason)]

    def _arrival(self, folder: WatchedFolder, name: str, whole: bool = True, reason: str = "") -> Arrival:
        assert self._pattern is not None  # noqa: S101
        path, stamp = f"{folder.path}/{name}", folder.known[name]
        return Arrival(
            Path(path),
            self._pattern.key(path),
            stamp.content,
            stamp.mtime_ns / 1e9,
            whole=whole,
            reason=reason,
        )

    # Files beside movies

    def _may_be_companion(self, name: str) -> bool:
        return name.endswith((*COMPANION_SUFFIXES, *self._further)) and not name.startswith(".")

    def _is_companion(self, folder: WatchedFolder, name: str) -> bool:
        assert self._pattern is not None  # noqa: S101
        return self._may_be_companion(name) and not self._pattern.takes(folder.depth, name)

    def _awaits_companion(self, movie: PendingFile) -> bool:
        """Say whether a file that belongs to a movie is being written."""
        if self._is_companion(movie.folder, movie.name):
            return False
        names = companion_names(movie.name, self._further)
        return any(f"{movie.folder.path}/{name}" in self._unfinished for name in names)

    def _movies_of(self, folder: WatchedFolder, companion: str) -> list[str]:
        """Give the known movies to which a file belongs; found by their names, without a look."""
        assert self._pattern is not None  # noqa: S101
        stems = movie_stems(companion, self._further)
        names = [stems[0], *(f"{stem}{suffix}" for stem in stems for suffix in self._pattern.suffixes)]
        known = [name for name in dict.fromkeys(names) if name in folder.known]
        return [
            name
            for name in known
            if self._pattern.takes(folder.depth, name) and companion in companion_names(name, self._further)
        ]

    def _is_announced(self, folder: WatchedFolder, name: str, stamp: Stamp) -> bool:
        """Say whether all movies of a companion are registered with it as it is."""
        movies = self._movies_of(folder, name) if self._is_companion(folder, name) else []
        which, what = companion_tag(name, stamp.size, stamp.mtime_ns)
        return bool(movies) and all(
            companion_tags(folder.known[movie].beside).get(which) == what for movie in movies
        )

    def _tags_beside(self, folder: WatchedFolder, movie: str) -> dict[str, str]:
        """Give the tags of the settled files that belong to a movie and are still there."""
        tags = []
        for name in companion_names(movie, self._further):
            stamp = folder.known.get(name)
            if stamp is None or not self._is_companion(folder, name):
                continue
            try:
                status = _status(f"{folder.path}/{name}")
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) == (stamp.size, stamp.mtime_ns):
                tags.append(companion_tag(name, stamp.size, stamp.mtime_ns))
        return dict(tags)

    def _finish_companion(self, path: str) -> list[Arrival]:
        """Count the file as known; announce again the movies that it belongs to."""
        waiting = self._unfinished.pop(path)
        folder, name, stamp = waiting.folder, waiting.name, waiting.stamp
        if self._is_announced(folder, name, stamp):
            folder.known[name] = stamp
            return []
        folder.known[name] = stamp
        self._recent.append((folder, name))
        which, what = companion_tag(name, stamp.size, stamp.mtime_ns)
        movies = self._movies_of(folder, name)
        for movie in movies:
            before = folder.known[movie]
            folder.known[movie] = before.with_tags({**companion_tags(before.beside), which: what})
        return [self._arrival(folder, movie) for movie in movies]


def companion_suffixes(settings: Settings) -> tuple[str, ...]:
    """Give the suffixes of files that belong to movies as the settings of transfer name them."""
    suffixes: tuple[str, ...] = getattr(settings.sections.get("transfer"), "additional_suffixes", ())
    return suffixes


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
