"""What a task leaves: products, metrics and flags."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Flag:
    """Something that a person must know about an item; ``code`` is stable, ``message`` is for reading."""

    code: str
    message: str


@dataclass(frozen=True)
class Spent:
    """A source file, as it was when it was copied: it may be deleted only while it is the same."""

    path: Path
    size: int
    mtime_ns: int
    inode: int

    def is_unchanged(self, now: os.stat_result) -> bool:
        """Say whether what is there now is the file that was copied."""
        return (now.st_size, now.st_mtime_ns, now.st_ino) == (self.size, self.mtime_ns, self.inode)


@dataclass(frozen=True)
class Outcome:
    """What a stage's function returns.

    ``products`` maps names to files written through the stage's context. ``content`` is given by stages
    that know a digest of what they made: two runs with the same digest count as the same input downstream.
    ``discard`` lists source files that may be deleted once the result is committed, and not before, if they
    are still what was copied.
    """

    products: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    content: str | None = None
    discard: tuple[Spent, ...] = ()


@dataclass(frozen=True)
class Result:
    """A committed outcome as downstream stages see it: absolute paths, and the identity of the result."""

    identity: str
    products: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
