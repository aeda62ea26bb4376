"""Stages: one declaration from which form, options, table, plots and docs are made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from logging import Logger
from pathlib import Path
from typing import Any, Literal

from tomofly.model.catalog import Catalog
from tomofly.model.items import GroupState, ItemRef, Member
from tomofly.model.parameters import StageParams
from tomofly.model.results import Outcome, Result
from tomofly.model.settings import Settings


class Shape(StrEnum):
    """The three shapes a stage can have."""

    MAP = "map"
    GROUP = "group"
    FOLD = "fold"


@dataclass(frozen=True)
class Metric:
    """A number that a stage measures: a column, a filter, a plot."""

    name: str
    unit: str
    help: str
    good: Literal["low", "high", ""] = ""


@dataclass(frozen=True)
class Resources:
    """What one task needs. ``slot`` is the pool it draws from: computing, or moving files."""

    cores: int = 1
    memory_gb: float = 1.0
    gpus: int = 0
    slot: Literal["compute", "transfer"] = "compute"


@dataclass(frozen=True)
class StageContext:
    """All that a stage's function may touch beside its item and parameters.

    Files are written into ``work``, which belongs to this attempt alone; what the function returns as
    products is moved into the session's folder after it has ended well. ``placed`` is where the products
    of this stage lie then, and those of earlier runs lie now.
    """

    stage: str
    key: str
    work: Path
    partial: Path
    shared: Mapping[str, StageParams]
    inputs: Mapping[str, Result]
    log: Logger
    threads: int = 1
    checkpoint: Path | None = None
    final: bool = False
    provisional: bool = False
    followed: Mapping[str, str] = field(default_factory=dict)
    placed: Path | None = None

    def new_file(self, suffix: str) -> Path:
        """Give the path for a new product named after the item: ``<key><suffix>``."""
        path = self.work / f"{self.key}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


MapFunction = Callable[[ItemRef, Any, StageContext], Outcome]
GatherFunction = Callable[[Sequence[Member], Any, StageContext], Outcome]


@dataclass(frozen=True)
class Stage:
    """What every stage declares.

    ``needs`` names the stages whose results it takes. ``reads`` says which shared parameters its results
    depend on, by section, and ``attributes`` which attributes of its item, or of its members. A change of
    ``version`` makes every earlier result stale.
    """

    name: str
    version: str
    summary: str
    session_kinds: tuple[str, ...]
    track: str
    consumes: str
    produces: str
    params: type[StageParams]
    needs: tuple[str, ...] = ()
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    previews: tuple[str, ...] = ()
    resources: Resources = Resources()
    retries: int = 2

    @property
    def shape(self) -> Shape:
        """Map, group or fold."""
        raise TypeError(f"stage '{self.name}' must be a MapStage, a GroupStage or a FoldStage")


@dataclass(frozen=True, kw_only=True)
class MapStage(Stage):
    """One item in, one item's results out.

    ``follows_source``: its results depend on the files beside the item's own, which ``needs`` do not name.
    ``follows`` names folds: what the session as a whole has shown so far, as these say it in the ``content``
    of their outcome, is in ``ctx.followed``; a result is made again when that changes.
    ``catalog``: makes what turns the files of the source into items; without one, every file is an item.
    """

    run: MapFunction
    follows_source: bool = False
    follows: tuple[str, ...] = ()
    catalog: Callable[[Settings], Catalog] | None = None

    @property
    def shape(self) -> Shape:
        """Map."""
        return Shape.MAP


@dataclass(frozen=True)
class Completion:
    """What a group's rule says: ready or not, why, and when to ask again."""

    ready: bool
    reason: str
    wake_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupStage(Stage):
    """Many items make one when the rule ``complete`` says so.

    ``member_of`` gives the key of the group that an item belongs to, or None. ``complete`` is asked again
    whenever a member changes, at ``wake_at``, when a person asks to process now, and when the stream closes.
    ``partial`` gives the keys of the members of which a provisional result is made while the group is not
    complete (none: not yet); it may look at the members alone.
    ``main``: people look at the groups, not at their members, so the session is counted in groups.
    """

    member_of: Callable[[ItemRef], str | None]
    complete: Callable[[GroupState, Any], Completion]
    run: GatherFunction
    partial: Callable[[GroupState, Any], Sequence[str]] | None = None
    main: bool = False

    @property
    def shape(self) -> Shape:
        """Group."""
        return Shape.GROUP


@dataclass(frozen=True, kw_only=True)
class FoldStage(Stage):
    """A running result over an endless stream.

    ``run`` gets the new elements and ``ctx.checkpoint`` (None at the beginning) and must return a product
    named ``checkpoint``. It runs when ``every`` new elements wait; ``ctx.final`` marks the pass over
    everything, in the order of keys and without a checkpoint, after the stream has closed.
    """

    run: GatherFunction
    every: int = 100

    @property
    def shape(self) -> Shape:
        """Fold."""
        return Shape.FOLD
