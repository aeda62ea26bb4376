"""A session run for real on the example's stages: what its table, progress, exports and controls say."""

import csv
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.conftest import write_notes
from tomofly.model import TomoflyError
from tomofly.services import control
from tomofly.services.home import Home
from tomofly.services.progress import note_shown, session_progress
from tomofly.services.session_api import Session
from tomofly.services.sessions import EXPORT_MARK, delete_session
from tomofly.services.table import item_logs, list_failures, table_page

# Dask leaves a socket to the garbage collector when it closes, and complains of another cluster's port.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Port 8787:UserWarning",
)


@pytest.fixture
def ran(home: Home, tmp_path: Path) -> Iterator[Session]:
    """Seven notes, one of which holds no number, read once."""
    notes: dict[str, object] = {f"A_{n}": n * 1.5 for n in range(6)}
    pattern = write_notes(tmp_path / "in", {**notes, "B_1": "nonsense"})
    session = Session.create(
        "notes", source=pattern, kind="notes", home=home.folder,
        settings=["source.settle_s=0", "resources.workers=1", "resources.minimum_free_gb=0"],
    )  # fmt: skip
    summary = session.run()
    assert (summary["items"], summary["done"], summary["failed"]) == (7, 6, 1)
    yield session
    session.close()
    gc.collect()


@pytest.mark.parametrize(
    "home", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)
def test_everything_that_can_be_asked_of_a_finished_session(ran: Session, home: Home, tmp_path: Path) -> None:
    assert ran.status == "finished"
    check_summary(ran)
    check_table(ran, home)
    check_failures(ran, home)
    check_exports(ran, tmp_path)
    check_clearing_and_retrying(ran, home, tmp_path)


def check_summary(ran: Session) -> None:
    summary = ran.summary()
    value = summary["metrics"]["number.value"]
    assert (value["count"], value["minimum"], value["median"], value["maximum"]) == (6, 0.0, 3.75, 7.5)
    assert summary["latency_p50_s"] <= summary["latency_p95_s"]
    assert summary["throughput_per_hour"] > 0
    assert "accuracy" not in summary
    json.dumps(summary)


def check_table(ran: Session, home: Home) -> None:
    frame = ran.table("2 <= value < 7")
    assert list(frame["key"]) == ["A_2", "A_3", "A_4"]
    assert str(frame["done_at"].dtype).startswith("datetime64")
    note_shown(home, session_progress(home, "notes"))
    assert ran.table()["shown_at"].notna().sum() > 0, "what has been put before a person is noted"
    page = table_page(home, "notes", sort="-value", limit=2, offset=1)
    assert (page.total, [row["key"] for row in page.rows]) == (7, ["A_4", "A_3"])
    ran.exclude("A_3", reason="too round")
    assert list(ran.table("excluded=yes")["excluded"]) == ["too round"]
    for wrong in ("value <", "size > 3", "__import__('os').system('true') < 3", "state=happy"):
        with pytest.raises(TomoflyError):
            ran.table(wrong)


def check_failures(ran: Session, home: Home) -> None:
    failure = list_failures(home, "notes")[0]
    assert (failure.item, failure.stage, failure.permanent) == ("B_1", "number", True)
    assert "holds no number" in failure.reason
    assert "holds no number" in item_logs(home, "notes", "B_1")["number"]
    track = session_progress(home, "notes").tracks[0]
    assert (track.name, track.done, track.failed, track.backlog) == ("reading", 6, 1, 0)


def check_exports(ran: Session, tmp_path: Path) -> None:
    exported = ran.export(tmp_path / "csv", "csv", filters=["value > 1"])
    assert exported.items == 4  # of five, one is left out by hand
    with (tmp_path / "csv" / "items.csv").open() as file:
        assert [line["key"] for line in csv.DictReader(file)] == ["A_1", "A_2", "A_4", "A_5"]
    provenance = json.loads((tmp_path / "csv" / "provenance.json").read_text())
    assert [len(item["fingerprints"]["number"]) for item in provenance["items"]] == [32] * 4
    again = ran.export(tmp_path / "csv", "json")
    assert again.items == 6
    assert sorted(p.name for p in (tmp_path / "csv").iterdir()) == sorted([EXPORT_MARK, *again.files])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for folder in (tmp_path / "mine", ran.folder, ran.folder / "number" / "x", Path("/")):
        with pytest.raises(TomoflyError):
            ran.export(folder, "csv")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def check_clearing_and_retrying(ran: Session, home: Home, tmp_path: Path) -> None:
    control.clear_session(home, "notes", ["reading"])
    assert not list((ran.folder / "number").glob("*.txt"))
    assert session_progress(home, "notes").tracks[0].done == 0
    (tmp_path / "in" / "B_1.note").write_text("2.5")
    assert ran.run()["failed"] == 0
    assert ran.table("key~B_")["value"].tolist() == [2.5]


def test_a_session_runs_detached_takes_new_settings_and_stops(home: Home, tmp_path: Path) -> None:
    pattern = write_notes(tmp_path / "in", {"A_1": 1, "A_2": 2})
    session = Session.create(
        "bg", kind="notes", home=home.folder,
        settings={
            "source": {"settle_s": 0, "poll_s": 0.1, "pattern": pattern},
            "resources": {"workers": 1, "minimum_free_gb": 0},
        },
    )  # fmt: skip
    session.start()
    try:
        with pytest.raises(TomoflyError, match="running already"):
            session.start()
        wait_for(session, lambda: session.table("value > 1.5")["key"].tolist() == ["A_2"])
        session.set("number.factor=10")
        session.restart()
        wait_for(session, lambda: sorted(session.table()["value"].dropna()) == [10.0, 20.0])
        with pytest.raises(TomoflyError, match="Stop it first"):
            delete_session(home, "bg")
    finally:
        session.stop()
    assert session.status == "stopped"
    session.close()


def wait_for(session: Session, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, session.progress()
        pause.wait(0.05)
