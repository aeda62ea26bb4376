"""Dask as the executor: an embedded cluster by default, a running scheduler by its address."""

import os
import queue
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import dask
import psutil
from dask.utils import key_split
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.scheduler import DEFAULT_EXTENSIONS

from tomofly.flow.runner import TaskOrder, TaskReport, is_storage_trouble, run_task, writable_text
from tomofly.model import ResourceParams, TomoflyError

CONNECT_TIMEOUT_S = 20
FORGET_EVERY = 1000
SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}

SCHEDULER_EXTENSIONS = {name: made for name, made in DEFAULT_EXTENSIONS.items() if name != "spans"}
"""Spans are kept for ever: one for each time that the queue was empty, all night."""


class Executor(Protocol):
    """What the conductor needs of an executor."""

    reports: "queue.SimpleQueue[TaskReport]"

    def slots(self) -> dict[str, int]:
        """How many tasks of each pool can run at the same time."""

    def submit(self, order: TaskOrder) -> None:
        """Have a task run; its report will appear in ``reports``."""

    def close(self) -> None:
        """Stop everything that was started."""


class DaskExecutor:
    """Tasks as Dask futures; computing and moving files are Dask resources of their own."""

    def __init__(self, params: ResourceParams, scratch: Path) -> None:
        self.reports: queue.SimpleQueue[TaskReport] = queue.SimpleQueue()
        self._params = params
        self._scratch = scratch
        self._orders: dict[Any, TaskOrder] = {}
        self._cluster: LocalCluster | None = None
        self._connected: Client | None = None
        workers = worker_count(params)
        self.threads = 1 if params.scheduler else max(1, len(os.sched_getaffinity(0)) // workers)

    @property
    def _client(self) -> Client:
        """The connection to the scheduler; workers are started when there is something for them to do."""
        if self._connected is None:
            _configure()
            if self._params.scheduler:
                self._connected = _connect(self._params.scheduler)
            else:
                with _interrupts_held_back():
                    self._cluster = _local_cluster(self._params, self._scratch)
                self._connected = Client(self._cluster, set_as_default=False)
        return self._connected

    def slots(self) -> dict[str, int]:
        """How many tasks of each pool can run at the same time."""
        if not self._params.scheduler:
            workers = worker_count(self._params)
            return {"compute": workers, "transfer": max(2, workers)}
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return {"compute": max(1, sum(worker["nthreads"] for worker in found)), "transfer": 2}

    def submit(self, order: TaskOrder) -> None:
        """Have a task run; its report will appear in ``reports``."""
        # By the first part Dask counts tasks together; a name for each would make it remember every one.
        key = (order.stage.name, f"{order.task_id}-{uuid.uuid4().hex[:8]}")
        self._orders[key] = order
        if order.task_id % FORGET_EVERY == 0:
            key_split.cache_clear()  # which would hold on to 100 000 keys
        options: dict[str, Any] = {}
        if not self._params.scheduler:
            options["resources"] = {order.stage.resources.slot: 1}
        future = self._client.submit(run_task, order, key=key, pure=False, retries=0, **options)
        future.add_done_callback(self._collect)

    def _collect(self, future: Future[TaskReport]) -> None:
        order = self._orders.pop(future.key, None)
        if order is None:
            return
        if future.status == "finished":
            self.reports.put(future.result())
        else:
            self.reports.put(_loss(order, future))
        future.release()

    def close(self) -> None:
        """Stop the workers, or leave those of another scheduler."""
        self._orders.clear()
        if self._connected is not None:
            self._connected.close(timeout=5)
        if self._cluster is not None:
            self._cluster.close(timeout=10)


def worker_count(params: ResourceParams) -> int:
    """Give the number of worker processes that the settings mean on this machine."""
    return params.workers or len(os.sched_getaffinity(0))


def _loss(order: TaskOrder, future: Future[TaskReport]) -> TaskReport:
    error = future.exception() if future.status == "error" else None
    if error is not None and not isinstance(error, KilledWorker):
        reason = writable_text(f"The task could not be handed over: {error!r}")
        storage = is_storage_trouble(error, order.folder)
        return TaskReport(order, 0.0, 0.0, "", reason=reason, storage=storage)
    reason = "The worker process died, killed by the system or out of memory"
    return TaskReport(order, 0.0, 0.0, "", reason=reason, lost=True)


def _configure() -> None:
    dask.config.set(
        {
            # A task that kills its worker is counted and retried by the session, where it can be seen.
            "distributed.scheduler.allowed-failures": 0,
            "distributed.worker.daemon": True,
            "distributed.admin.log-length": 0,
            "distributed.diagnostics.nvml": False,
            # Without Dask's MALLOC_TRIM_THRESHOLD_, with which every larger array is given back to the
            # system at once and asked for again page by page: that doubles the time of stages on images.
            "distributed.nanny.pre-spawn-environ": SINGLE_THREADED,
        }
    )


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes and threads that Ctrl-C does not reach: the conductor decides when they end.

    A blocked signal stays blocked in what is started meanwhile, and in workers started again later.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _local_cluster(params: ResourceParams, scratch: Path) -> LocalCluster:
    workers = worker_count(params)
    total = params.memory_gb * 1e9 or 0.8 * psutil.virtual_memory().total
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=3,
        processes=True,
        host="127.0.0.1",
        scheduler_port=0,
        dashboard_address="127.0.0.1:0",
        memory_limit=int(total / workers),
        local_directory=str(scratch),
        resources={"compute": 1, "transfer": 2},
        env=SINGLE_THREADED,
        scheduler_kwargs={"extensions": SCHEDULER_EXTENSIONS},
        extensions={},
        silence_logs="CRITICAL",
    )


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except OSError as error:
        raise TomoflyError(
            f"No Dask scheduler answers at {address}",
            "Start one with `dask scheduler`, or leave resources.scheduler empty",
        ) from error
