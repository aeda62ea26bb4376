"""A conductor as a process of its own: ``python -m tomofly.flow.process DATABASE_URL SESSION``."""

import argparse
import signal
import sys
import threading

import structlog

from tomofly.flow.conductor import Conductor, RunOptions
from tomofly.flow.graph import Workflow, build_workflow
from tomofly.model import TomoflyError
from tomofly.stages.registry import installed_stages
from tomofly.store import Database, sessions


def workflow_of(kind: str) -> Workflow:
    """Give the workflow of a session kind, made of the stages that are installed."""
    return build_workflow(kind, [installed.stage for installed in installed_stages()])


def run_session(database: Database, session_id: int, options: RunOptions) -> str:
    """Run a session in this process until it ends; give the state in which it was left.

    SIGINT and SIGTERM end it cleanly when this is called from the main thread.
    """
    with database.read() as connection:
        session = sessions.find_session(connection, session_id)
    conductor = Conductor(database, session, workflow_of(session.kind), options)
    before = {number: signal.signal(number, lambda *_: conductor.stop()) for number in _stop_signals()}
    try:
        return conductor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> tuple[signal.Signals, ...]:
    main = threading.current_thread() is threading.main_thread()
    return (signal.SIGINT, signal.SIGTERM) if main else ()


def main(arguments: list[str] | None = None) -> int:
    """Run one session by its id; logs go to standard error."""
    parser = argparse.ArgumentParser(description="Run one tomofly session")
    parser.add_argument("database")
    parser.add_argument("session", type=int)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--idle-timeout", type=float, default=None)
    given = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    database = Database(given.database)
    try:
        run_session(database, given.session, RunOptions(given.once, given.idle_timeout))
    except TomoflyError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
