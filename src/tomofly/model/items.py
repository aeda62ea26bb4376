"""Items: units of data with a key that is unique in their session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomofly.model.results import Result
from tomofly.model.tasks import TaskState


@dataclass(frozen=True)
class ItemRef:
    """One item as a stage sees it.

    ``key`` is the path below the watched folder without its suffix, so that files of one name in
    different folders stay apart. ``content`` changes when the file's content does.
    """

    key: str
    kind: str
    source: Path | None = None
    content: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """A member of a group, or an element of a fold, with the result that its stage made of it."""

    item: ItemRef
    result: Result


@dataclass(frozen=True)
class MemberState:
    """How far a member of a group has come: the state of the task that the group waits for."""

    key: str
    state: TaskState = TaskState.WAITING
    identity: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupState:
    """What a group's rule may look at: no clock but ``now``, no files."""

    key: str
    members: tuple[MemberState, ...]
    last_arrival: float
    now: float
    closed: bool = False
    requested: bool = False

    @property
    def done(self) -> int:
        """Members that have a result."""
        return sum(member.state is TaskState.DONE for member in self.members)

    @property
    def unsettled(self) -> int:
        """Members that may still get a result."""
        return sum(not member.state.settled for member in self.members)
