"""What is asked of a capture, and what has become of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Event

from tomofly.formats.data_exchange.layout import Fact


class CaptureState(StrEnum):
    """Where a capture stands."""

    WRITING = "writing"  # or waiting for frames
    DONE = "done"  # there is a file, whole, even where it ended early
    FAILED = "failed"  # there is no file


class Ending(StrEnum):
    """Why a capture ended; anything but the first stands in its file as it does here."""

    COMPLETE = "complete"
    STOPPED = "stopped on request"
    NO_SPACE = "the disk was nearly full"
    CHANGED = "the frames changed in size, type or lens"
    DISK_FAILED = "the disk failed"
    CLOSED = "the program ended"
    RECOVERED = "recovered after the program was killed"


@dataclass(frozen=True)
class CaptureRequest:
    """`frames` projections from now on, after the newest `before` of the ring.

    `name`: of the file, less its suffix; the next free number under the session's name where None.
    """

    frames: int
    before: int = 0
    reason: str = "request"
    name: str | None = None
    overwrite: bool = False
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames < 0 or self.before < 0 or self.frames + self.before == 0:
            raise ValueError(f"a capture of {self.before} frames before and {self.frames} after")


class CaptureTicket:
    """One capture, as those who asked for it see it. Written by the capture service alone."""

    def __init__(self, request: CaptureRequest, path: Path, before: int) -> None:
        self.request = request
        self.path = path
        self.before = before  # frames that the ring had of those wanted
        self.state = CaptureState.WRITING
        self.ending: Ending | None = None
        self.taken = 0  # frames accepted, before and after
        self.written = 0  # of these, on their way to the disk
        self.lost = 0  # as the writer could not keep up
        self.missing = 0  # that never came
        self.problem = ""
        self._ended = Event()

    @property
    def wanted(self) -> int:
        """How many frames the file will have."""
        return self.before + self.request.frames

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the file is there, or will never be; False where that takes longer."""
        return self._ended.wait(seconds)

    def end(self, state: CaptureState, ending: Ending, problem: str = "") -> None:
        """Say how it ended, and wake who waits."""
        self.state, self.ending, self.problem = state, ending, problem
        self._ended.set()
