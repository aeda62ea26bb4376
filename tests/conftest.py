"""Fixtures for the whole suite."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of third-party data; the test is skipped where there is none."""
    folder = Path(os.environ.get("TOMOFLY_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no third-party data: set TOMOFLY_TEST_DATA (looked in {folder})")
    return folder
