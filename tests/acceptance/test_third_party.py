"""Another package's stages, one of each shape: the command line lists them and runs them."""

from pathlib import Path

import pytest

from tests.acceptance.commands import tomofly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def test_stages_of_another_package_are_listed_with_their_shapes(tmp_path: Path) -> None:
    done = tomofly(tmp_path / "home", "stages", "--json")
    assert done.status == 0, done.err
    shapes = {stage["name"]: stage["shape"] for stage in done.json if stage["package"] == "tomofly-example"}
    assert shapes == {"number": "map", "ledger": "group", "report": "map", "balance": "fold"}


def test_a_session_of_another_packages_kind_runs_from_the_command_line(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for ledger in "AB":
        for number in range(3):
            (notes / f"{ledger}_{number}.note").write_text(str(number))
    quick = ("--set", "source.settle_s=0.2", "--set", "resources.minimum_free_gb=0")
    where = ("--source", notes / "*.note", "--out", tmp_path / "out")
    done = tomofly(tmp_path / "home", "run", "notes", *where, "--once", "--json", *quick)
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "report" / "A.txt").read_text() == "A: 3"
    assert done.json["metrics"]["balance.total"]["median"] == 6.0
    changed = tomofly(
        tmp_path / "home", "run", "notes", *where, "--once", "--json", "--set", "number.factor=10"
    )
    assert changed.status == 0, changed.err
    assert (tmp_path / "out" / "report" / "B.txt").read_text() == "B: 30"


def test_a_kind_that_nobody_brings_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = tomofly(
        tmp_path / "home",
        "run",
        "nonsense",
        "--source",
        tmp_path / "*.mrc",
        "--out",
        tmp_path / "out",
        "--once",
    )
    assert done.status != 0
    assert "nonsense" in done.err and "tomofly stages" in done.err
