"""Committing results: files into their place first, then the database, then what is no longer needed."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, RowMapping

from tomofly.flow.moves import Move, Moves, moves_of
from tomofly.flow.ownership import refuse_foreign_files
from tomofly.flow.runner import TaskOrder, TaskReport, is_storage_trouble, writable_text
from tomofly.flow.superseded import keep_earlier
from tomofly.formats.on_disk import sync
from tomofly.model import Flag, FoldStage, fingerprint
from tomofly.store import dispatch, intake, members, planning, results
from tomofly.store.dispatch import Failed
from tomofly.store.results import Done, StoredProduct

if TYPE_CHECKING:
    from tomofly.flow.engine import Scope

MAX_LOSSES = 4
"""How often a worker may die with a task before that is given up: a neighbour may have been the cause."""

log = structlog.get_logger(__name__)


class Committer:
    """Turns reports into results that stay."""

    def __init__(self, scope: "Scope") -> None:
        self._scope = scope
        self._moves = Moves(scope.folder)
        self._under_way: dict[int, Move] = {}

    def still_wanted(self, connection: Connection, reports: Sequence[TaskReport]) -> list[TaskReport]:
        """Keep the reports of what is still asked for: settings or inputs may have changed meanwhile.

        A report whose files another item owns comes back as a failure, before any file is moved.
        """
        rows = dispatch.wanted_now(connection, [report.order.task_id for report in reports])
        wanted = [report for report in reports if _is_asked_for(report, rows)]
        return refuse_foreign_files(
            connection, self._scope.session_id, [(report, self._final_paths(report)) for report in wanted]
        )

    def _final_paths(self, report: TaskReport) -> list[str]:
        return [str(final.relative_to(self._scope.folder)) for _, _, final in self._places(report)]

    def place_files(self, reports: Sequence[TaskReport]) -> list[TaskReport]:
        """Move the products of finished tasks to their final names; a failure to do so is a failed task."""
        placed = []
        folders: set[Path] = set()
        for report in reports:
            try:
                flags = self._place(report, folders)
                placed.append(_flagged(report, flags))
            except OSError as error:
                reason = writable_text(f"The product could not be put in place: {error}")
                storage = is_storage_trouble(error, self._scope.folder)
                placed.append(replace(report, outcome=None, reason=reason, storage=storage))
        for folder in folders:
            sync(folder)
        return placed

    def _place(self, report: TaskReport, folders: set[Path]) -> list[Flag]:
        """Move products to their final names, in ``folders``; say what of earlier data was put aside."""
        aside: list[Path] = []
        for _, path, final in self._places(report):
            final.parent.mkdir(parents=True, exist_ok=True)
            if not self.may_delete(report.order.stage.name):
                aside += keep_earlier(path, final)
            path.replace(final)
            folders.add(final.parent)
        self._note_move(report)
        names = ", ".join(str(path.relative_to(self._scope.folder)) for path in aside)
        message = f"Different data came under the same name earlier; they are kept in {names}"
        return [Flag("superseded_data_kept", message)] if aside else []

    def _note_move(self, report: TaskReport) -> None:
        order = report.order
        if report.outcome is not None and report.outcome.discard:
            finals = [final for _, _, final in self._places(report)]
            move = moves_of(finals, order.task_id, order.wanted, report.outcome.discard)
            self._moves.note(move)
            self._under_way[order.task_id] = move

    def _places(self, report: TaskReport) -> Iterator[tuple[str, Path, Path]]:
        """Give the name of each product, where its task wrote it, and where it belongs."""
        order = report.order
        folder = self._scope.folder / order.stage.name
        for name, path in report.outcome.products.items() if report.outcome is not None else ():
            below = path.relative_to(order.work)
            is_checkpoint = isinstance(order.stage, FoldStage) and name == "checkpoint"
            yield name, path, folder / _checkpoint_folder(order) / below if is_checkpoint else folder / below

    def write(
        self,
        connection: Connection,
        reports: Sequence[TaskReport],
        now: float,
    ) -> list[str]:
        """Write reports down; give the relative paths of earlier products that belong to nothing now."""
        storage = [r.order.task_id for r in reports if r.storage]
        dispatch.requeue(connection, storage, "waits for the disk")
        done = [self._done(report) for report in reports if report.outcome is not None]
        obsolete = self._obsolete(connection, done)
        dispatch.commit_done(connection, self._scope.session_id, done)
        failed = [_failed(r, now) for r in reports if r.outcome is None and not r.storage]
        written = dispatch.commit_failed(connection, failed, MAX_LOSSES, self._retries())
        obsolete += self._forget(connection, written.void)
        self._consume(connection, [r for r in reports if r.outcome is not None])
        self._tell_followers(connection, reports)
        moves: list[tuple[int, str, str, str | None]] = [
            (d.item_id, d.stage, "done", d.identity) for d in done
        ]
        moves += [(f.item_id, f.stage, "failed", None) for f in written.given_up]
        self.tell_parents(connection, moves)
        intake.touch_items(connection, [r.order.item_id for r in reports])
        return obsolete

    def _obsolete(self, connection: Connection, done: Sequence[Done]) -> list[str]:
        """Give the files that the new results do not have; of what may be an only copy, links alone."""
        earlier = results.product_paths(connection, [d.task_id for d in done if self.may_delete(d.stage)])
        raw = results.product_paths(connection, [d.task_id for d in done if not self.may_delete(d.stage)])
        links = [path for path in raw if (self._scope.folder / path).is_symlink()]
        present = {product.path for d in done for product in d.products}
        return [path for path in (*earlier, *links) if path not in present]

    def _forget(self, connection: Connection, void: Sequence[Failed]) -> list[str]:
        """Forget what failed tasks once left; give the paths of the files that may go with it."""
        kept = [f.task_id for f in void if not self.may_delete(f.stage)]
        results.forget_outcomes(connection, kept)
        gone = [f.task_id for f in void if self.may_delete(f.stage)]
        paths = results.forget_outcomes(connection, gone)
        members.forget_checkpoints(connection, gone)
        return paths

    def may_delete(self, stage: str) -> bool:
        """Say whether files of a stage can be made again: what was moved here may be the only copy."""
        return self._scope.workflow[stage].resources.slot != "transfer"

    def _retries(self) -> dict[str, int]:
        return {stage.name: stage.retries for stage in self._scope.workflow.stages}

    def tell_parents(self, connection: Connection, moves: Sequence[tuple[int, str, str, str | None]]) -> None:
        """Let groups and folds know of (item, stage, state, identity) changes of their members."""
        intake.touch_items(connection, members.update_members(connection, self._gathered(moves)))

    def restore_members(
        self, connection: Connection, moves: Sequence[tuple[int, str, str, str | None]]
    ) -> None:
        """Tell groups and folds that wait for results which stand after all."""
        waiting = members.waiting_members(connection, self._gathered(moves))
        intake.touch_items(connection, members.update_members(connection, waiting))

    def _gathered(
        self, moves: Sequence[tuple[int, str, str, str | None]]
    ) -> list[tuple[int, str, str, str | None]]:
        gathering = self._scope.workflow.gathering
        return [
            (item, gather.name, state, identity)
            for item, stage, state, identity in moves
            for gather in gathering[stage]
        ]

    def _done(self, report: TaskReport) -> Done:
        order, outcome = report.order, report.outcome
        assert outcome is not None  # noqa: S101 - the caller sorts
        products = [
            StoredProduct(name, str(final.relative_to(self._scope.folder)), final.stat().st_size)
            for name, _, final in self._places(report)
        ]
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
            checkpoint=order.open_name or None,
        )

    def _consume(self, connection: Connection, reports: Iterable[TaskReport]) -> None:
        for report in reports:
            order = report.order
            if isinstance(order.stage, FoldStage):
                restart = order.mode in ("restart", "final")
                members.consume_elements(connection, order.item_id, order.consumed, restart=restart)

    def _tell_followers(self, connection: Connection, reports: Iterable[TaskReport]) -> None:
        """Note what folds say now, and have those who follow them looked at where that is new."""
        for report in reports:
            kinds = self._scope.workflow.followed.get(report.order.stage.name)
            if kinds and report.outcome is not None:
                content = report.outcome.content
                # A fold that says nothing in so many words says the same as one that was never made.
                words = report.order.wanted if content is None else content
                if planning.fold_says(connection, report.order.item_id, words):
                    planning.touch_kinds(connection, self._scope.session_id, kinds)

    def clean_up(self, reports: Sequence[TaskReport], obsolete: Sequence[str]) -> None:
        """Delete what the committed results made superfluous: old products and moved sources."""
        for path in obsolete:
            discard_file(self._scope.folder / path)
        for report in reports:
            move = self._under_way.pop(report.order.task_id, None)
            if move is not None and report.outcome is not None:
                self._moves.finish(move)

    def finish_moves(self, connection: Connection) -> None:
        """Delete the sources of results that an earlier conductor committed, and forget its other notes."""
        noted = list(self._moves.noted())
        for start in range(0, len(noted), 500):
            part = noted[start : start + 500]
            rows = dispatch.wanted_now(connection, [move.task_id for move in part])
            for move in part:
                row = rows.get(move.task_id)
                if row is not None and (row["state"], row["fingerprint"]) == ("done", move.wanted):
                    self._moves.finish(move)
                else:
                    self._moves.forget(move)

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
    order = report.order
    same = row["item_id"] == order.item_id and row["stage"] == order.stage.name
    return bool(same and row["wanted"] == order.wanted and row["state"] == "running")


def _failed(report: TaskReport, now: float) -> Failed:
    order = report.order
    return Failed(
        order.task_id, order.item_id, order.stage.name, order.wanted, report.reason, report.permanent,
        report.lost, now, report.worker, order.work.exists(),
    )  # fmt: skip


def _flagged(report: TaskReport, flags: Sequence[Flag]) -> TaskReport:
    if report.outcome is None or not flags:
        return report
    return replace(report, outcome=replace(report.outcome, flags=(*report.outcome.flags, *flags)))


def refused(report: TaskReport, error: Exception) -> TaskReport:
    """Make a failure of a report that the database does not take."""
    reason = writable_text(f"The result could not be written down: {getattr(error, 'orig', None) or error}")
    return replace(report, outcome=None, reason=reason, permanent=True)


def discard_file(path: Path) -> None:
    """Delete a file that nothing needs any more; one that cannot be deleted stays, and is told of."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a file that is no longer needed could not be deleted", path=str(path), error=str(error))


def _checkpoint_folder(order: TaskOrder) -> Path:
    """Give every checkpoint a place of its own.

    Written over the one that the database knows, it would be taken for it after a crash between the two,
    and its elements would count twice.
    """
    parts = (order.wanted, order.mode)
    name = fingerprint(*parts) if order.mode == "final" else fingerprint(*parts, order.consumed)
    return Path("checkpoints", name[:12])
