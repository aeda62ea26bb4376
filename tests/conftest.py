"""Fixtures for the whole suite."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# The example package is found as an installed one would be, here and in every process the tests start.
EXAMPLE_PACKAGE = str(REPOSITORY / "tests" / "example_package")
sys.path.insert(0, EXAMPLE_PACKAGE)
os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (EXAMPLE_PACKAGE, os.environ.get("PYTHONPATH")) if p)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of third-party data; the test is skipped where there is none."""
    folder = Path(os.environ.get("TOMOFLY_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no third-party data: set TOMOFLY_TEST_DATA (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own on loopback; the test is skipped where its programs are missing."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    as_owner = []
    if os.geteuid() == 0:  # the server refuses to run as root
        for part in (folder, *folder.parents):
            if part.owner() == "root" and part != Path("/") and part.name.startswith("pytest"):
                part.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = binaries[-1].parent
    data = folder / "data"
    _run_quietly(*as_owner, programs / "initdb", "-D", data, "-U", "tomofly", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [*as_owner, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
    _run_quietly(*control, "-o", options, "start")
    yield f"postgresql+psycopg://tomofly@127.0.0.1:{port}/postgres"
    _run_quietly(*control, "-m", "fast", "stop")


def _run_quietly(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout.decode()} {done.stderr.decode()}")
