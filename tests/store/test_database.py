"""Opening databases: migrations, versions, locks, and what one transaction may see of another."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tomofly.model import TomoflyError
from tomofly.store import Database, retry_while_locked, sessions
from tomofly.store import tables as t
from tomofly.store.database import NEWEST_REVISION, check_reachable
from tomofly.store.migrating import MIGRATIONS
from tomofly.store.sessions import NewSession


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database in which nothing has been made yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server = create_engine(request.getfixturevalue("postgres_url"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS empty"))
        connection.execute(text("CREATE DATABASE empty"))
    yield server.url.set(database="empty").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE empty WITH (FORCE)"))
    server.dispose()


def _migrate(database: Database, direction: Callable[[Config, str], None], target: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = database.engine
    direction(config, target)


def _tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_a_new_database_has_the_tables_and_opening_it_again_changes_nothing(empty_url: str) -> None:
    with contextlib.closing(Database(empty_url)) as database:
        assert _tables(database) == set(t.metadata.tables)
    with contextlib.closing(Database(empty_url)) as database, database.read() as connection:
        assert sessions.list_sessions(connection) == []


def test_the_newest_migration_is_the_one_that_opening_looks_for() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == NEWEST_REVISION


def test_migrations_make_just_what_the_tables_declare(empty_url: str) -> None:
    with contextlib.closing(Database(empty_url)) as database, database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, t.metadata) == []


def test_migrations_go_down_and_up_again(empty_url: str) -> None:
    with contextlib.closing(Database(empty_url)) as database:
        _migrate(database, command.downgrade, "base")
        assert _tables(database) == set()
        _migrate(database, command.upgrade, "head")
        assert _tables(database) == set(t.metadata.tables)


def test_a_database_of_a_newer_version_is_refused_in_clear_words(empty_url: str) -> None:
    with contextlib.closing(Database(empty_url)) as database, database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9876'"))
    with pytest.raises(TomoflyError, match=r"newer tomofly \(schema 9876\)\. Install that version"):
        Database(empty_url)


def test_a_transaction_that_fails_leaves_nothing(any_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), any_database.begin() as connection:
        sessions.create_session(connection, NewSession("s", "k", "/s", "", {}, ("a",)), 0.0)
        raise ZeroDivisionError
    with any_database.read() as connection:
        assert sessions.list_sessions(connection) == []


def test_references_are_kept(any_database: Database) -> None:
    with pytest.raises(IntegrityError), any_database.begin() as connection:
        connection.execute(t.items.insert().values(session_id=4711, kind="movie", key="a", detected_at=0.0))


def test_sqlite_waits_for_other_writers_and_lets_readers_read(
    new_database: Callable[[Path], Database], tmp_path: Path
) -> None:
    with contextlib.closing(new_database(tmp_path)) as database:
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0) >= 10_000
        with database.begin() as writing:
            sessions.create_session(writing, NewSession("s", "k", "/s", "", {}, ("a",)), 0.0)
            with database.read() as reading:
                assert sessions.list_sessions(reading) == []


def test_two_writers_on_sqlite_take_turns(new_database: Callable[[Path], Database], tmp_path: Path) -> None:
    with contextlib.closing(new_database(tmp_path)) as database:

        def add(name: str) -> None:
            for i in range(20):
                with database.begin() as connection:
                    new = NewSession(f"{name}{i}", "k", f"/{name}{i}", "", {}, ("a",))
                    sessions.create_session(connection, new, 0.0)

        threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.read() as connection:
            assert len(sessions.list_sessions(connection)) == 40


def _locked() -> OperationalError:
    return OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))


def test_work_is_done_again_while_the_database_is_locked() -> None:
    tries = []

    def work() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise _locked()
        return "done"

    assert retry_while_locked(work) == "done" and len(tries) == 3


def test_a_lock_that_lasts_is_told_of_with_what_to_do() -> None:
    def work() -> None:
        raise _locked()

    with pytest.raises(TomoflyError, match=r"locked by another program for 0 s\. Close whatever holds it"):
        retry_while_locked(work, give_up_s=0.0)


@pytest.mark.parametrize(
    "words", ["database or disk is full", "disk I/O error", "could not extend file: No space left on device"]
)
def test_a_full_disk_under_the_database_is_waited_out_like_a_lock(
    words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tomofly.store.database.time.sleep", slept.append)

    def work() -> str:
        if len(slept) < 5:
            raise OperationalError("INSERT", {}, sqlite3.OperationalError(words))
        return "done"

    assert retry_while_locked(work) == "done"
    assert len(slept) == 5
    assert [record.getMessage().count(words) for record in caplog.records] == [1], "said once"
    slept.clear()
    with pytest.raises(TomoflyError, match=r"takes nothing for 0 s\. Make room"):
        retry_while_locked(work, give_up_s=0.0)


def test_other_troubles_of_the_database_are_not_retried() -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("no such table: items"))

    with pytest.raises(OperationalError, match="no such table"):
        retry_while_locked(work)
    assert len(tries) == 1


def test_a_database_that_does_not_answer_is_told_of(
    tmp_path: Path, any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_reachable(any_database)
    nowhere = create_engine(f"sqlite:///{tmp_path}/no/such/folder.db")
    monkeypatch.setattr(any_database, "engine", nowhere)
    with pytest.raises(TomoflyError, match="does not answer: unable to open"):
        check_reachable(any_database)


@pytest.mark.postgres
def test_a_server_that_was_set_up_in_the_locale_c_can_be_used(postgres_url: str) -> None:
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0"))
    database = Database(server.url.set(database="plain").render_as_string(hide_password=False))
    with database.begin() as connection:
        sessions.create_session(connection, NewSession("tööth", "k", "/s", "", {}, ("a",)), 0.0)
    with database.read() as connection:
        assert sessions.find_session(connection, "tööth").name == "tööth"
    database.close()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE plain WITH (FORCE)"))
    server.dispose()
