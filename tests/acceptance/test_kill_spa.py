"""kill -9 of the program and of its workers in mid-session: the end is that of an undisturbed run."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.commands import MICROSCOPE, environment, run_spa, spa_arguments, tomofly
from tests.acceptance.killing import digests, kill_when, lasting
from tomofly.simulate import write_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
MOVIES = 5


def _results(home: Path, out: Path) -> dict[str, str]:
    """Every product with its digest, and every number of every item."""
    found = digests(out, ("transfer", "import", "motion", "ctf", "picks"))
    exported = out.parent / f"{out.name}-table"
    done = tomofly(home, "export", out.name, "--format", "json", "--out", exported)
    assert done.status == 0, done.err
    return found | _numbers(exported)


def _numbers(folder: Path) -> dict[str, str]:
    rows = {}
    for path in folder.glob("*.json"):
        if path.name in ("provenance.json", "settings.json"):
            continue
        for item in json.loads(path.read_text())["items"]:
            rows[f"numbers of {item['key']}"] = lasting(item)
    return rows


def test_kill_9_in_mid_session_ends_with_the_results_of_an_undisturbed_run(tmp_path: Path) -> None:
    source, home = tmp_path / "movies", tmp_path / "home"
    write_session(MICROSCOPE, source, MOVIES, file_format="mrc")
    chance = random.Random(11)
    disturbed = tmp_path / "disturbed"
    arguments = spa_arguments(str(source / "*.mrc"), disturbed, "transfer.mode=copy")
    for products in (1, 4, 9):
        command = [sys.executable, "-m", "tomofly.cli", *arguments]
        process = subprocess.Popen(
            command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        kill_when(process, disturbed, ("motion/*.mrc", products), chance)
    done = run_spa(home, str(source / "*.mrc"), disturbed, "transfer.mode=copy")
    assert done.status == 0, done.err
    assert done.json["done"] == MOVIES
    quiet = tmp_path / "quiet"
    assert run_spa(home, str(source / "*.mrc"), quiet, "transfer.mode=copy").status == 0
    assert _results(home, disturbed) == _results(home, quiet)
