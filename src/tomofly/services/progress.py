"""How a session is coming along: counts, rates, backlog, latency, troubles. A few quick queries."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tomofly.flow.graph import Workflow
from tomofly.flow.planner import is_enabled
from tomofly.flow.workflows import workflow_of
from tomofly.model import Settings
from tomofly.services.filters import final_stages
from tomofly.services.home import Home
from tomofly.services.series import SERIES_KIND, SeriesProgress, newest_series
from tomofly.services.settings import settings_in_force
from tomofly.services.status import MEANINGS, Status, status_of
from tomofly.store import SessionRow, TrackRow, requests, sessions, statistics
from tomofly.store.browse import BrowsedItem, items_by_id

RATE_WINDOW_S = 600.0
TRANSFER_WINDOW_S = 60.0
TRANSFERRED = ("transfer", "transferred_bytes")
"""The metric that says how much has been brought in."""
STATES = ("waiting", "queued", "running", "done", "failed", "skipped")


@dataclass(frozen=True)
class TrackProgress:
    """How one track is coming along, counted in items; ``stages`` has the counts of each stage by state.

    ``eta_s`` is the time that the backlog takes at the present rate; None: there is no rate yet.
    """

    name: str
    state: str
    waiting: int
    queued: int
    running: int
    done: int
    failed: int
    skipped: int
    backlog: int
    rate_per_hour: float
    eta_s: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    paused: str
    revision: int
    stages: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class KindCount:
    """How many items of one kind there are, are done, and have failed."""

    items: int
    done: int
    failed: int


@dataclass(frozen=True)
class Trouble:
    """A task that failed: on which item, where, and why."""

    item: str
    stage: str
    reason: str
    at: float | None


@dataclass(frozen=True)
class Progress:
    """Everything that the live view shows of a session.

    ``items``, ``done`` and ``failed`` are of the kind that people look at, which comes first in ``kinds``.
    """

    name: str
    kind: str
    folder: str
    status: Status
    note: str
    items: int
    done: int
    failed: int
    tracks: tuple[TrackProgress, ...]
    latency_p50_s: float | None
    latency_p95_s: float | None
    errors: tuple[Trouble, ...]
    alerts: tuple[Mapping[str, Any], ...]
    vitals: Mapping[str, Any]
    latest: tuple[BrowsedItem, ...]
    kinds: Mapping[str, KindCount] = field(default_factory=dict)
    series: tuple[SeriesProgress, ...] = ()

    @property
    def meaning(self) -> str:
        """The status in words."""
        return MEANINGS[self.status]

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values, without the latest items."""
        document = {name: value for name, value in vars(self).items() if name not in ("latest", "tracks")}
        document["series"] = [series.as_json() for series in self.series]
        document["meaning"] = self.meaning
        document["tracks"] = [asdict(track) for track in self.tracks]
        document["errors"] = [asdict(error) for error in self.errors]
        document["alerts"] = [dict(alert) for alert in self.alerts]
        document["vitals"] = dict(self.vitals)
        document["kinds"] = {kind: asdict(count) for kind, count in self.kinds.items()}
        return document


def session_progress(
    home: Home, name: str, *, latest: int = 5, errors: int = 5, before: Progress | None = None
) -> Progress:
    """Look at a session now; ``before`` is an earlier look, of which what cannot have changed is kept."""
    now = time.time()
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        workflow = workflow_of(session.kind)
        settings = settings_in_force(connection, session, workflow)
        progress = _Look(connection, session, workflow, settings, now).progress(latest, errors)
    if workflow.main_kind != SERIES_KIND:
        return progress
    final = final_stages(workflow, enabled_stages(workflow, settings))
    known = () if before is None else before.series
    return replace(progress, series=newest_series(home, session, final, latest, known))


def enabled_stages(workflow: Workflow, settings: Mapping[str, Settings]) -> list[str]:
    """Give the stages that are switched on, in the order of the work."""
    return [stage.name for stage in workflow.stages if is_enabled(stage, settings[stage.track])]


def note_shown(home: Home, progress: Progress) -> None:
    """Note that the latest items of this progress have been put before a person's eyes."""
    fresh = [item.id for item in progress.latest if item.shown_at is None]
    if fresh:
        # A database that cannot be written just now is no reason to stop looking: the next look tells it.
        with contextlib.suppress(OperationalError), home.database.begin() as connection:
            requests.note_shown(connection, fresh, time.time())


class _Look:
    """One look at a session, in one connection."""

    def __init__(
        self, connection: Connection, session: SessionRow, workflow: Workflow,
        settings: Mapping[str, Settings], now: float,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.session = session
        self.workflow = workflow
        self.settings = settings
        self.now = now
        self.kinds = statistics.count_kinds(connection, session.id)
        self.tasks = statistics.count_tasks(connection, session.id)
        self.enabled = enabled_stages(workflow, settings)
        self._done: dict[tuple[str, ...], int] = {}

    def progress(self, latest: int, errors: int) -> Progress:
        session, connection = self.session, self.connection
        final = final_stages(self.workflow, self.enabled)
        p50, p95 = self._latency(final)
        kinds = self._kinds()
        main = kinds[self.workflow.main_kind]
        failures = statistics.list_failures(connection, session.id, limit=errors)
        return Progress(
            name=session.name,
            kind=session.kind,
            folder=session.folder,
            status=status_of(session, self.now),
            note=session.note,
            items=main.items,
            done=main.done,
            failed=main.failed,
            tracks=tuple(self._track(track) for track in self._tracks()),
            latency_p50_s=p50,
            latency_p95_s=p95,
            errors=tuple(Trouble(f["key"], f["stage"], f["reason"], f["done_at"]) for f in failures),
            alerts=tuple(
                dict(alert)
                for alert in sessions.list_alerts(connection, session.id)
                if alert["ended_at"] is None
            ),
            vitals={**session.vitals, **self._transfer_speed()},
            latest=self._latest(final, latest),
            kinds=kinds,
        )

    def _kinds(self) -> dict[str, KindCount]:
        """Count the items of each kind, the one that people look at first."""
        failed = statistics.count_failed_items(self.connection, self.session.id)
        main = self.workflow.main_kind
        return {
            kind: KindCount(
                self.kinds.get(kind, 0),
                self._count_done(final_stages(self.workflow, self.enabled, kind=kind)),
                failed.get(kind, 0),
            )
            for kind in dict.fromkeys((main, *self.workflow.kinds))
        }

    def _tracks(self) -> list[TrackRow]:
        rows = {track.name: track for track in sessions.list_tracks(self.connection, self.session.id)}
        return [rows[name] for name in self.workflow.tracks if name in rows]

    def _count_done(self, final: tuple[str, ...]) -> int:
        if final not in self._done:
            self._done[final] = statistics.count_done(
                self.connection, self.session.id, final, of_groups=self._of_groups(final)
            )
        return self._done[final]

    def _of_groups(self, stages: Sequence[str]) -> bool:
        return self.workflow.group_of(self.workflow.item_kind[stages[0]]) is not None

    def _transfer_speed(self) -> dict[str, float]:
        """What came in during the last minute, MB/s, for kinds of sessions that transfer files."""
        stage, metric = TRANSFERRED
        if stage not in self.workflow.by_name:
            return {}
        since = self.now - TRANSFER_WINDOW_S
        total = statistics.sum_since(self.connection, self.session.id, stage, metric, since)
        return {"transfer_mb_per_s": total / TRANSFER_WINDOW_S / 1e6}

    def _latest(self, final: Sequence[str], count: int) -> tuple[BrowsedItem, ...]:
        """Give the items that were finished last, the latest first."""
        ids = statistics.last_done(self.connection, self.session.id, final[-1], 2 * count)
        ended = [(item.done_at(final), item) for item in items_by_id(self.connection, ids)]
        whole = [(at, item) for at, item in ended if at is not None]
        return tuple(item for _, item in sorted(whole, key=lambda pair: pair[0], reverse=True)[:count])

    def _track(self, track: TrackRow) -> TrackProgress:
        stages = [stage.name for stage in self.workflow.stages if stage.track == track.name]
        active = [name for name in stages if name in self.enabled] or stages
        kinds = [self.workflow.item_kind[name] for name in active]
        # A track that does nothing on what people look at is counted in what it does.
        kind = self.workflow.main_kind if self.workflow.main_kind in kinds else kinds[-1]
        final = final_stages(self.workflow, active, track.name, kind)
        counts = {name: self._counts(name) for name in stages}
        done = self._count_done(final)
        queued, running = (sum(counts[n][state] for n in active) for state in ("queued", "running"))
        failed = sum(counts[name]["failed"] for name in active)
        last = counts[final[-1]]
        skipped = max(0, last["skipped"] - (failed - last["failed"]))
        backlog = max(0, sum(last.values()) - done - failed - skipped)
        rate = min(self._rate(name) for name in final)
        p50, p95 = self._latency(final)
        return TrackProgress(
            name=track.name,
            state=self._track_state(track, backlog),
            waiting=max(0, backlog - queued - running),
            queued=queued,
            running=running,
            done=done,
            failed=failed,
            skipped=skipped,
            backlog=backlog,
            rate_per_hour=rate,
            eta_s=backlog / rate * 3600 if rate > 0 else (0.0 if backlog == 0 else None),
            latency_p50_s=p50,
            latency_p95_s=p95,
            paused=track.paused,
            revision=track.revision,
            stages=counts,
        )

    def _track_state(self, track: TrackRow, backlog: int) -> str:
        """Sum up a track; where its session does not run, it does nothing either."""
        status = status_of(self.session, self.now)
        if status not in ("running", "idle", "closed"):
            return status
        if track.desired == "stopped":
            return "stopped"
        if track.paused:
            return "paused"
        return "running" if backlog else "idle"

    def _counts(self, stage: str) -> dict[str, int]:
        counts = {state: self.tasks.get((stage, state), 0) for state in STATES}
        unborn = self.kinds.get(self.workflow.item_kind[stage], 0) - sum(counts.values())
        counts["waiting"] += max(0, unborn)
        return counts

    def _rate(self, stage: str) -> float:
        """Items per hour over the last minutes; a session that has ended has none."""
        if status_of(self.session, self.now) not in ("running", "idle", "closed"):
            return 0.0
        since = self.now - RATE_WINDOW_S
        count, first = statistics.done_since(self.connection, self.session.id, stage, since)
        if first is None:
            return 0.0
        return count / max(self.now - max(first, since), 1.0) * 3600

    def _latency(self, stages: Sequence[str]) -> tuple[float | None, float | None]:
        of_groups = self._of_groups(stages)
        return percentiles(
            statistics.latencies(self.connection, self.session.id, stages, of_groups=of_groups)
        )


def percentiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Give the median and the 95th percentile, or None for no values."""
    if not values:
        return None, None
    middle, high = np.percentile(values, [50, 95])
    return float(middle), float(high)
