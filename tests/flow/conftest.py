"""A session of notes for the engine's tests."""

from pathlib import Path

import pytest

from tests.flow.inline import Bench
from tomofly.store import Database


@pytest.fixture
def bench(any_database: Database, tmp_path: Path) -> Bench:
    """A session of notes, on each kind of database."""
    return Bench(any_database, tmp_path / "bench")
