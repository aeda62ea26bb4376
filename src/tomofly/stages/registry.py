"""The stages that are installed: tomofly's own, and those of other packages."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from tomofly.model import FoldStage, GroupStage, MapStage, Stage, TomoflyError

ENTRY_POINTS = "tomofly.stages"


@dataclass(frozen=True)
class Installed:
    """A stage and the package that brought it."""

    stage: Stage
    package: str


@lru_cache(maxsize=1)
def installed_stages() -> tuple[Installed, ...]:
    """Give all stages, sorted by name. Raises TomoflyError naming the package whose stage is no good."""
    found: dict[str, Installed] = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        for stage in _load(point):
            if stage.name in found:
                other = found[stage.name].package
                raise TomoflyError(
                    f"Two packages bring a stage '{stage.name}': {other} and {_package(point)}",
                    "Uninstall one of them",
                )
            found[stage.name] = Installed(stage, _package(point))
    return tuple(found[name] for name in sorted(found))


def find_stage(name: str) -> Stage:
    """Give a stage by name. Raises TomoflyError listing what is installed."""
    for installed in installed_stages():
        if installed.stage.name == name:
            return installed.stage
    names = ", ".join(installed.stage.name for installed in installed_stages())
    raise TomoflyError(f"There is no stage '{name}'", f"Installed are: {names}")


def _load(point: EntryPoint) -> Iterator[Stage]:
    try:
        stage = point.load()
    except Exception as error:
        raise TomoflyError(
            f"The stage '{point.name}' of package {_package(point)} does not load: {error!r}",
            "Repair or uninstall that package",
        ) from error
    if not isinstance(stage, MapStage | GroupStage | FoldStage):
        raise TomoflyError(
            f"The entry point '{point.name}' of package {_package(point)} is no stage but {type(stage)}",
            "It must name a MapStage, a GroupStage or a FoldStage",
        )
    yield stage


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
