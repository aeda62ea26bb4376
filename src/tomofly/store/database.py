"""Opening the database: SQLite by default, PostgreSQL by URL; migrations are applied on opening."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError

from tomofly.model import TomoflyError

T = TypeVar("T")

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30.0
NEWEST_REVISION = "0002"
"""The last of ``migrations``, which is compared before anything of them is loaded."""


class Database:
    """One database: ``begin`` for a transaction that writes, ``read`` for looking."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _create_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        try:
            _migrate(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction that may write."""
        with self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection for reading."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@dataclass(frozen=True)
class _Obstacle:
    """What passes by itself, or once somebody has acted: words of the database, and how to wait for it."""

    signs: tuple[str, ...]
    what: str
    do: str
    patience_s: float
    pause_s: float


_LOCK = _Obstacle(
    ("locked", "busy"),
    "The database has been locked by another program",
    "Close whatever holds it, then start the session again: nothing is lost",
    300.0,
    0.1,
)
_DISK = _Obstacle(
    ("disk is full", "disk i/o error", "no space left", "could not extend file", "diskfull"),
    "The disk of the database takes nothing",
    "Make room on it, then start the session again: nothing is lost",
    24 * 3600.0,
    2.0,
)


def retry_while_locked(work: Callable[[], T], *, give_up_s: float | None = None) -> T:
    """Do ``work`` again while the database is locked, or its disk full or out of reach.

    Waits for at most ``give_up_s``: without it five minutes for a lock, a day for the disk, which a person
    must see to. Raises TomoflyError when the obstacle outlasts that.
    """
    begin = time.monotonic()
    told = False
    while True:
        try:
            return work()
        except OperationalError as error:
            obstacle = _obstacle(error)
            if obstacle is None:
                raise
            patience = obstacle.patience_s if give_up_s is None else give_up_s
            if time.monotonic() - begin > patience:
                raise TomoflyError(f"{obstacle.what} for {patience:.0f} s", obstacle.do) from error
            if obstacle is _DISK and not told:
                told = True
                log.warning("The disk of the database takes nothing, waiting: %s", error.orig)
            time.sleep(min(obstacle.pause_s, patience))


def _obstacle(error: OperationalError) -> _Obstacle | None:
    text = f"{type(error.orig).__name__} {error.orig}".lower()
    return next((o for o in (_LOCK, _DISK) if any(sign in text for sign in o.signs)), None)


def _create_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        # A server that was set up in the locale C gives bytes unless text is asked for.
        encoding = {"client_encoding": "utf8"}
        return create_engine(url, pool_pre_ping=True, pool_size=4, max_overflow=8, connect_args=encoding)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None})
    event.listen(engine, "connect", _set_pragmas)
    # The driver is left in autocommit mode and transactions are begun here, so that a writer takes its
    # lock at once instead of failing when a read turns into a write.
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-8192")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    """Bring the tables to this version; the tools for that are loaded only where they are needed."""
    if _current_revision(engine) != NEWEST_REVISION:
        from tomofly.store.migrating import migrate

        migrate(engine)


def _current_revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_reachable(database: Database) -> None:
    """Raise TomoflyError when the database does not answer."""
    try:
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError as error:
        raise TomoflyError(f"The database does not answer: {error.orig}") from error
