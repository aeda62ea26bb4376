"""A home with sessions of the example kind, whose stages take no time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete
from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT

from tomofly.services.home import Home, open_home
from tomofly.stages.registry import Installed
from tomofly.store import tables


@pytest.fixture(autouse=True)
def example_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the stages of the example are installed: they load at once."""
    installed = tuple(Installed(stage, "tomofly-example") for stage in (BALANCE, LEDGER, NUMBER, REPORT))
    monkeypatch.setattr("tomofly.flow.workflows.installed_stages", lambda: installed)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An empty home, on SQLite unless the test asks for PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        monkeypatch.delenv("TOMOFLY_DATABASE", raising=False)
    else:
        monkeypatch.setenv("TOMOFLY_DATABASE", request.getfixturevalue("postgres_url"))
    opened = open_home(tmp_path / "home")
    with opened.database.begin() as connection:
        connection.execute(delete(tables.sessions))
    yield opened
    opened.close()


def write_notes(folder: Path, numbers: dict[str, object]) -> str:
    """Write notes and give the pattern that finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in numbers.items():
        (folder / f"{name}.note").write_text(str(number))
    return str(folder / "*.note")
