"""Who has written what: a line for each put that was taken, and who writes against whom."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import structlog

from tomofly.live.records.pv import PV, Record, Value

log = structlog.get_logger(__name__)

LARGEST_BYTES = 5_000_000
FILES = 4
"""Bounds of what is kept: the file, and older ones numbered 1 to FILES - 1."""
FIGHT_S = 1.0
REMEMBERED_S = 60.0


@dataclass(frozen=True)
class Write:
    """A put that was taken."""

    time: float
    pv: str
    old: Value
    new: Value
    by: str


@dataclass(frozen=True)
class Fight:
    """Two writers of one PV within a second: who was last, and who before."""

    pv: str
    last: str
    before: str
    at: float


class Audit:
    """Writes each put as a line of JSON, from a thread of its own; `note` never waits."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self._now = path, now
        self._waiting: SimpleQueue[Write | None] = SimpleQueue()
        self._latest: dict[str, Write] = {}
        self._fights: dict[str, Fight] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def note(self, prefix: str, pv: PV, old: Value, new: Value, by: str) -> None:
        """Keep a put that was taken."""
        write = Write(self._now(), prefix + pv.name, pv.shown(old), pv.shown(new), by)
        pressed = pv.command or pv.record is Record.BUSY
        with self._lock:
            last = self._latest.get(write.pv)
            self._latest[write.pv] = write
            if last is not None and write.time - last.time < FIGHT_S and _against(last, write, pressed):
                self._fights[write.pv] = Fight(write.pv, by, last.by, write.time)
        self._waiting.put(write)

    def fights(self) -> list[Fight]:
        """Give the PVs for which two have written against each other lately."""
        with self._lock:
            return [fight for fight in self._fights.values() if self._now() - fight.at < REMEMBERED_S]

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (write := self._waiting.get()) is not None:
            try:
                self._write(write)
            except OSError as error:
                log.warning("a put is not in the audit", pv=write.pv, by=write.by, reason=str(error))

    def _write(self, write: Write) -> None:
        when = datetime.fromtimestamp(write.time, UTC).isoformat(timespec="milliseconds")
        line = json.dumps(asdict(write) | {"time": when}, ensure_ascii=False) + "\n"
        if self.path.exists() and self.path.stat().st_size + len(line.encode()) > LARGEST_BYTES:
            self._turn_over()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def _turn_over(self) -> None:
        for number in reversed(range(1, FILES)):
            older = self.path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")


def _against(last: Write, write: Write, pressed: bool) -> bool:
    """Whether a put undoes another's: by somebody else, or back to what it was, as where nobody is named."""
    if last.by != write.by:
        return last.new != write.new
    return not pressed and write.new == last.old != last.new
