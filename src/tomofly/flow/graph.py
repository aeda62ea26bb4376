"""The workflow of a session kind: its stages in the order in which they can run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tomofly.model import FoldStage, GroupStage, ItemRef, MapStage, Settings, Stage, StageParams, TomoflyError
from tomofly.model.sections import GainParams, MicroscopeParams, ResourceParams, SourceParams

SHARED_SECTIONS: Mapping[str, type[StageParams]] = {
    "source": SourceParams,
    "microscope": MicroscopeParams,
    "gain": GainParams,
    "resources": ResourceParams,
}


@dataclass(frozen=True)
class Membership:
    """An item belongs to a group, or feeds a fold: the parent is an item of its own."""

    stage: str
    kind: str
    key: str


@dataclass(frozen=True)
class Workflow:
    """The stages of one session kind; ``stages`` is sorted so that every stage comes after its needs."""

    kind: str
    stages: tuple[Stage, ...]

    def __getitem__(self, name: str) -> Stage:
        return self.by_name[name]

    @cached_property
    def by_name(self) -> Mapping[str, Stage]:
        """The stages by name."""
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def tracks(self) -> tuple[str, ...]:
        """The tracks, in the order of their first stage."""
        return tuple(dict.fromkeys(stage.track for stage in self.stages))

    @cached_property
    def item_kind(self) -> Mapping[str, str]:
        """The kind of item on which each stage's tasks stand."""
        kinds: dict[str, str] = {}
        for stage in self.stages:
            if isinstance(stage, GroupStage | FoldStage):
                kinds[stage.name] = stage.produces
            else:
                kinds[stage.name] = kinds[stage.needs[0]] if stage.needs else stage.consumes
        return kinds

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of items, those that others are gathered from first."""
        return tuple(dict.fromkeys(self.item_kind.values()))

    @cached_property
    def root_kind(self) -> str:
        """The kind of item that the source gives."""
        return next(self.item_kind[s.name] for s in self.stages if not s.needs)

    @cached_property
    def main_kind(self) -> str:
        """The kind of item that people look at: what the main group makes, else what the source gives."""
        groups = [s.produces for s in self.stages if isinstance(s, GroupStage) and s.main]
        return groups[-1] if groups else self.root_kind

    def group_of(self, kind: str) -> GroupStage | None:
        """Give the group that makes items of this kind, None where nothing is brought together to them."""
        return next((s for s in self.stages_for(kind) if isinstance(s, GroupStage)), None)

    @cached_property
    def _by_kind(self) -> Mapping[str, tuple[Stage, ...]]:
        kinds = set(self.item_kind.values())
        return {k: tuple(s for s in self.stages if self.item_kind[s.name] == k) for k in kinds}

    def stages_for(self, kind: str) -> tuple[Stage, ...]:
        """Give the stages whose tasks stand on items of this kind, in order."""
        return self._by_kind.get(kind, ())

    @cached_property
    def gathering(self) -> Mapping[str, tuple[GroupStage | FoldStage, ...]]:
        """For each stage, the groups and folds that wait for its results."""
        gathers = [s for s in self.stages if isinstance(s, GroupStage | FoldStage)]
        return {s.name: tuple(g for g in gathers if g.needs[0] == s.name) for s in self.stages}

    @cached_property
    def followed(self) -> Mapping[str, tuple[str, ...]]:
        """For each fold that others follow, the kinds of items on which they stand."""
        followers = [s for s in self.stages if isinstance(s, MapStage) and s.follows]
        names = dict.fromkeys(name for stage in followers for name in stage.follows)
        return {
            name: tuple(dict.fromkeys(self.item_kind[s.name] for s in followers if name in s.follows))
            for name in names
        }

    def memberships(self, item: ItemRef) -> list[Membership]:
        """Say to which groups and folds an item belongs."""
        found = []
        for stage in self.stages_for(item.kind):
            for gather in self.gathering[stage.name]:
                key = gather.name if isinstance(gather, FoldStage) else gather.member_of(item)
                if key is not None:
                    found.append(Membership(gather.name, gather.produces, key))
        return found

    def schema(self) -> dict[str, type[StageParams]]:
        """Give the parameter model of every section of the settings."""
        return {**SHARED_SECTIONS, **{stage.name: stage.params for stage in self.stages}}

    def settings(self, document: Mapping[str, object] | None = None) -> Settings:
        """Validate a settings document; without one, give the defaults. Raises TomoflyError."""
        return Settings.validate(self.kind, self.schema(), document or {})


def build_workflow(kind: str, stages: Iterable[Stage]) -> Workflow:
    """Sort the stages of a kind by their needs. Raises TomoflyError for a graph that cannot run."""
    mine = {stage.name: stage for stage in stages if kind in stage.session_kinds}
    if not mine:
        raise TomoflyError(f"There is no session kind '{kind}'", "`tomofly stages` lists what is installed")
    ordered: dict[str, Stage] = {}
    while len(ordered) < len(mine):
        ready = [s for s in mine.values() if s.name not in ordered and all(n in ordered for n in s.needs)]
        if not ready:
            raise TomoflyError(_unplaceable(mine, ordered))
        ordered.update((stage.name, stage) for stage in ready)
    for stage in ordered.values():
        if isinstance(stage, GroupStage | FoldStage) and len(stage.needs) != 1:
            raise TomoflyError(f"Stage '{stage.name}' must need exactly one stage, not {len(stage.needs)}")
    workflow = Workflow(kind, tuple(ordered.values()))
    for stage in ordered.values():
        _check_inputs(workflow, stage)
    return workflow


def _unplaceable(mine: Mapping[str, Stage], ordered: Mapping[str, Stage]) -> str:
    left = [stage for stage in mine.values() if stage.name not in ordered]
    for stage in left:
        missing = [need for need in stage.needs if need not in mine]
        if missing:
            return f"Stage '{stage.name}' needs '{missing[0]}', which is not installed"
    return "Stages need each other in a circle: " + ", ".join(sorted(stage.name for stage in left))


def _check_inputs(workflow: Workflow, stage: Stage) -> None:
    kinds = {workflow.item_kind[need] for need in stage.needs}
    if len(kinds) > 1:
        raise TomoflyError(
            f"Stage '{stage.name}' needs stages of different items: {', '.join(sorted(kinds))}"
        )
