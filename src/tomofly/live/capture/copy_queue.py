"""Captured files that wait to be copied, one after the other, in a thread of their own."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any

import structlog

from tomofly.live.capture.copying import copy_capture, parse_target
from tomofly.live.records.saving import write_configuration
from tomofly.model import BadInput

log = structlog.get_logger(__name__)

_END_S = 10.0
ENDED = "the program ended before it was copied"


@dataclass(frozen=True)
class Copy:
    """A captured file, how and where to copy it, and why that has failed."""

    file: str
    method: str
    target: str
    problem: str = ""


class CopyQueue:
    """Copies files in the order in which they were put; what fails is kept, also over a restart.

    `limit_s`: longest time of one file. `tell` is told of failures, in the thread of the copies.
    """

    def __init__(self, memory: Path, limit_s: float, tell: Callable[[str], object]) -> None:
        self._memory, self._limit_s, self._tell = memory, limit_s, tell
        self._changed, self._writing = Condition(), Lock()
        self._waiting: deque[Copy] = deque()
        self._failed: dict[str, Copy] = {
            copy.file: replace(copy, problem=copy.problem or ENDED) for copy in _remembered(memory)
        }
        self._current: Copy | None = None
        self._closing = False
        self.copied = 0
        self._thread = Thread(target=self._run, name="copies", daemon=True)
        self._thread.start()

    def put(self, copy: Copy) -> None:
        """Copy this file when its turn has come; comes back at once."""
        with self._changed:
            self._failed.pop(copy.file, None)
            if copy not in self._waiting and copy != self._current:
                self._waiting.append(copy)
            self._changed.notify()
        self._remember()

    @property
    def failed(self) -> tuple[Copy, ...]:
        """What could not be copied, with the reason."""
        with self._changed:
            return tuple(self._failed.values())

    def status(self) -> dict[str, Any]:
        """Say how copies stand."""
        with self._changed:
            return {
                "state": "Copying"
                if self._current or self._waiting
                else "Failed"
                if self._failed
                else "Idle",
                "copying": self._current.file if self._current else "",
                "waiting": len(self._waiting),
                "copied": self.copied,
                "failed": [asdict(copy) for copy in self._failed.values()],
            }

    def close(self) -> None:
        """Cut off what is being copied; it goes on when somebody asks for it after the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                copy = self._current = self._waiting.popleft()
                self._changed.notify_all()
            problem = self._copied(copy)
            with self._changed:
                self._current = None
                if problem:
                    self._failed[copy.file] = replace(copy, problem=problem)
                else:
                    self.copied += 1
                self._changed.notify_all()
            self._remember()
            if problem and not self._closing:
                self._tell(f"{Path(copy.file).name} is not copied: {problem}")

    def _copied(self, copy: Copy) -> str:
        """Copy a file; give why it could not be."""
        try:
            target = parse_target(copy.target)
            copy_capture(copy.method, Path(copy.file), target, self._limit_s, self._stop)
        except BadInput as refusal:
            return str(refusal)
        except OSError as error:
            return f"{error.filename}: {error.strerror}" if error.strerror else str(error)
        log.info("copied", file=copy.file, target=copy.target)
        return ""

    def _stop(self) -> str:
        return ENDED if self._closing else ""

    def _remember(self) -> None:
        """Keep on the disk what is still to be copied."""
        with self._writing:
            with self._changed:
                current = [self._current] if self._current else []
                left = [*current, *self._waiting, *self._failed.values()]
            try:
                write_configuration(self._memory, {"copies": [asdict(copy) for copy in left]})
            except OSError as error:
                log.warning("what is to be copied is not remembered", reason=error.strerror)


def _remembered(path: Path) -> list[Copy]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["copies"]
        return [Copy(**{str(name): str(value) for name, value in entry.items()}) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
