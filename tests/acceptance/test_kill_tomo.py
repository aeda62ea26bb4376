"""kill -9 during the stages of tilts and of their series: the tomogram is that of an undisturbed run."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.commands import environment, tomofly
from tests.acceptance.killing import digests, kill_when, lasting
from tomofly.flow.workflows import workflow_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TILTS = 7
SETTINGS = (
    "microscope.pixel_size_angstrom=16", "source.settle_s=0.2", "source.poll_s=0.2",
    "resources.minimum_free_gb=0", "tilt_image.pixel_size_angstrom=16",
    "tilt_image.ctf_resolution_range_angstrom=80,34", "compose.provisional_every=4",
)  # fmt: skip
MOMENTS = (("tilt_motion/*.mrc", 2), ("compose/*.st", 1), ("series_alignment/*_alignment.json", 1))
"""What must be there when the program is killed: in the stage of tilts, after composing, after aligning."""


def _arguments(source: Path, out: Path) -> list[str]:
    chosen = [word for setting in SETTINGS for word in ("--set", setting)]
    pattern = str(source / "*.mrc")
    return ["run", "tomo", "--source", pattern, "--out", str(out), "--once", "--plain", "--json", *chosen]


def _results(home: Path, out: Path) -> dict[str, str]:
    """Every product with its digest, and every number of the series and its tilts."""
    stages = [stage.name for stage in workflow_of("tomo").stages]
    found = digests(out, stages)
    for kind in ("tilt series", "movie"):
        items = tomofly(home, "session", "items", out.name, "--kind", kind, "--json")
        assert items.status == 0, items.err
        for row in items.json["items"]:
            found[f"numbers of {row['key']}"] = lasting(row, "acquired_at")
    tilts = tomofly(home, "session", "tilts", out.name, "TS_1", "--json")
    return found | {"tilts": json.dumps(tilts.json, sort_keys=True)}


def test_kill_9_during_any_stage_ends_with_the_tomogram_of_an_undisturbed_run(tmp_path: Path) -> None:
    source, home = tmp_path / "tilts", tmp_path / "home"
    made = tomofly(
        home, "simulate", "tomo", "--out", source, "--detector", "160x152", "--pixel", "16", "--frames", "2",
        "--set", "tilt_range_deg=[-30, 30]", "--set", "tilt_step_deg=10", "--set", "thickness_angstrom=600",
    )  # fmt: skip
    assert made.status == 0, made.err
    chance = random.Random(5)
    disturbed = tmp_path / "disturbed"
    for pattern, count in MOMENTS:
        command = [sys.executable, "-m", "tomofly.cli", *_arguments(source, disturbed)]
        process = subprocess.Popen(
            command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        kill_when(process, disturbed, (pattern, count), chance)
    done = tomofly(home, *_arguments(source, disturbed), timeout=400)
    assert done.status == 0, done.err
    quiet = tmp_path / "quiet"
    undisturbed = tomofly(home, *_arguments(source, quiet), timeout=400)
    assert undisturbed.status == 0, undisturbed.err
    ours, theirs = _results(home, disturbed), _results(home, quiet)
    assert any(name.startswith("tomogram/") and name.endswith(".mrc") for name in ours)
    assert ours == theirs
    leftovers = [path for path in (disturbed / ".work").rglob("*") if path.is_file()]
    assert not [path for path in leftovers if "dask" not in path.parts]
