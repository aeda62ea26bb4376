"""A stand-in for the executor in tests: runs tasks at once, in this process, in the order asked for."""

import queue
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT

from tomofly.flow.engine import Engine, Scope
from tomofly.flow.graph import Workflow, build_workflow
from tomofly.flow.runner import TaskOrder, TaskReport, run_task
from tomofly.store import Database, sessions
from tomofly.store.intake import NewItem
from tomofly.store.sessions import NewSession


class InlineExecutor:
    """Runs each task as it is submitted."""

    def __init__(self) -> None:
        self.reports: queue.SimpleQueue[TaskReport] = queue.SimpleQueue()
        self.ran: list[tuple[str, str]] = []

    def slots(self) -> dict[str, int]:
        return {"compute": 2, "transfer": 2}

    def submit(self, order: TaskOrder) -> None:
        self.ran.append((order.stage.name, order.item.key))
        self.reports.put(run_task(order))

    def close(self) -> None:
        pass


def notes_workflow() -> Workflow:
    return build_workflow("notes", [NUMBER, LEDGER, REPORT, BALANCE])


@dataclass
class Bench:
    """A session of notes on a database, stepped by hand: time is whatever the test says."""

    database: Database
    folder: Path
    workflow: Workflow = field(default_factory=notes_workflow)
    document: dict[str, dict[str, object]] = field(default_factory=dict)
    now: float = 1000.0
    ran: list[tuple[str, str]] = field(default_factory=list)
    name: str = "bench"

    def __post_init__(self) -> None:
        settings = self.workflow.settings(self.document)
        new = NewSession(
            self.name, self.workflow.kind, str(self.folder), "", settings.document(), self.workflow.tracks
        )
        with self.database.begin() as connection:
            self.session_id = sessions.create_session(connection, new, self.now)
        self.engine = self.new_engine()

    def new_engine(self) -> Engine:
        """As after a crash: nothing is known but what the database holds."""
        settings = self.workflow.settings(self.document)
        by_track = dict.fromkeys(self.workflow.tracks, settings)
        engine = Engine(
            self.database, Scope(self.session_id, self.workflow, self.folder / "session"), by_track
        )
        engine.recover()
        return engine

    def write_note(self, key: str, text: object) -> NewItem:
        path = self.folder / "notes" / f"{key}.note"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
        return NewItem("note", key, str(path), f"content {text}")

    def arrive(self, *notes: NewItem) -> None:
        self.engine.register(notes, self.now)

    def step(self, limit: int = 100, choose: Callable[[list[TaskOrder]], list[TaskOrder]] = list) -> int:
        """Plan, run up to ``limit`` tasks, commit those that ``choose`` keeps."""
        self.now += 1.0
        while self.engine.plan(self.now):
            pass
        orders = self.engine.take_orders([s.name for s in self.workflow.stages], limit, self.now, 1)
        reports = [run_task(order) for order in choose(orders)]
        self.ran += [(r.order.stage.name, r.order.item.key) for r in reports]
        self.engine.commit(reports, self.now)
        return len(orders)

    def settle(self, *, close: bool = True) -> None:
        """Go on until nothing is left to do, then close the stream and go on again."""
        for closing in (False, True):
            if closing and not close:
                return
            self.engine.set_closed(closing)
            for _ in range(200):
                if self.step() == 0 and (self.engine.settled() or not close):
                    break
            else:
                raise AssertionError("the session does not come to rest")

    def change(self, **sections: dict[str, object]) -> None:
        for section, values in sections.items():
            self.document.setdefault(section, {}).update(values)
        settings = self.workflow.settings(self.document)
        self.engine.use_settings(dict.fromkeys(self.workflow.tracks, settings))

    def waiting_for(self, kind: str, key: str) -> str:
        """What an item is said to wait for."""
        from sqlalchemy import select

        from tomofly.store import tables as t

        with self.database.read() as connection:
            query = select(t.items.c.waiting_for).where(t.items.c.kind == kind, t.items.c.key == key)
            return str(connection.scalar(query))

    def results(self) -> dict[tuple[str, str, str], tuple[object, ...]]:
        """Everything that the session holds in the end: states, fingerprints, metrics, reasons and files."""
        from sqlalchemy import select

        from tomofly.store import tables as t

        found: dict[tuple[str, str, str], tuple[object, ...]] = {}
        with self.database.read() as connection:
            rows = connection.execute(
                select(t.tasks, t.items.c.key, t.items.c.kind)
                .join(t.items, t.items.c.id == t.tasks.c.item_id)
                .where(t.tasks.c.session_id == self.session_id)
            ).mappings()
            for row in rows:
                metrics = dict(
                    connection.execute(
                        select(t.metrics.c.name, t.metrics.c.value).where(t.metrics.c.task_id == row["id"])
                    ).all()
                )
                paths = connection.scalars(select(t.products.c.path).where(t.products.c.task_id == row["id"]))
                files = {path: (self.folder / "session" / path).read_text() for path in paths}
                found[row["kind"], row["key"], row["stage"]] = (
                    row["state"], row["fingerprint"], row["identity"], row["reason"], metrics, files,
                )  # fmt: skip
        return found


def shuffled(notes: list[NewItem], seed: int) -> list[NewItem]:
    copy = list(notes)
    random.Random(seed).shuffle(copy)
    return copy
