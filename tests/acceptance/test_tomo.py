"""A tilt series from movies and mdoc to its tomogram, by the commands alone."""

from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.commands import tomofly
from tomofly.formats.mrc import read_image
from tomofly.simulate.tilt_truth import series_truth_beside

TILTS = 15


@pytest.fixture(scope="module")
def microscope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tilting") / "microscope"
    command = [
        "simulate", "tomo", "--out", str(folder), "--detector", "384x384", "--pixel", "8", "--frames", "2",
        "--set", "tilt_range_deg=[-42, 42]", "--set", "tilt_step_deg=6",
    ]  # fmt: skip
    made = tomofly(folder.parent / "home", *command)
    assert made.status == 0, made.err
    return folder


@pytest.mark.timeout(400)
def test_tilts_become_a_series_and_a_tomogram(microscope: Path) -> None:
    out = microscope.parent / "session"
    settings = (
        "microscope.pixel_size_angstrom=8", "source.settle_s=0.2", "resources.minimum_free_gb=0",
        "tilt_image.ctf_resolution_range_angstrom=60,17",
    )  # fmt: skip
    chosen = [word for setting in settings for word in ("--set", setting)]
    home, source = microscope.parent / "home", f"{microscope}/*.mrc"
    done = tomofly(home, "run", "tomo", "--source", source, "--out", out, "--once", "--json", *chosen)
    assert done.status == 0, done.err
    summary = done.json
    assert summary["done"] == 1 and summary["failed"] == 0
    assert summary["kinds"]["movie"] == {"items": TILTS, "done": TILTS, "failed": 0}
    truth = series_truth_beside(microscope, "TS_1")
    metrics = {name: value["median"] for name, value in summary["metrics"].items()}
    assert metrics["compose.tilts"] == TILTS and metrics["compose.provisional"] == 0
    assert metrics["compose.total_dose_e_per_a2"] == pytest.approx(3.0 * TILTS, rel=0.01)
    assert metrics["series_alignment.axis_angle_deg"] == pytest.approx(
        truth.microscope.axis_angle_deg, abs=1.0
    )
    assert metrics["series_alignment.tilt_offset_deg"] == pytest.approx(0.0, abs=2.0)
    volume, voxel = read_image(out / "tomogram" / "TS_1.mrc")
    assert volume.ndim == 3 and np.isfinite(volume).all() and volume.std() > 0
    assert voxel == pytest.approx(metrics["tomogram.voxel_size_angstrom"], rel=1e-4)
    assert {path.name for path in (out / "tomogram").iterdir()} >= {"TS_1.webp", "TS_1_slices.webp"}
