"""The watcher in a thread of its own, because a network file system may keep it waiting."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import structlog

from tomofly.flow.watch import Arrival, Watcher
from tomofly.store.intake import NewItem

log = structlog.get_logger(__name__)
S = TypeVar("S")


class Arrivals:
    """What the watcher has found, from its thread to the conductor's."""

    def __init__(self) -> None:
        self._found: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._watcher: Watcher | None = None
        self._pending = 0
        self._failure = ""
        self.looked = False

    @property
    def pending(self) -> int:
        """Files seen that are not whole yet, as of the last look whose finds can be taken."""
        return self._pending

    @property
    def problem(self) -> str:
        """What is wrong with the source, if anything."""
        watched = "" if self._watcher is None else self._watcher.problem
        return self._failure or watched

    @property
    def waiting(self) -> bool:
        """Whether something was found that has not been taken."""
        return not self._found.empty()

    def start(self, watcher: Watcher, poll_s: float, *, impatient: bool) -> None:
        """Begin to look every ``poll_s``."""
        self._end = threading.Event()
        self._watcher = watcher
        self.looked = False
        self._thread = threading.Thread(
            target=self._look, args=(watcher, self._end, poll_s, impatient), name="watcher", daemon=True
        )
        self._thread.start()

    def _look(self, watcher: Watcher, end: threading.Event, poll_s: float, impatient: bool) -> None:
        while not end.is_set():
            try:
                for arrival in watcher.poll(time.time(), impatient=impatient):
                    self._found.put(arrival)
                self._pending = watcher.pending
                self._failure = ""
            except Exception as error:  # the rim of this thread: looking goes on, and says what is wrong
                log.exception("looking at the source failed")
                self._failure = f"Looking at the source failed ({error!r}). It is tried again."
            self.looked = True
            end.wait(poll_s)

    def take(self) -> list[Arrival]:
        """Give what has been found since the last call."""
        return list(drained(self._found))

    def stop(self) -> None:
        """End looking."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=5)


def new_item(kind: str, arrival: Arrival, *, live: bool) -> NewItem:
    """Make an item of a file that has arrived; one whose name no database can hold will fail, visibly."""
    key, source = _spelled(arrival.key), _spelled(str(arrival.path))
    attributes = {}
    if source != str(arrival.path):
        attributes["unusable"] = f"The name of the file {source} is not UTF-8. Rename it."
    return NewItem(kind, key, source, arrival.content, attributes, arrival.acquired_at, live)


def _spelled(name: str) -> str:
    """Spell bytes of a name that are no text as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def drained(source: "queue.SimpleQueue[S]") -> Iterator[S]:
    """Take what is in a queue now, without waiting."""
    while True:
        try:
            yield source.get_nowait()
        except queue.Empty:
            return
