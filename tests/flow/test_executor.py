"""Tasks on real Dask workers: what comes back, what is lost, and what is left behind."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from tomofly_example import NUMBER, NumberParams

from tomofly.flow.executor import DaskExecutor, _loss
from tomofly.flow.runner import TaskOrder, TaskReport
from tomofly.model import ItemRef, ResourceParams, TomoflyError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PATIENCE_S = 90


def _order(folder: Path, number: int, text: str, pause_s: float = 0.0) -> TaskOrder:
    source = folder / f"{number}.note"
    source.write_text(text)
    params = NumberParams(pause_s=pause_s).model_dump()
    return TaskOrder(
        number, number, NUMBER, f"wanted{number}", ItemRef(str(number), "note", source), params, {},
        folder / "session", folder / "session" / ".work" / f"{number}-x",
    )  # fmt: skip


def _reports(executor: DaskExecutor, count: int) -> dict[int, TaskReport]:
    reports = [executor.reports.get(timeout=PATIENCE_S) for _ in range(count)]
    return {report.order.task_id: report for report in reports}


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[DaskExecutor]:
    made = DaskExecutor(ResourceParams(workers=2), tmp_path / "scratch")
    yield made
    made.close()


def test_tasks_run_on_workers_that_survive_a_killed_neighbour(executor: DaskExecutor, tmp_path: Path) -> None:
    executor.submit(_order(tmp_path, 1, "13"))
    first = _reports(executor, 1)[1]
    assert first.outcome is not None and first.outcome.metrics == {"value": 13.0}
    assert int(first.worker.rpartition(":")[2]) != os.getpid()
    executor.submit(_order(tmp_path, 2, "kill"))
    killed = _reports(executor, 1)[2]
    assert killed.lost and killed.outcome is None and "worker process died" in killed.reason
    assert killed.order.work.exists(), "it is seen to have been begun"
    executor.submit(_order(tmp_path, 3, "17"))
    assert _reports(executor, 1)[3].outcome is not None


def test_nothing_is_kept_of_tasks_that_came_one_at_a_time(executor: DaskExecutor, tmp_path: Path) -> None:
    for number in range(12):
        executor.submit(_order(tmp_path, number, "1"))
        assert _reports(executor, 1)[number].outcome is not None
    assert executor._cluster is not None
    scheduler = executor._cluster.scheduler
    assert len(scheduler.tasks) <= 1
    assert len(scheduler.task_prefixes) == 1 and len(scheduler.task_groups) <= 1
    assert "spans" not in scheduler.extensions


def test_workers_keep_memory_for_the_next_array(executor: DaskExecutor, tmp_path: Path) -> None:
    executor.submit(_order(tmp_path, 1, "13"))
    worker = psutil.Process(int(_reports(executor, 1)[1].worker.rpartition(":")[2]))
    environment = worker.environ()
    assert "MALLOC_TRIM_THRESHOLD_" not in environment
    assert environment["OMP_NUM_THREADS"] == "1"


def test_a_task_whose_worker_is_killed_from_outside_is_reported_as_lost(
    executor: DaskExecutor, tmp_path: Path
) -> None:
    order = _order(tmp_path, 1, "13", pause_s=60.0)
    executor.submit(order)
    waiting = threading.Event()
    while not order.work.exists():
        waiting.wait(0.05)
    for process in _workers():
        os.kill(process.pid, signal.SIGKILL)
    assert _reports(executor, 1)[1].lost


def test_closing_leaves_no_process_behind(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    executor = DaskExecutor(ResourceParams(workers=2), tmp_path / "scratch")
    executor.submit(_order(tmp_path, 1, "13"))
    executor.submit(_order(tmp_path, 2, "13", pause_s=60.0))
    _reports(executor, 1)
    mine = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert mine
    executor.close()
    workers = [p for p in mine if p.is_running() and "resource_tracker" not in " ".join(_words(p))]
    _, left = psutil.wait_procs(workers, timeout=20)
    assert left == []
    assert executor.reports.empty(), "what was under way is told by nobody"


def test_a_scheduler_that_runs_already_is_used_and_left_running(tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        executor = DaskExecutor(ResourceParams(scheduler=cluster.scheduler_address), tmp_path / "scratch")
        assert executor.slots()["compute"] == 2
        executor.submit(_order(tmp_path, 1, "13"))
        assert _reports(executor, 1)[1].outcome is not None
        executor.close()
        assert len(cluster.scheduler_info["workers"]) == 1


def test_a_disk_that_is_full_is_not_the_fault_of_the_task_that_met_it(tmp_path: Path) -> None:
    class Failed:
        status = "error"

        def exception(self) -> Exception:
            return OSError(errno.ENOSPC, "No space left on device")

    report = _loss(_order(tmp_path, 1, "13"), Failed())  # type: ignore[arg-type]
    assert report.storage and not report.lost and not report.permanent


def test_a_scheduler_that_does_not_answer_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomofly.flow.executor.CONNECT_TIMEOUT_S", 1)
    executor = DaskExecutor(ResourceParams(scheduler="tcp://127.0.0.1:9"), tmp_path)
    with pytest.raises(TomoflyError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        executor.slots()
    executor.close()


def _workers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [process for process in children if "spawn_main" in " ".join(_words(process))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
