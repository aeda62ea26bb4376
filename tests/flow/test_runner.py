"""One task in a worker: whatever happens in it becomes a report that the database can hold."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomofly.flow.runner import TaskOrder, TaskReport, run_task
from tomofly.model import BadInput, Flag, ItemRef, MapStage, Outcome, Resources, StageContext, StageParams

Body = Callable[[StageContext], Outcome]


def _run(
    folder: Path, body: Body, item_id: int = 1, key: str = "grid 7/mövie_13", cores: int = 1
) -> TaskReport:
    def run(_item: ItemRef, _params: StageParams, ctx: StageContext) -> Outcome:
        return body(ctx)

    stage = MapStage(
        name="try", version="1", summary="", session_kinds=("k",), track="t", consumes="movie",
        produces="movie", params=StageParams, run=run, resources=Resources(cores=cores),
    )  # fmt: skip
    work = folder / ".work" / "1-abc"
    return run_task(TaskOrder(1, item_id, stage, "wanted", ItemRef(key, "movie"), {}, {}, folder, work))


def _raise(error: BaseException) -> Body:
    def body(_ctx: StageContext) -> Outcome:
        raise error

    return body


def test_bad_input_is_permanent_and_its_log_is_one_sentence(tmp_path: Path) -> None:
    report = _run(tmp_path, _raise(BadInput("the movie is empty", "Bring it again")))
    assert (report.permanent, report.storage, report.reason) == (
        True,
        False,
        "the movie is empty. Bring it again.",
    )
    log = (tmp_path / "logs" / "try" / "grid 7" / "mövie_13.log").read_text()
    assert "the movie is empty. Bring it again." in log and "Traceback" not in log


def test_a_crash_is_no_fault_of_the_item_and_its_log_has_the_traceback(tmp_path: Path) -> None:
    report = _run(tmp_path, _raise(ZeroDivisionError("no frames")))
    assert (report.permanent, report.reason) == (False, "ZeroDivisionError: no frames")
    assert "Traceback" in (tmp_path / "logs" / "try" / "grid 7" / "mövie_13.log").read_text()


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_a_stage_has_the_threads_that_it_asks_for(tmp_path: Path, cores: int) -> None:
    seen: list[int] = []

    def body(ctx: StageContext) -> Outcome:
        seen.append(ctx.threads)
        return Outcome()

    assert _run(tmp_path, body, cores=cores).outcome is not None
    assert seen == [cores]


def test_a_stage_that_exits_fails_like_any_other(tmp_path: Path) -> None:
    report = _run(tmp_path, _raise(SystemExit(3)))
    assert report.outcome is None and report.reason == "SystemExit: 3"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_or_read_only_disk_is_not_the_items_fault(tmp_path: Path, number: int) -> None:
    report = _run(tmp_path, _raise(OSError(number, os.strerror(number))))
    assert report.storage and not report.permanent


def test_a_full_disk_is_seen_through_the_error_that_was_made_of_it(tmp_path: Path) -> None:
    def body(_ctx: StageContext) -> Outcome:
        try:
            Path("/dev/full").write_text("an average")
        except OSError as error:
            raise BadInput("the average could not be written") from error

    report = _run(tmp_path, body)
    assert report.storage and not report.permanent


def test_a_product_that_nobody_may_write_is_the_disks_fault(tmp_path: Path) -> None:
    path = str(tmp_path / "motion" / "a.mrc")
    assert _run(tmp_path, _raise(PermissionError(errno.EACCES, "Permission denied", path))).storage


def test_a_source_that_nobody_may_read_is_the_items_own_problem_also_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    (folder / "transfer").mkdir(parents=True)
    source = tmp_path / "camera" / "a.mrc"
    link = folder / "transfer" / "a.mrc"
    link.symlink_to(source)
    for path in (source, link):
        report = _run(folder, _raise(PermissionError(errno.EACCES, "Permission denied", str(path))))
        assert not report.storage and report.reason == f"Permission denied: {path}"


def test_a_log_that_cannot_be_written_does_not_hide_what_happened(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder must be")
    report = _run(tmp_path, _raise(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    assert report.storage and "Read-only" in report.reason


def test_numbers_of_any_type_become_plain_ones(tmp_path: Path) -> None:
    def body(_ctx: StageContext) -> Outcome:
        return Outcome(metrics={"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True), "d": 2})  # type: ignore[arg-type]

    report = _run(tmp_path, body)
    assert report.outcome is not None
    assert {type(value) for value in report.outcome.metrics.values()} == {float}
    assert report.outcome.metrics == {"a": 0.5, "b": 7.0, "c": 1.0, "d": 2.0}


def test_a_number_that_is_none_is_left_out_and_flagged(tmp_path: Path) -> None:
    metrics = {"early": np.float32("nan"), "late": float("inf"), "total": 3.0}
    report = _run(tmp_path, lambda _ctx: Outcome(metrics=metrics, flags=(Flag("dark", "too dark"),)))
    assert report.outcome is not None and report.outcome.metrics == {"total": 3.0}
    assert [flag.code for flag in report.outcome.flags] == ["dark", "metric_not_finite"]
    assert "early, late" in report.outcome.flags[1].message


def test_a_metric_that_is_no_number_fails_the_task(tmp_path: Path) -> None:
    report = _run(tmp_path, lambda _ctx: Outcome(metrics={"total": "many"}))  # type: ignore[dict-item]
    assert report.outcome is None and "many" in report.reason


def test_text_that_no_database_holds_is_made_writable(tmp_path: Path) -> None:
    report = _run(tmp_path, _raise(RuntimeError("header \0\0 of bad\udcff.mrc")))
    report.reason.encode()
    assert "\0" not in report.reason and "of bad" in report.reason
    flagged = _run(tmp_path, lambda _ctx: Outcome(flags=(Flag("odd", "a\0b"),)))
    assert flagged.outcome is not None and flagged.outcome.flags[0].message == "a\ufffdb"


def test_a_product_outside_the_work_folder_is_refused_with_its_name(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.mrc"
    outside.write_text("")
    report = _run(tmp_path, lambda _ctx: Outcome({"average": outside}))
    assert report.outcome is None
    assert "'average' of try lies outside its work folder" in report.reason and str(outside) in report.reason


def test_a_product_that_was_never_written_fails_the_task(tmp_path: Path) -> None:
    report = _run(tmp_path, lambda ctx: Outcome({"average": ctx.new_file(".mrc")}))
    assert report.outcome is None and "No such file" in report.reason


def test_the_work_folder_is_there_as_soon_as_the_task_has_begun(tmp_path: Path) -> None:
    seen = []
    _run(tmp_path, lambda ctx: seen.append(ctx.work.is_dir()) or Outcome())  # type: ignore[func-returns-value]
    assert seen == [True]


def test_partial_files_are_those_of_one_item_though_another_has_the_same_content(tmp_path: Path) -> None:
    seen = set()
    for item_id in (1, 2):
        _run(tmp_path, lambda ctx: seen.add(ctx.partial) or Outcome(), item_id)  # type: ignore[func-returns-value]
    assert len(seen) == 2


def test_a_lack_of_memory_says_what_to_do(tmp_path: Path) -> None:
    report = _run(tmp_path, _raise(MemoryError()))
    assert "resources.workers" in report.reason and not report.permanent
