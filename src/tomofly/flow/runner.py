"""The far end of the executor: one task, run in a worker process."""

import contextlib
import errno
import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomofly.formats.on_disk import sync
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
    """All that a worker needs to run one task: it asks nobody anything.

    ``open_name`` is the name that the settings of this order give to the open state of a fold.
    """

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
    open_name: str = ""
    followed: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    @property
    def partial(self) -> Path:
        """Where partial files stay for the next attempt at the same result of the same item."""
        return self.folder / ".work" / "partial" / f"{self.item_id}-{self.wanted}"

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
            # Its folder says that the task was begun, should the worker not live to report.
            order.work.mkdir(parents=True, exist_ok=True)
            outcome = _secured(order, _call(order, log), log)
            if not outcome.products:
                # Spares the conductor the work; a folder that is not empty is left to it.
                with contextlib.suppress(OSError):
                    order.work.rmdir()
        except (Exception, SystemExit) as error:  # the rim: everything becomes a reason on this item
            storage = is_storage_trouble(error, order.folder)
            permanent = isinstance(error, BadInput) and not storage
            text = str(error) if permanent else "".join(traceback.format_exception(error))
            log.error("%s", text)  # noqa: TRY400 - a plain sentence where one says it all
            return TaskReport(
                order, started, time.time(), worker, reason=_reason(error), permanent=permanent,
                storage=storage,
            )  # fmt: skip
    return TaskReport(order, started, time.time(), worker, outcome=outcome)


def _call(order: TaskOrder, log: logging.Logger) -> Outcome:
    stage = order.stage
    if "unusable" in order.item.attributes:
        raise BadInput(str(order.item.attributes["unusable"]))
    params = stage.params.model_validate(order.params)
    context = StageContext(
        stage=stage.name,
        key=order.item.key,
        work=order.work,
        partial=order.partial,
        shared=order.shared,
        inputs=order.inputs,
        log=log,
        # A stage that says so computes on several cores, though its worker has but one: tasks of a series
        # come one after another, and somebody waits for the last.
        threads=max(order.threads, stage.resources.cores),
        checkpoint=order.checkpoint,
        final=order.mode == "final",
        provisional=order.mode == "provisional",
        followed=order.followed,
        placed=order.folder / stage.name,
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
            sync(path)
    # Plain numbers and text: a database takes no numpy types and no character that it cannot write.
    numbers = {name: float(value) for name, value in outcome.metrics.items()}
    metrics = {name: value for name, value in numbers.items() if math.isfinite(value)}
    flags = [Flag(flag.code, writable_text(flag.message)) for flag in outcome.flags]
    bad = ", ".join(sorted(numbers.keys() - metrics.keys()))
    if bad:
        log.warning("not finite, left out: %s", bad)
        flags.append(Flag("metric_not_finite", f"No value for {bad}"))
    return Outcome(outcome.products, metrics, tuple(flags), outcome.content, outcome.discard)


def writable_text(text: str) -> str:
    """Replace what no database can hold: null characters, and bytes of file names that are no UTF-8."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def is_storage_trouble(error: BaseException, folder: Path) -> bool:
    """Say whether the disk of the session is at fault, also where another error was made of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and _is_of_the_disk(cause, folder):
            return True
        cause = cause.__cause__
    return False


def _is_of_the_disk(error: OSError, folder: Path) -> bool:
    if error.errno in FULL_OR_READ_ONLY:
        return True
    if error.errno not in OUT_OF_REACH or not isinstance(error.filename, str | Path):
        return False
    # A link that leads out of the session tells of the source's disk, which is the item's own problem.
    return Path(error.filename).resolve().is_relative_to(folder.resolve())


def _reason(error: BaseException) -> str:
    if isinstance(error, TomoflyError):
        return writable_text(str(error))
    if isinstance(error, OSError):
        text = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        return writable_text(text)
    if isinstance(error, MemoryError):
        return "Not enough memory. Give the session fewer workers (resources.workers)."
    return writable_text(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _item_log(path: Path) -> Iterator[logging.Logger]:
    """Give a logger that writes to the item's own file, which appears with its first line."""
    logger = logging.Logger(path.stem, logging.INFO)
    handler = _LateFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        # Closing writes what is left: on a full disk that fails, and must not hide the task's own report.
        with contextlib.suppress(OSError):
            handler.close()


class _LateFile(logging.FileHandler):
    """A log file whose folders are made when the first line is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8", delay=True)

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a disk that takes none is reported by the task itself."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not fail the task: the reason is in the database as well."""
