"""What a task leaves: products, metrics and flags."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Flag:
    """Something that a person must know about an item; ``code`` is stable, ``message`` is for reading."""

    code: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What a stage's function returns.

    ``products`` maps names to files written through the stage's context. ``content`` is given by stages
    that know a digest of what they made: two runs with the same digest count as the same input downstream.
    ``discard`` lists source files that may be deleted once the result is committed, and not before.
    """

    products: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    content: str | None = None
    discard: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Result:
    """A committed outcome as downstream stages see it: absolute paths, and the identity of the result."""

    identity: str
    products: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
