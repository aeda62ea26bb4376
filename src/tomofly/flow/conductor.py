"""The conductor: one process per running session, which holds nothing that the database lacks.

It watches the source, asks the planner, hands out tasks, commits results, and says every few seconds
that it is alive. Stopping, restarting and clearing are wishes in the database that it carries out.
"""

import os
import queue
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from tomofly.flow.arrivals import Arrivals, drained
from tomofly.flow.cataloguing import Cataloguer
from tomofly.flow.engine import Engine, Scope
from tomofly.flow.executor import DaskExecutor, Executor
from tomofly.flow.folder import is_writable, only_conductor, sweep
from tomofly.flow.graph import Workflow
from tomofly.flow.runner import TaskReport
from tomofly.flow.space import SpaceGuard, free_space
from tomofly.flow.watch import Watcher, companion_suffixes
from tomofly.model import ResourceParams, Settings, SourceParams, StageParams
from tomofly.store import Database, SessionRow, TrackRow, intake, retry_while_locked, sessions

RECONCILE_S = 0.5
HEARTBEAT_S = 2.0
STOP_GRACE_S = 10.0
TURN_S = 0.1
"""How long reports gather before they are written down together."""

CROWD = 16
CROWDED_TURN_S = 0.5
"""The same after a turn with so many reports: short tasks by the thousand are written down in larger lots."""

IDLE_S = 0.2
PREFETCH_S = 0.4
MAX_PREFETCH = 200

Section = TypeVar("Section", bound=StageParams)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """When the conductor ends: after one look (``once``), after silence, or when it is told to.

    ``if_wanted``: a wish to stop that was there before it began holds; else beginning is the wish to run.
    """

    once: bool = False
    idle_timeout_s: float | None = None
    on_tick: Callable[[], None] | None = None
    if_wanted: bool = False

    @property
    def ends_by_itself(self) -> bool:
        """Whether the session closes without anybody asking."""
        return self.once or self.idle_timeout_s is not None


@dataclass
class Tally:
    """What is under way, and how long tasks have taken lately."""

    in_flight: Counter[str] = field(default_factory=Counter)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    busy_s: float = 0.0
    tasks: int = 0

    def window(self, slots: int) -> int:
        """How many tasks to have handed out: all slots, and enough waiting to keep short tasks flowing."""
        if not self.recent_s:
            return slots
        mean = max(sum(self.recent_s) / len(self.recent_s), 1e-4)
        return slots * min(MAX_PREFETCH, max(1, round(PREFETCH_S / mean))) + 1


class Conductor:
    """Runs one session until it is finished or told to stop."""

    def __init__(
        self, database: Database, session: SessionRow, workflow: Workflow, options: RunOptions
    ) -> None:
        self.database = database
        self.session_id = session.id
        self.folder = Path(session.folder)
        self.workflow = workflow
        self.options = options
        self.tally = Tally()
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._tracks: dict[str, TrackRow] = {}
        self._paused = ""
        self._told: dict[str, str] | None = None
        self._stopping = False
        self._began = self._last_arrival = time.time()
        self._due = {"reconcile": 0.0, "heartbeat": 0.0, "space": 0.0}
        self._gathered: list[TaskReport] = []
        self._turn_s = TURN_S
        self._arrivals = Arrivals()
        settings = self._load_settings()
        self._cataloguer = self._new_cataloguer(settings)
        self.engine = Engine(database, Scope(self.session_id, workflow, self.folder), settings)

    def run(self, executor: Executor | None = None) -> str:
        """Run; give the state in which the session was left: finished, stopped or failed."""
        with only_conductor(self.folder, self._name):
            self._begin()
            workers = executor or DaskExecutor(
                self._section("resources", ResourceParams), _scratch(self.folder)
            )
            try:
                self._loop(workers)
                state = "stopped" if self._stopping else "finished"
            except BaseException as error:
                self._write(state="failed", note=str(error) or type(error).__name__, conductor="")
                raise
            finally:
                self._arrivals.stop()
                workers.close()
            self._write(state=state, conductor="", heartbeat_at=time.time())
            return state

    def stop(self) -> None:
        """End soon: hand out nothing more, and wait a little for what runs."""
        self._stopping = True

    def _begin(self) -> None:
        sweep(self.folder)
        recovered = self.engine.recover()
        if recovered:
            log.info("tasks of an earlier run are queued again", tasks=recovered)
        wish = {} if self.options.if_wanted else {"desired": "running"}
        self._write(
            state="running", conductor=self._name, heartbeat_at=time.time(), note="", closed=False, **wish
        )
        self.engine.use_settings(self.engine.settings)
        self._watch()

    def _watch(self, *, anew: bool = False) -> None:
        """Watch the source; ``anew``: have known files announced again, as their catalogue has changed."""
        source = self._section("source", SourceParams)
        suffixes = companion_suffixes(self.engine.settings[self.workflow.tracks[0]])
        known = [] if anew else retry_while_locked(self._known_sources)
        # Notes before what they describe, so that items are complete when they come.
        watchers = [Watcher(notes, apart=[self.folder]) for notes in self._cataloguer.note_sources(source)]
        watchers.append(Watcher(source, known, apart=[self.folder], companion_suffixes=suffixes))
        self._arrivals.start(watchers, source.poll_s, impatient=self.options.once)

    def _known_sources(self) -> list[tuple[str, str]]:
        with self.database.read() as connection:
            return list(intake.known_sources(connection, self.session_id))

    def _new_cataloguer(self, settings: Mapping[str, Settings]) -> Cataloguer:
        return retry_while_locked(lambda: self._filled_cataloguer(settings))

    def _filled_cataloguer(self, settings: Mapping[str, Settings]) -> Cataloguer:
        cataloguer = Cataloguer(self.workflow, settings[self.workflow.tracks[0]], self._began)
        if cataloguer.has_catalog:
            with self.database.read() as connection:
                for rows in intake.items_in_lots(connection, self.session_id, 1000, cataloguer.kind):
                    cataloguer.remember(rows)
        return cataloguer

    def _loop(self, executor: Executor) -> None:
        while True:
            now = time.time()
            self._reconcile(now)
            worked = self._step(executor, now)
            self._heartbeat(now, executor)
            if self.options.on_tick is not None:
                self.options.on_tick()
            if self._stopping:
                self._drain(executor)
                return
            if self._is_finished(now):
                return
            self._rest(executor, self._turn_s if worked else IDLE_S)

    def _step(self, executor: Executor, now: float) -> bool:
        """Take in, commit, plan, hand out; say whether anything happened."""
        arrived = self._take_in(now)
        reports = self._take_reports(executor)
        self._turn_s = CROWDED_TURN_S if len(reports) >= CROWD else TURN_S
        self._commit(reports, now)
        planned = self.engine.plan(now)
        self._watch_space(now, reports)
        handed = 0 if self._paused or self._stopping else self._hand_out(executor, now)
        return bool(arrived or reports or planned or handed)

    def _rest(self, executor: Executor, pause_s: float) -> None:
        """Let reports gather for a moment, so that one transaction serves many of them."""
        end = time.monotonic() + pause_s
        while (left := end - time.monotonic()) > 0:
            try:
                self._gathered.append(executor.reports.get(timeout=left))
            except queue.Empty:
                break
            end = min(end, time.monotonic() + self._turn_s)

    def _take_reports(self, executor: Executor) -> list[TaskReport]:
        reports, self._gathered = [*self._gathered, *drained(executor.reports)], []
        return reports

    def _take_in(self, now: float) -> int:
        arrivals = self._arrivals.take()
        if arrivals:
            self._last_arrival = now
            self.engine.set_closed(False)
        count = self.engine.register(self._cataloguer.items(arrivals), now)
        notes = self._cataloguer.alerts()
        if self._arrivals.looked and notes != self._told:
            self._told = notes
            self._transact(lambda c: sessions.keep_alerts(c, self.session_id, "note", notes, now))
        return count

    def _commit(self, reports: Sequence[TaskReport], now: float) -> None:
        for report in reports:
            self.tally.in_flight[report.order.stage.resources.slot] -= 1
            self.tally.tasks += 1
            if report.done_at:
                self.tally.recent_s.append(report.done_at - report.started_at)
        self.engine.commit(reports, now)

    def _hand_out(self, executor: Executor, now: float) -> int:
        handed = 0
        for slot, count in executor.slots().items():
            room = self.tally.window(count) - self.tally.in_flight[slot]
            stages = [
                stage.name
                for stage in self.workflow.stages
                if stage.resources.slot == slot and self._tracks[stage.track].desired == "running"
            ]
            threads = getattr(executor, "threads", 1)
            for order in self.engine.take_orders(stages, room, now, threads):
                self.tally.in_flight[slot] += 1
                executor.submit(order)
                handed += 1
        return handed

    def _drain(self, executor: Executor) -> None:
        """Commit what still comes in while stopping; what does not is queued again at the next start."""
        end = time.monotonic() + STOP_GRACE_S
        while sum(self.tally.in_flight.values()) > 0 and time.monotonic() < end:
            self._rest(executor, TURN_S)
            self._commit(self._take_reports(executor), time.time())

    def _reconcile(self, now: float) -> None:
        """Carry out what people have asked for since the last look."""
        if now < self._due["reconcile"]:
            return
        self._due["reconcile"] = now + RECONCILE_S
        session, tracks = retry_while_locked(self._wishes)
        if session.desired == "stopped":
            self._stopping = True
        before, self._tracks = self._tracks, tracks
        cleared = [track.name for track in tracks.values() if track.clear_requested]
        if cleared:
            self._clear(cleared)
        if any(before.get(n) and before[n].revision != track.revision for n, track in tracks.items()):
            self._renew()

    def _wishes(self) -> tuple[SessionRow, dict[str, TrackRow]]:
        with self.database.read() as connection:
            session = sessions.find_session(connection, self.session_id)
            tracks = {track.name: track for track in sessions.list_tracks(connection, self.session_id)}
        missing = [name for name in self.workflow.tracks if name not in tracks]
        if missing:
            with self.database.begin() as connection:
                sessions.add_tracks(connection, self.session_id, missing, session.revision)
            return self._wishes()
        return session, tracks

    def _clear(self, tracks: Sequence[str]) -> None:
        stages = [stage.name for stage in self.workflow.stages if stage.track in tracks]
        log.info("clearing", tracks=list(tracks))
        self.engine.clear(stages)
        self._transact(lambda c: sessions.update_tracks(c, self.session_id, tracks, clear_requested=False))

    def _renew(self) -> None:
        """Put the settings that the tracks now have in force."""
        before = self.engine.settings[self.workflow.tracks[0]]
        self.engine.use_settings(self._load_settings())
        after = self.engine.settings[self.workflow.tracks[0]]
        if self._cataloguer.has_catalog and after != before:
            self._arrivals.stop()
            self._cataloguer = self._new_cataloguer(self.engine.settings)
            self._watch(anew=True)
        elif _what_is_watched(after) != _what_is_watched(before):
            self._arrivals.stop()
            self._watch()

    def _load_settings(self) -> dict[str, Settings]:
        return retry_while_locked(self._read_settings)

    def _read_settings(self) -> dict[str, Settings]:
        with self.database.read() as connection:
            tracks = {track.name: track for track in sessions.list_tracks(connection, self.session_id)}
            latest = sessions.find_session(connection, self.session_id).revision
            revisions = {n: tracks[n].revision if n in tracks else latest for n in self.workflow.tracks}
            documents = {
                revision: sessions.settings_document(connection, self.session_id, revision)
                for revision in sorted(set(revisions.values()))
            }
        return {name: self.workflow.settings(documents[revision]) for name, revision in revisions.items()}

    def _section(self, name: str, kind: type[Section]) -> Section:
        return self.engine.settings[self.workflow.tracks[0]].section(name, kind)

    def _watch_space(self, now: float, reports: Sequence[TaskReport]) -> None:
        """Pause with an alert while the disk is full or cannot be written, and go on by itself."""
        trouble = next((report.reason for report in reports if report.storage), "")
        if now < self._due["space"] and not trouble:
            return
        self._due["space"] = now + HEARTBEAT_S
        resources = self._section("resources", ResourceParams)
        guard = SpaceGuard(int(resources.minimum_free_gb * 1e9))
        verdict = guard.judge(free_space(self.folder).free, bool(self._paused))
        message = verdict.message if verdict.pause else trouble
        if not message and not is_writable(self.folder):
            message = f"The session's folder {self.folder} cannot be written. Processing goes on when it can."
        if message != self._paused:
            self._paused = message
            self._transact(lambda connection: self._announce_pause(connection, message, now))

    def _announce_pause(self, connection: Connection, message: str, now: float) -> None:
        sessions.update_tracks(connection, self.session_id, paused=message)
        if message:
            sessions.raise_alert(connection, self.session_id, "disk", message, now, level="critical")
        else:
            sessions.end_alert(connection, self.session_id, "disk", now)

    def _heartbeat(self, now: float, executor: Executor) -> None:
        if now < self._due["heartbeat"]:
            return
        self._due["heartbeat"] = now + HEARTBEAT_S
        space = free_space(self.folder)
        vitals = {
            "free_bytes": space.free, "total_bytes": space.total, "pending_files": self._arrivals.pending,
            "watch_problem": self._arrivals.problem, "workers": executor.slots().get("compute", 0),
            "in_flight": sum(self.tally.in_flight.values()), "idle": self.engine.settled(),
        }  # fmt: skip
        self._write(heartbeat_at=now, vitals=vitals)
        problem = self._arrivals.problem
        self._transact(lambda connection: self._announce_watch(connection, problem, now))

    def _announce_watch(self, connection: Connection, problem: str, now: float) -> None:
        if problem:
            sessions.raise_alert(connection, self.session_id, "source", problem, now)
        else:
            sessions.end_alert(connection, self.session_id, "source", now)

    def _is_finished(self, now: float) -> bool:
        if not self.options.ends_by_itself or self._paused:
            return False
        if not self._arrivals.looked or self._arrivals.pending or self._arrivals.waiting:
            return False
        patience = 0.0 if self.options.once else self.options.idle_timeout_s or 0.0
        if now - self._last_arrival < patience or not self.engine.settled():
            return False
        if not self.engine.closed:
            self.engine.set_closed(True)
            self._write(closed=True)
            return False
        return sum(self.tally.in_flight.values()) == 0

    def _write(self, **values: object) -> None:
        self._transact(lambda connection: sessions.update_session(connection, self.session_id, **values))

    def _transact(self, write: Callable[[Connection], None]) -> None:
        """Write in a transaction of its own, again while the database is locked."""

        def work() -> None:
            with self.database.begin() as connection:
                write(connection)

        retry_while_locked(work)


def _what_is_watched(settings: Settings) -> object:
    return settings["source"], companion_suffixes(settings)


def _scratch(folder: Path) -> Path:
    return folder / ".work" / "dask"
