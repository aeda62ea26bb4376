"""Databases for the engine's tests: SQLite always, PostgreSQL where its programs are installed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from tests.flow.inline import Bench
from tomofly.store import Database, tables


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Database]:
    """Makes databases quickly, as copies of one that has been migrated."""
    template = tmp_path_factory.mktemp("template") / "tomofly.db"
    database = Database(f"sqlite:///{template}")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()

    def make(folder: Path) -> Database:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, folder / "tomofly.db")
        return Database(f"sqlite:///{folder}/tomofly.db")

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_database(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[Path], Database]
) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        database = new_database(tmp_path)
    else:
        database = Database(request.getfixturevalue("postgres_url"))
        with database.begin() as connection:
            connection.execute(delete(tables.sessions))
    yield database
    database.close()


@pytest.fixture
def bench(any_database: Database, tmp_path: Path) -> Bench:
    """A session of notes, on each kind of database."""
    return Bench(any_database, tmp_path / "bench")
