"""Committing results: files into their place first, then the database, then what is no longer needed."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, RowMapping

from tomofly.flow.planner import expected_fingerprint
from tomofly.flow.runner import TaskReport
from tomofly.model import FoldStage, Settings, fingerprint
from tomofly.store import dispatch, intake
from tomofly.store.dispatch import Done, Failed, StoredProduct

if TYPE_CHECKING:
    from tomofly.flow.engine import Scope

MAX_LOSSES = 4
"""How often a task may lose its worker before it is given up: a neighbour may have been the cause."""

log = structlog.get_logger(__name__)


class Committer:
    """Turns reports into results that stay."""

    def __init__(self, scope: "Scope") -> None:
        self._scope = scope

    def still_wanted(self, connection: Connection, reports: Sequence[TaskReport]) -> list[TaskReport]:
        """Keep the reports of what is still asked for: settings or inputs may have changed meanwhile."""
        rows = dispatch.wanted_now(connection, [report.order.task_id for report in reports])
        return [report for report in reports if _is_asked_for(report, rows)]

    def place_files(self, reports: Sequence[TaskReport]) -> list[TaskReport]:
        """Move the products of finished tasks to their final names; a failure to do so is a failed task."""
        placed = []
        folders: set[Path] = set()
        for report in reports:
            try:
                folders |= self._place(report)
                placed.append(report)
            except OSError as error:
                reason = f"The product could not be put in place: {error}"
                placed.append(replace(report, outcome=None, reason=reason, storage=True))
        for folder in folders:
            _fsync_folder(folder)
        return placed

    def _place(self, report: TaskReport) -> set[Path]:
        if report.outcome is None:
            return set()
        folders = set()
        for path in report.outcome.products.values():
            final = self._final(report, path)
            final.parent.mkdir(parents=True, exist_ok=True)
            # A product that is in place already was moved by a commit that the database did not see.
            if not final.exists() or path.exists() or path.is_symlink():
                path.replace(final)
            folders.add(final.parent)
        return folders

    def _final(self, report: TaskReport, path: Path) -> Path:
        return self._scope.folder / report.order.stage.name / path.relative_to(report.order.work)

    def write(
        self,
        connection: Connection,
        reports: Sequence[TaskReport],
        settings: Mapping[str, Settings],
        now: float,
    ) -> list[str]:
        """Write reports down; give the relative paths of earlier products that belong to nothing now."""
        storage = [r.order.task_id for r in reports if r.storage]
        dispatch.requeue(connection, storage, "waits for the disk")
        done = [self._done(report, settings) for report in reports if report.outcome is not None]
        obsolete = _obsolete(connection, done)
        dispatch.commit_done(connection, self._scope.session_id, done)
        failed = [_failed(r, now) for r in reports if r.outcome is None and not r.storage]
        given_up = dispatch.commit_failed(connection, failed, MAX_LOSSES, self._retries())
        self._consume(connection, [r for r in reports if r.outcome is not None])
        moves: list[tuple[int, str, str, str | None]] = [
            (d.item_id, d.stage, "done", d.identity) for d in done
        ]
        moves += [(f.item_id, f.stage, "failed", None) for f in given_up]
        self.tell_parents(connection, moves)
        intake.touch_items(connection, [r.order.item_id for r in reports])
        return obsolete

    def _retries(self) -> dict[str, int]:
        return {stage.name: stage.retries for stage in self._scope.workflow.stages}

    def tell_parents(self, connection: Connection, moves: Sequence[tuple[int, str, str, str | None]]) -> None:
        """Let groups and folds know of (item, stage, state, identity) changes of their members."""
        gathering = self._scope.workflow.gathering
        rows = [
            (item, gather.name, state, identity)
            for item, stage, state, identity in moves
            for gather in gathering[stage]
        ]
        intake.touch_items(connection, dispatch.update_members(connection, rows))

    def _done(self, report: TaskReport, settings: Mapping[str, Settings]) -> Done:
        order, outcome = report.order, report.outcome
        assert outcome is not None  # noqa: S101 - the caller sorts
        products = [
            StoredProduct(name, str(self._final(report, path).relative_to(self._scope.folder)), size)
            for name, path, size in _sizes(report, self._final)
        ]
        open_fingerprint = None
        if isinstance(order.stage, FoldStage):
            open_fingerprint = expected_fingerprint(order.stage, settings[order.stage.track], "open")
        return Done(
            task_id=order.task_id,
            item_id=order.item_id,
            stage=order.stage.name,
            fingerprint=order.wanted,
            identity=fingerprint(order.stage.name, outcome.content) if outcome.content else order.wanted,
            started_at=report.started_at,
            done_at=report.done_at,
            worker=report.worker,
            products=products,
            metrics=outcome.metrics,
            flags=[(flag.code, flag.message) for flag in outcome.flags],
            checkpoint=open_fingerprint,
        )

    def _consume(self, connection: Connection, reports: Iterable[TaskReport]) -> None:
        for report in reports:
            order = report.order
            if isinstance(order.stage, FoldStage):
                restart = order.mode in ("restart", "final")
                dispatch.consume_elements(connection, order.item_id, order.consumed, restart=restart)

    def clean_up(self, reports: Sequence[TaskReport], obsolete: Sequence[str]) -> None:
        """Delete what the committed results made superfluous: old products and moved sources."""
        for path in obsolete:
            (self._scope.folder / path).unlink(missing_ok=True)
        for report in reports:
            for source in report.outcome.discard if report.outcome is not None else ():
                _discard(source)

    def remove_work(self, reports: Sequence[TaskReport]) -> None:
        """Remove the work folders of attempts that have ended, and partial files that were completed."""
        for report in reports:
            if report.order.work.exists():
                shutil.rmtree(report.order.work, ignore_errors=True)
            if report.outcome is not None and report.order.partial.exists():
                shutil.rmtree(report.order.partial, ignore_errors=True)


def _is_asked_for(report: TaskReport, rows: Mapping[int, RowMapping]) -> bool:
    row = rows.get(report.order.task_id)
    if row is None:
        return False
    return bool(row["wanted"] == report.order.wanted and row["state"] == "running")


def _sizes(report: TaskReport, final: Callable[[TaskReport, Path], Path]) -> list[tuple[str, Path, int]]:
    assert report.outcome is not None  # noqa: S101 - the caller sorts
    return [
        (name, path, final(report, path).stat().st_size) for name, path in report.outcome.products.items()
    ]


def _failed(report: TaskReport, now: float) -> Failed:
    order = report.order
    return Failed(
        order.task_id, order.item_id, order.stage.name, order.wanted, report.reason, report.permanent,
        report.lost, now, report.worker,
    )  # fmt: skip


def _obsolete(connection: Connection, done: Sequence[Done]) -> list[str]:
    earlier = dispatch.product_paths(connection, [d.task_id for d in done])
    present = {product.path for d in done for product in d.products}
    return [path for path in earlier if path not in present]


def _discard(source: Path) -> None:
    try:
        source.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a moved source file could not be deleted", path=str(source), error=str(error))


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
