"""A conductor as a process of its own: ``python -m tomofly.flow.process SESSION``.

The database's URL comes in the environment (``TOMOFLY_DATABASE``): it may hold a password, and the
arguments of a process are there for everybody to read.
"""

import argparse
import os
import signal
import sys
import threading

import structlog

from tomofly.flow.conductor import Conductor, RunOptions
from tomofly.flow.workflows import workflow_of
from tomofly.model import TomoflyError
from tomofly.store import Database, sessions

DATABASE_VARIABLE = "TOMOFLY_DATABASE"


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
    parser.add_argument("session", type=int)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--idle-timeout", type=float, default=None)
    parser.add_argument("--if-wanted", action="store_true", help="end at once if a stop is asked for already")
    given = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    url = os.environ.get(DATABASE_VARIABLE)
    if not url:
        parser.error(f"{DATABASE_VARIABLE} must hold the database's URL")
    database = Database(url)
    try:
        options = RunOptions(given.once, given.idle_timeout, if_wanted=given.if_wanted)
        run_session(database, given.session, options)
    except TomoflyError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
