"""The watcher in a thread of its own, because a network file system may keep it waiting."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import structlog

from tomofly.flow.watch import Arrival, Watcher

log = structlog.get_logger(__name__)
S = TypeVar("S")


class Arrivals:
    """What the watcher has found, from its thread to the conductor's."""

    def __init__(self) -> None:
        self._found: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._watchers: Sequence[Watcher] = ()
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
        return self._failure or next((w.problem for w in self._watchers if w.problem), "")

    @property
    def waiting(self) -> bool:
        """Whether something was found that has not been taken."""
        return not self._found.empty()

    def start(self, watchers: Sequence[Watcher], poll_s: float, *, impatient: bool) -> None:
        """Begin to look every ``poll_s``, with each watcher in turn."""
        self._end = threading.Event()
        self._watchers = watchers
        self.looked = False
        self._thread = threading.Thread(
            target=self._look, args=(watchers, self._end, poll_s, impatient), name="watcher", daemon=True
        )
        self._thread.start()

    def _look(
        self, watchers: Sequence[Watcher], end: threading.Event, poll_s: float, impatient: bool
    ) -> None:
        while not end.is_set():
            try:
                for watcher in watchers:
                    for arrival in watcher.poll(time.time(), impatient=impatient):
                        self._found.put(arrival)
                self._pending = sum(watcher.pending for watcher in watchers)
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


def spelled(name: str) -> str:
    """Spell bytes of a name that are no text as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def drained(source: "queue.SimpleQueue[S]") -> Iterator[S]:
    """Take what is in a queue now, without waiting."""
    while True:
        try:
            yield source.get_nowait()
        except queue.Empty:
            return
