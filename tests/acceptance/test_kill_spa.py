"""kill -9 of the program and of its workers in mid-session: the end is that of an undisturbed run."""

import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.acceptance.commands import MICROSCOPE, environment, run_spa, spa_arguments, tomofly
from tomofly.simulate import write_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
MOVIES = 5
OF_THIS_RUN = ("detected_at", "done_at", "shown_at", "latency_s", "transfer_speed_mb_per_s")
"""Columns that say when and how fast: they differ between any two runs."""


def _kill_when(process: subprocess.Popen[bytes], out: Path, products: int, chance: random.Random) -> None:
    """Kill the program, or one of its workers first, once so many micrographs are there."""
    end = time.monotonic() + 120
    while len(list(out.glob("motion/*.mrc"))) < products and process.poll() is None:
        assert time.monotonic() < end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.02, 0.2))
    if process.poll() is not None:
        return
    workers = psutil.Process(process.pid).children(recursive=True)
    if workers and chance.random() < 0.5:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(workers, timeout=20)


def _results(home: Path, out: Path) -> dict[str, str]:
    """Every product with its digest, and every number of every item."""
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in ("transfer", "import", "motion", "ctf", "picks")
        for path in (out / stage).rglob("*")
        if path.is_file()
    }
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
            lasting = {name: value for name, value in item.items() if name not in OF_THIS_RUN}
            rows[f"numbers of {item['key']}"] = json.dumps(lasting, sort_keys=True)
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
        _kill_when(process, disturbed, products, chance)
    done = run_spa(home, str(source / "*.mrc"), disturbed, "transfer.mode=copy")
    assert done.status == 0, done.err
    assert done.json["done"] == MOVIES
    quiet = tmp_path / "quiet"
    assert run_spa(home, str(source / "*.mrc"), quiet, "transfer.mode=copy").status == 0
    assert _results(home, disturbed) == _results(home, quiet)
