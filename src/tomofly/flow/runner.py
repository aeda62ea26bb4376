"""The far end of the executor: one task, run in a worker process."""

import errno
import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomofly.model import (
    BadInput,
    Flag,
    FoldStage,
    GroupStage,
    ItemRef,
    MapStage,
    Member,
    Outcome,
    Result,
    Stage,
    StageContext,
    TomoflyError,
)

FULL_OR_READ_ONLY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Troubles of the disk, which are no fault of the item that met them."""

OUT_OF_REACH = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
"""The same, where it is the session's own folder that they concern."""


@dataclass(frozen=True)
class TaskOrder:
    """All that a worker needs to run one task: it asks nobody anything."""

    task_id: int
    item_id: int
    stage: Stage
    wanted: str
    item: ItemRef
    params: Mapping[str, Any]
    shared: Mapping[str, Any]
    folder: Path
    work: Path
    inputs: Mapping[str, Result] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    consumed: tuple[tuple[int, str], ...] = ()
    mode: str = ""
    checkpoint: Path | None = None
    threads: int = 1

    @property
    def log_file(self) -> Path:
        """Where this task's log goes."""
        return self.folder / "logs" / self.stage.name / f"{self.item.key}.log"


@dataclass(frozen=True)
class TaskReport:
    """What became of a task. ``lost``: the worker died. ``storage``: the disk was at fault."""

    order: TaskOrder
    started_at: float
    done_at: float
    worker: str
    outcome: Outcome | None = None
    reason: str = ""
    permanent: bool = False
    lost: bool = False
    storage: bool = False


def run_task(order: TaskOrder) -> TaskReport:
    """Run one task; whatever happens in it becomes a report."""
    started = time.time()
    worker = f"{socket.gethostname()}:{os.getpid()}"
    with _item_log(order.log_file) as log:
        try:
            outcome = _secured(order, _call(order, log), log)
        except BadInput as error:
            log.error("%s", error)  # noqa: TRY400 - a plain sentence, not a traceback
            return TaskReport(order, started, time.time(), worker, reason=str(error), permanent=True)
        except Exception as error:  # the rim: everything becomes a reason on this item
            log.error("%s", "".join(traceback.format_exception(error)))  # noqa: TRY400
            storage = _is_storage_trouble(error, order.folder)
            return TaskReport(order, started, time.time(), worker, reason=_reason(error), storage=storage)
    return TaskReport(order, started, time.time(), worker, outcome=outcome)


def _call(order: TaskOrder, log: logging.Logger) -> Outcome:
    stage = order.stage
    params = stage.params.model_validate(order.params)
    context = StageContext(
        stage=stage.name,
        key=order.item.key,
        work=order.work,
        partial=order.folder / ".work" / "partial" / order.wanted,
        shared=order.shared,
        inputs=order.inputs,
        log=log,
        threads=order.threads,
        checkpoint=order.checkpoint,
        final=order.mode == "final",
    )
    if isinstance(stage, MapStage):
        return stage.run(order.item, params, context)
    if isinstance(stage, GroupStage | FoldStage):
        return stage.run(order.members, params, context)
    raise TypeError(f"stage '{stage.name}' has no function to run")


def _secured(order: TaskOrder, outcome: Outcome, log: logging.Logger) -> Outcome:
    """Bring the products to the disk, and drop numbers that are none, visibly."""
    for name, path in outcome.products.items():
        if not path.is_relative_to(order.work):
            raise ValueError(
                f"the product '{name}' of {order.stage.name} lies outside its work folder: {path}"
            )
        if not path.is_symlink():
            _fsync(path)
    bad = sorted(name for name, value in outcome.metrics.items() if not math.isfinite(value))
    if not bad:
        return outcome
    log.warning("not finite, left out: %s", ", ".join(bad))
    metrics = {name: value for name, value in outcome.metrics.items() if name not in bad}
    flag = Flag("metric_not_finite", f"No value for {', '.join(bad)}")
    return Outcome(outcome.products, metrics, (*outcome.flags, flag), outcome.content, outcome.discard)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_storage_trouble(error: Exception, folder: Path) -> bool:
    if not isinstance(error, OSError):
        return False
    ours = isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(folder)
    return error.errno in FULL_OR_READ_ONLY or (ours and error.errno in OUT_OF_REACH)


def _reason(error: Exception) -> str:
    if isinstance(error, TomoflyError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    if isinstance(error, MemoryError):
        return "Not enough memory. Give the session fewer workers (resources.workers)."
    return f"{type(error).__name__}: {error}"


@contextmanager
def _item_log(path: Path) -> Iterator[logging.Logger]:
    """Give a logger that writes to the item's own file, which appears with its first line."""
    logger = logging.Logger(path.stem, logging.INFO)
    handler = _LateFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


class _LateFile(logging.FileHandler):
    """A log file whose folders are made when the first line is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8", delay=True)

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not fail the task: the reason is in the database as well."""
