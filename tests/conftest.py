"""Fixtures for the whole suite."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from tests.free_ports import free_ports
from tomofly.store import Database, tables

REPOSITORY = Path(__file__).resolve().parents[1]

# The example package is found as an installed one would be, here and in every process the tests start.
EXAMPLE_PACKAGE = str(REPOSITORY / "tests" / "example_package")
sys.path.insert(0, EXAMPLE_PACKAGE)
os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (EXAMPLE_PACKAGE, os.environ.get("PYTHONPATH")) if p)


EPICS_TESTS = ("tests/live/", "tests/simulate/test_beamline", "tests/acceptance/test_live_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of EPICS, whose cameras keep to the clock."""
    for item in items:
        place = item.path.relative_to(REPOSITORY).as_posix()
        if place.startswith(EPICS_TESTS) or place.endswith("test_demo_xct.py"):
            item.add_marker(pytest.mark.epics)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of third-party data; the test is skipped where there is none."""
    folder = Path(os.environ.get("TOMOFLY_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no third-party data: set TOMOFLY_TEST_DATA (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of our own on loopback; the test is skipped where its programs are missing."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    # Not below pytest's own folder, which every other run of pytest closes to all users but its own.
    folder = Path(tempfile.mkdtemp(prefix="tomofly-postgres-"))
    as_owner = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
    (port,) = free_ports(1)
    programs = binaries[-1].parent
    data = folder / "data"
    same_anywhere = ("-E", "UTF8", "--no-locale")
    _run_quietly(*as_owner, programs / "initdb", "-D", data, "-U", "tomofly", "-A", "trust", *same_anywhere)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [*as_owner, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
    _run_quietly(*control, "-o", options, "start")
    yield f"postgresql+psycopg://tomofly@127.0.0.1:{port}/postgres"
    _run_quietly(*control, "-m", "fast", "stop")
    shutil.rmtree(folder)


def _run_quietly(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout.decode()} {done.stderr.decode()}")


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
