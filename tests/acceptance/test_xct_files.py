"""A session of scan files, by the command line alone: right volumes, whatever comes, and however it ends."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.acceptance.commands import Done, environment, tomofly
from tests.acceptance.killing import digests, kill_when, lasting
from tomofly.simulate.beamline import BeamlineConfig, BeamlineTruth, ScanPlan, true_slice, write_scan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = BeamlineConfig(
    detector_yx_px=(26, 120), seed=4, centre_px=63.4, pixel_size_um=3.0, zingers_per_s=0.0, drift=0.0,
    open_beam_photons=60000.0, bubble=False,
)  # fmt: skip
PLAN = ScanPlan(projections=150, flats=8, darks=6)
STAGES = ("scan", "scan_centre", "volume")
SETTINGS = (
    "source.settle_s=0.3", "source.poll_s=0.2", "source.give_up_s=1", "resources.minimum_free_gb=0",
    "resources.workers=2", "volume.threads=1",
)  # fmt: skip
OF_SPEED = "seconds_per_slice"


def _arguments(source: str, out: Path, *settings: str, end: tuple[str, ...] = ("--once",)) -> list[str]:
    chosen = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return ["run", "xct", "--source", source, "--out", str(out), *end, "--json", *chosen]


def _run(home: Path, source: str, out: Path, *settings: str) -> Done:
    return tomofly(home, *_arguments(source, out, *settings))


def _items(home: Path, out: Path) -> list[dict[str, Any]]:
    done = tomofly(home, "session", "items", out.name, "--json")
    assert done.status == 0, done.err
    rows: list[dict[str, Any]] = done.json["items"]
    return rows


def _results(home: Path, out: Path) -> dict[str, str]:
    """Every product with its digest, and every number of every scan."""
    numbers = {row["key"]: lasting(row, OF_SPEED, "acquired_at", "source") for row in _items(home, out)}
    return digests(out, STAGES) | numbers


def _write_scans(folder: Path, count: int = 3) -> list[BeamlineTruth]:
    """Write scans of different specimens, the last as NXtomo."""
    folder.mkdir()
    truths = []
    for number in range(count):
        last = number == count - 1
        path = folder / (f"scan_{number}.nxs" if last else f"scan_{number}.h5")
        config = CONFIG.model_copy(update={"seed": number})
        truths.append(write_scan(config, path, PLAN, file_format="nxtomo" if last else "dx", started_at=0.0))
    return truths


def _correlation(out: Path, key: str, truth: BeamlineTruth, row: int) -> tuple[float, float]:
    """Compare a slice with the truth within the field of view: correlation, and ratio of the means."""
    with h5py.File(out / "volume" / f"{key}.h5") as file:
        image = file["exchange/data"][row]
        assert file["exchange/data"].attrs["units"] == "1/um"
    exact = true_slice(truth, PLAN.projections / PLAN.rate_hz / 2, "z", row)
    n = len(exact)
    y, x = np.mgrid[:n, :n] - n // 2
    inside = x * x + y * y < (0.42 * n) ** 2
    ratio = float(image[inside].mean() / exact[inside].mean())
    return float(np.corrcoef(image[inside], exact[inside])[0, 1]), ratio


def _write_bad(folder: Path) -> dict[str, tuple[str, ...]]:
    """Write scans that cannot be used; give what must be said of each."""
    whole = (folder / "scan_0.h5").read_bytes()
    (folder / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.h5").write_bytes(np.random.default_rng(0).bytes(200_000))
    (folder / "empty.h5").write_bytes(b"")
    (folder / "no_flats.h5").write_bytes(whole)
    with h5py.File(folder / "no_flats.h5", "a") as file:
        del file["exchange/data_white"]
    (folder / "shutter_open.h5").write_bytes(whole)
    with h5py.File(folder / "shutter_open.h5", "a") as file:
        file["exchange/data_dark"][...] = 65000
    with h5py.File(folder / "numbers.h5", "w") as file:
        file["something"] = np.arange(5)
    return {
        "truncated": ("truncated",), "noise": ("HDF5",), "empty": ("HDF5",), "no_flats": ("flat",),
        "shutter_open": ("shutter",), "numbers": ("Data Exchange", "NXtomo"),
    }  # fmt: skip


def test_good_scans_become_right_volumes_beside_bad_ones(tmp_path: Path) -> None:
    truths = _write_scans(tmp_path / "scans")
    bad = _write_bad(tmp_path / "scans")
    home, out = tmp_path / "home", tmp_path / "session"
    done = _run(home, str(tmp_path / "scans" / "*"), out, "source.ignore=*.json")
    assert done.status == 1, done.err
    assert (done.json["done"], done.json["failed"]) == (3, len(bad))
    assert done.json["accuracy"]["worst_centre_error_px"] < 0.3
    reasons = {failure["item"].removesuffix(".h5"): failure["reason"] for failure in done.json["failures"]}
    for name, words in bad.items():
        assert all(word in reasons[name] for word in words), (name, reasons[name])
    for truth, name in zip(truths, ("scan_0.h5", "scan_1.h5", "scan_2.nxs"), strict=True):
        row = next(row for row in _items(home, out) if row["key"] == name)
        assert row["centre_px"] == pytest.approx(CONFIG.centre_px, abs=0.3)
        assert row["projections"] == PLAN.projections and row["voxel_size_um"] == 3.0
        for height in (5, 20):
            correlation, ratio = _correlation(out, name, truth, height)
            assert correlation > 0.9 and ratio == pytest.approx(1, abs=0.05)


def test_a_setting_redoes_what_depends_on_it_and_retrying_the_rest(tmp_path: Path) -> None:
    _write_scans(tmp_path / "scans", 2)
    source, home, out = str(tmp_path / "scans" / "*.h5"), tmp_path / "home", tmp_path / "session"
    assert _run(home, source, out).status == 0
    before = digests(out, STAGES)
    assert _run(home, source, out, "volume.filter=hann").status == 0
    after = digests(out, STAGES)
    assert {name for name in before if before[name] != after[name]} == {
        "volume/scan_0.h5",
        "volume/scan_0.webp",
    }
    refused = _run(home, source, out, "scan_centre.method=fixed", "scan_centre.centre_px=500")
    assert refused.status == 1 and "500" in refused.json["failures"][0]["reason"]
    again = _run(home, source, out, "scan_centre.centre_px=63.5")
    assert again.status == 0 and again.json["metrics"]["scan_centre.centre_px"]["median"] == 63.5


def _grow(source: Path, target: Path) -> None:
    """Copy a file in pieces under its final name, as a slow network does."""
    raw = source.read_bytes()
    with target.open("wb") as file:
        for begin in range(0, len(raw), len(raw) // 5):
            file.write(raw[begin : begin + len(raw) // 5])
            file.flush()
            os.fsync(file.fileno())


def test_scans_that_come_while_it_runs_give_what_a_batch_gives(tmp_path: Path) -> None:
    _write_scans(tmp_path / "made")
    home, watched, streamed = tmp_path / "home", tmp_path / "watched", tmp_path / "streamed"
    watched.mkdir()
    pattern = str(watched / "scan_*")
    command = [
        sys.executable, "-m", "tomofly.cli",
        *_arguments(pattern, streamed, "source.ignore=*.json", end=("--idle-timeout", "6")),
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
        try:
            for name in ("scan_2.nxs", "scan_0.h5", "scan_1.h5"):
                _grow(tmp_path / "made" / name, watched / name)
            assert process.wait(timeout=240) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    batch = tmp_path / "batch"
    assert _run(home, pattern, batch, "source.ignore=*.json").status == 0
    assert _results(home, streamed) == _results(home, batch)


def test_kill_9_during_any_stage_ends_with_the_volumes_of_an_undisturbed_run(tmp_path: Path) -> None:
    _write_scans(tmp_path / "scans")
    for truth in (tmp_path / "scans").glob("*.json"):
        truth.unlink()
    source, home = str(tmp_path / "scans" / "*"), tmp_path / "home"
    chance = random.Random(3)
    disturbed = tmp_path / "disturbed"
    for pattern, count in (("scan/*.json", 1), ("volume/*.h5", 1), ("volume/*.h5", 2)):
        command = [sys.executable, "-m", "tomofly.cli", *_arguments(source, disturbed)]
        process = subprocess.Popen(
            command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        kill_when(process, disturbed, (pattern, count), chance)
    done = _run(home, source, disturbed)
    assert done.status == 0 and done.json["done"] == 3, done.err
    quiet = tmp_path / "quiet"
    assert _run(home, source, quiet).status == 0
    assert _results(home, disturbed) == _results(home, quiet)


@pytest.mark.real_data
def test_a_real_scan_is_reconstructed_and_exported(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(real_data / "xct_aps_tooth" / "tooth.h5", tmp_path / "in")
    home, out = tmp_path / "home", tmp_path / "tooth session"
    done = _run(home, str(tmp_path / "in" / "*.h5"), out)
    assert done.status == 0, done.err
    assert done.json["metrics"]["scan_centre.centre_px"]["median"] == pytest.approx(296, abs=0.5)
    exported = tomofly(
        home, "export", out.name, "--format", "tiff", "--pixels", "uint16", "--out", tmp_path / "e"
    )
    assert exported.status == 0, exported.err
    assert json.loads((tmp_path / "e" / "volumes.json").read_text())["tooth"]["type"] == "uint16"
    assert len(list((tmp_path / "e").glob("tooth/*.tif"))) == 2
