"""Which files below a folder are movies: a glob pattern taken apart, so that each folder is matched once."""

import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tomofly.formats.suffixes import MOVIE_SUFFIXES
from tomofly.model.sections import watched_folder

TEMPORARY_SUFFIXES = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
"""Names under which programs write files that are not finished."""

_WILDCARDS = re.compile(r"[*?\[]")

Depth = frozenset[int]
"""How far into the pattern a folder is: the segments that its entries may match."""


class WatchPattern:
    """A pattern such as ``/data/**/Data/*_Fractions.tiff``; ``**`` stands for any number of folders.

    ``root`` is the deepest folder without a wildcard, absolute. A folder is placed by the set of segments
    which its entries may match: ``top`` for the root, ``below`` for the folders in it.
    """

    def __init__(self, pattern: str, ignore: Iterable[str] = ()) -> None:
        self.text = pattern
        root = watched_folder(pattern)
        # Made absolute, but links are left in place: users look for their files where they put them.
        self.root = os.path.abspath(root)  # noqa: PTH100
        self._segments = Path(pattern).expanduser().parts[len(root.parts) :]
        self._matchers = [_matcher(segment) for segment in self._segments]
        self._ignored = [re.compile(fnmatch.translate(name), re.IGNORECASE) for name in ignore]
        self._suffix_is_open = bool(_WILDCARDS.search(Path(self._segments[-1]).suffix or "*"))
        self.top = self._closed({0})

    def below(self, depth: Depth, name: str) -> Depth:
        """Place the folder ``name`` inside a folder at ``depth``; empty: nothing in it can match."""
        if name.startswith("."):
            return frozenset()
        found = set()
        for at in depth:
            matcher = self._matchers[at]
            if matcher is None:
                found.add(at)
            elif at + 1 < len(self._segments) and matcher.match(name):
                found.add(at + 1)
        return self._closed(found)

    def takes(self, depth: Depth, name: str) -> bool:
        """Say whether a file of this name, in a folder at ``depth``, is one to be processed."""
        last = len(self._segments) - 1
        if last not in depth or name.startswith(".") or name.lower().endswith(TEMPORARY_SUFFIXES):
            return False
        matcher = self._matchers[last]
        if matcher is not None and not matcher.match(name):
            return False
        return not any(ignored.match(name) for ignored in self._ignored)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that are taken, as far as they are known beforehand."""
        return tuple(sorted(MOVIE_SUFFIXES)) if self._suffix_is_open else (Path(self._segments[-1]).suffix,)

    def key(self, path: str) -> str:
        """Name the item that a file below ``root`` makes: its path there, without the suffix.

        Where the pattern leaves the suffix open, the key keeps it: ``a.mrc`` and ``a.tiff`` are two items,
        and which is which must not depend on the one that came first.
        """
        relative = path[len(self.root) :].lstrip("/")
        return relative if self._suffix_is_open else relative[: -len(Path(relative).suffix) or None]

    def _closed(self, depth: set[int]) -> Depth:
        """Add what follows each ``**``, which may stand for no folder at all."""
        closed = set()
        for at in depth:
            reached = at
            closed.add(reached)
            while self._matchers[reached] is None and reached + 1 < len(self._matchers):
                reached += 1
                closed.add(reached)
        return frozenset(closed)


def _matcher(segment: str) -> re.Pattern[str] | None:
    return None if segment == "**" else re.compile(fnmatch.translate(segment))
