"""The engine alone: many items through three stages that do nothing, on the real executor.

Measures the conductor's own time per task (its thread's CPU time and its time away from waiting), its
memory as the session grows, and how long a finished session takes to start again.

    python benchmarks/engine.py --items 100000

A finished session for the start-up figure can be larger than what is run (``--finished``): its rows are
written as a run would have left them, and the run that follows shows that nothing of it is done again.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import insert, update

from tomofly.flow.conductor import Conductor, RunOptions
from tomofly.flow.graph import build_workflow
from tomofly.flow.planner import expected_fingerprint, plan_signature
from tomofly.model import ItemRef, MapStage, Outcome, StageContext, StageParams
from tomofly.store import Database, intake, sessions, tables
from tomofly.store.intake import NewItem
from tomofly.store.sessions import NewSession

KIND = "nothing"


class NoParams(StageParams):
    """Nothing to set."""


def do_nothing(item: ItemRef, params: NoParams, ctx: StageContext) -> Outcome:
    """Measure one number and write no file."""
    return Outcome(metrics={"value": 1.0})


def _stage(name: str, *needs: str) -> MapStage:
    return MapStage(
        name=name, version="1", summary="Does nothing", session_kinds=(KIND,), track="all", consumes="item",
        produces="item", params=NoParams, needs=needs, run=do_nothing,
    )  # fmt: skip


STAGES = [_stage("first"), _stage("second", "first"), _stage("third", "second")]


class Meter:
    """Looks at the conductor on every turn of its loop."""

    def __init__(self, items: int) -> None:
        self.process = psutil.Process()
        self.conductor: Conductor | None = None
        self.marks: list[tuple[int, float]] = []
        self.step = max(min(items * 3 // 20, 2000), 1)
        self.first_tick = 0.0
        self.limit_s = float("inf")

    def tick(self) -> None:
        """Note the memory after every twentieth of the tasks."""
        self.first_tick = self.first_tick or time.monotonic()
        if self.conductor and time.monotonic() - self.first_tick > self.limit_s:
            self.conductor.stop()
        tasks = self.conductor.tally.tasks if self.conductor else 0
        if tasks >= len(self.marks) * self.step:
            self.marks.append((tasks, self.process.memory_info().rss / 1e6))


def _session(database: Database, folder: Path) -> int:
    workflow = build_workflow(KIND, STAGES)
    document = workflow.settings({"resources": {"minimum_free_gb": 0}}).document()
    new = NewSession("engine", KIND, str(folder), "", document, workflow.tracks)
    with database.begin() as connection:
        return sessions.create_session(connection, new, time.time())


def _run(
    database: Database, session_id: int, items: int, offered: int, limit_s: float = float("inf")
) -> tuple[Meter, float, float]:
    meter = Meter(items)
    meter.limit_s = limit_s
    with database.read() as connection:
        session = sessions.find_session(connection, session_id)
    conductor = Conductor(
        database, session, build_workflow(KIND, STAGES), RunOptions(once=True, on_tick=meter.tick)
    )
    meter.conductor = conductor
    for start in range(0, offered, 1000):
        batch = [NewItem("item", f"item_{i:06d}", "", "1") for i in range(start, min(start + 1000, offered))]
        conductor.engine.register(batch, time.time())
    began, cpu = time.monotonic(), time.thread_time()
    conductor.run()
    return meter, time.monotonic() - began, time.thread_time() - cpu


def _write_finished(database: Database, session_id: int, items: int) -> None:
    """Write what a finished session of so many items leaves in the database."""
    workflow = build_workflow(KIND, STAGES)
    with database.read() as connection:
        settings = workflow.settings(sessions.settings_document(connection, session_id, 1))
    names: list[tuple[str, str]] = []
    inputs: object = "1"
    for stage in workflow.stages:
        names.append((stage.name, expected_fingerprint(stage, settings, inputs)))
        inputs = [names[-1][1]]
    now = time.time()
    for start in range(0, items, 5000):
        numbers = range(start, min(start + 5000, items))
        offered = [NewItem("item", f"item_{i:06d}", "", "1") for i in numbers]
        with database.begin() as connection:
            ids = [r.id for r in intake.register_items(connection, session_id, offered, now)]
            rows = [
                {"session_id": session_id, "item_id": i, "stage": stage, "state": "done", "wanted": made,
                 "fingerprint": made, "identity": made, "done_at": now, "queued_at": now, "started_at": now}
                for i in ids
                for stage, made in names
            ]  # fmt: skip
            connection.execute(insert(tables.tasks), rows)
    with database.begin() as connection:
        connection.execute(update(tables.items).values(dirty=False))
        signature = plan_signature(workflow, dict.fromkeys(workflow.tracks, settings))
        sessions.update_session(connection, session_id, planned=signature, state="finished")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument(
        "--finished", type=int, default=0, help="items of the finished session that is started"
    )
    parser.add_argument(
        "--limit", type=float, default=float("inf"), help="stop the run after so many seconds"
    )
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder}/engine.db")
        session_id = _session(database, folder / "session")
        meter, wall, own = _run(database, session_id, given.items, given.items, given.limit)
        finished = given.finished or given.items
        if given.finished:
            database.close()
            database = Database(f"sqlite:///{folder}/finished.db")
            session_id = _session(database, folder / "finished")
            _write_finished(database, session_id, given.finished)
        again, wall_again, own_again = _run(database, session_id, finished, 0)
        tasks = meter.conductor.tally.tasks if meter.conductor else 0
        figures = {
            "items": given.items,
            "tasks": tasks,
            "wall_s": round(wall, 1),
            "own_cpu_ms_per_task": round(own / max(tasks, 1) * 1000, 3),
            "wall_ms_per_task": round(wall / max(tasks, 1) * 1000, 3),
            "memory_mb_by_tasks": [(n, round(mb)) for n, mb in meter.marks],
            "finished_items": finished,
            "restart_of_finished_session_s": round(wall_again, 2),
            "restart_own_cpu_s": round(own_again, 2),
            "restart_tasks": again.conductor.tally.tasks if again.conductor else 0,
        }
        database.close()
    json.dump(figures, sys.stdout, indent=2)
    print()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
