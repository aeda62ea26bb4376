"""A session at the simulated beamline: turning in both ways, retakes, a second program, events, volumes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.acceptance.commands import tomofly
from tests.acceptance.live_bench import LiveBench, Status, live_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROWS, COLUMNS = 24, 96
CENTRE = 49.25
QUIET = (
    "bubble=false", "zingers_per_s=0", "drift=0", "ring_columns=0", "ring_pixels=0",
    "open_beam_photons=200000", "crack_seconds=1",
)  # fmt: skip
TRIGGER = f"""
[[triggers]]
name = "crack"
frames = 60
pre = 120

[triggers.measure]
kind = "objects"
source = "slice_z"
region = [29, 29, 67, 67]
threshold = "value"
value = {0.25 / (0.8 * COLUMNS)}
side = "dark"
quantity = "largest"
least_area_px = 8

[triggers.rule]
threshold = 14
consecutive = 3
budget = 1

[[triggers]]
name = "absorption"

[triggers.measure]
kind = "region"
source = "projection"
region = [8, 40, 16, 56]

[triggers.rule]
threshold = 5.0
dry_run = true

[[triggers]]
name = "sharpness"

[triggers.measure]
kind = "metric"
name = "sharpness_z"

[triggers.rule]
threshold = 5.0
dry_run = true
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBench]:
    folder = tmp_path_factory.mktemp("session")
    quiet = [word for setting in QUIET for word in ("--set", setting)]
    with live_bench(folder, "se") as made:
        made.beamline("--size", f"{ROWS}x{COLUMNS}", "--centre", str(CENTRE), *quiet)
        made.live(made.settings(more=f'TriggerArmed = "No"\n{TRIGGER}'))
        yield made


@pytest.fixture(scope="module")
def whole(bench: LiveBench) -> Status:
    """The sample turns on and on, and the slices are whole."""
    bench.start(f"center={CENTRE}", "filter=shepp-logan")
    return bench.until(lambda s: s["reconstruction"]["projections"] >= 180)


def _told(image: Any) -> dict[str, Any]:
    """Give the attributes of an image as it comes."""
    return dict(image.attrib)


def _slice(bench: LiveBench, stream: str | None = None) -> np.ndarray:
    return np.asarray(bench.pva.get(f"{stream or bench.stream}StreamReconZ", timeout=20))


def _likeness(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Compare within the field of view: rms difference over the deviation, and ratio of the means."""
    y, x = np.mgrid[:COLUMNS, :COLUMNS] - COLUMNS // 2
    inside = x * x + y * y < (0.45 * COLUMNS) ** 2
    a, b = one[inside], other[inside]
    return float(np.std(a - b) / np.std(b)), float(a.mean() / b.mean())


def test_the_volume_of_a_capture_is_what_the_live_slices_show(
    bench: LiveBench, whole: Status, tmp_path: Path
) -> None:
    path = Path(bench.client.capture(180, 0, wait_s=40))
    live = _slice(bench)
    done = tomofly(
        tmp_path / "home", "run", "xct", "--source", path, "--out", tmp_path / "session", "--once", "--json",
        "--set", "source.settle_s=0", "--set", "resources.minimum_free_gb=0", "--set", "resources.workers=1",
        "--set", "volume.filter=shepp_logan", "--set", "volume.ring_removal=none",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert done.json["metrics"]["scan_centre.centre_px"]["median"] == pytest.approx(CENTRE, abs=0.3)
    (volume,) = (tmp_path / "session" / "volume").glob("*.h5")
    with h5py.File(volume) as file:
        batch = file["exchange/data"][ROWS // 2]
    difference, ratio = _likeness(live, batch)
    assert difference < 0.1
    assert ratio == pytest.approx(1, abs=0.02)


def test_what_is_asked_for_at_a_terminal_is_done(bench: LiveBench, whole: Status) -> None:
    def live(*words: str) -> str:
        done = tomofly(bench.folder, "live", *words, "--config", bench.folder / "live.toml")
        assert done.status == 0, done.err
        return done.out

    assert live("set", "ortho_z=9", "rot_x=30").split() == ["ortho_z=9", "rot_x=30.0"]
    bench.watch(
        f"{bench.stream}StreamReconX", lambda image: (_told(image)["idz"], _told(image)["RotX"]) == (9, 30)
    )
    live("set", f"ortho_z={ROWS // 2}", "rot_x=0")
    path = Path(live("capture", "--frames", "12", "--pre", "8", "--wait").strip())
    with h5py.File(path) as file:
        assert np.all(np.diff(file["/defaults/NDArrayUniqueId"][()]) == 1)
        assert len(file["/exchange/data"]) == 20
    versions = bench.soon()["fields"]["dark"]["version"]
    live("retake", "dark", "--wait")
    status = json.loads(live("status", "--json"))
    assert status["collection"]["phase"] == "Streaming"
    assert bench.soon()["fields"]["dark"]["version"] == versions + 1
    assert "Streaming" in live("status")


def test_a_small_volume_is_shown_too(bench: LiveBench, whole: Status) -> None:
    def is_a_volume(image: Any) -> bool:
        depth, height, width = np.asarray(image).shape if np.asarray(image).ndim == 3 else (0, 0, 0)
        return depth < height == width == 16

    bench.watch(f"{bench.stream}StreamReconVolume", is_a_volume)


def test_another_program_is_told_dark_flat_and_angles(bench: LiveBench, whole: Status) -> None:
    """It drives nothing, and comes when dark and flat were taken long ago: it has them by broadcast."""
    settings = bench.folder / "second" / "live.toml"
    bench.settings(settings.parent)
    text = settings.read_text().replace(bench.stream, "se2:TomoStream:")
    text = text.replace(f'scan = "{bench.scan}"', 'scan = "se2:TomoScanStream:"')
    text += f'[collection]\nenabled = false\nforeign = "{bench.scan}"\n'
    settings.write_text(text)
    second = bench.live(settings)
    other = "se2:TomoStream:"
    status = bench.until(lambda s: s["reconstruction"]["projections"] >= 170, stream=other)
    assert status["collection"]["drives"] is False
    first = bench.soon()
    for kind in ("dark", "flat"):
        assert status["fields"][kind]["version"] == 1
    bench.pva.put(f"{other}Center", CENTRE, timeout=20)
    bench.pva.put(f"{other}FilterType", 1, timeout=20)

    def as_the_first(image: Any) -> bool:
        told = _told(image)
        return (told.get("Center"), told.get("Filter"), told.get("Stage")) == (
            CENTRE,
            "shepp_logan",
            "running",
        )

    bench.watch(f"{other}StreamReconZ", as_the_first)
    difference, ratio = _likeness(_slice(bench, other), _slice(bench))
    assert difference < 0.1
    assert ratio == pytest.approx(1, abs=0.02)
    bench.client.retake("flat", wait_s=40)
    newer = bench.until(lambda s: s["fields"]["flat"]["version"] > 1, stream=other)
    assert newer["fields"]["flat"]["version"] >= first["fields"]["flat"]["version"]
    assert second.end() == 0
    assert bench.soon()["collection"]["phase"] == "Streaming"


def _angles_agree(bench: LiveBench) -> bool:
    """Compare the angle that the next frame tells with that of the broadcast list, within a step or two."""
    theta = bench.pva.get(bench.scan + "StreamTheta", timeout=20)
    told: list[tuple[int, float]] = []

    def note(image: Any) -> bool:
        told.append((image.raw.uniqueId, _told(image)["RotationAngle"]))
        return len(told) > 3

    bench.watch(f"{bench.name}SP:Pva1:Image", note)
    unique_id, angle = told[-1]
    place = unique_id - int(theta.firstProjid)
    assert 0 <= place < len(theta.value), "the list reaches to the newest frame"
    off = abs(float(theta.value[place]) - angle) % 360
    return min(off, 360 - off) < 3


def _sync(bench: LiveBench, *assignments: str) -> Status:
    bench.client.set(assignments)
    bench.pva.put(bench.scan + "StreamSync", 1, timeout=20)
    return bench.until(
        lambda s: (
            s["collection"]["phase"] == "Streaming" and not int(bench.client.get("StreamSync", stream=False))
        )
    )


def test_exposure_and_step_change_while_the_sample_turns_on_and_on(bench: LiveBench, whole: Status) -> None:
    assert _angles_agree(bench)
    first = int(bench.client.get("FirstProjid", stream=False))
    missing = bench.soon()["frames"]["missing"]
    _sync(bench, "step=2", "exposure=0.008")
    assert bench.get(":m1.JVEL") == pytest.approx(80, rel=0.01)
    assert bench.get("SP:cam1:AcquireTime_RBV") == pytest.approx(0.008)
    assert int(bench.client.get("FirstProjid", stream=False)) > first
    assert _angles_agree(bench)
    status = bench.soon()
    assert status["frames"]["missing"] == missing
    _sync(bench, "step=1", "exposure=0.01")
    assert bench.get(":m1.JVEL") == pytest.approx(40, rel=0.01)
    bench.until(lambda s: s["reconstruction"]["projections"] >= 175)


def test_no_event_no_capture_and_an_event_is_captured_with_what_was_before(
    bench: LiveBench, whole: Status
) -> None:
    journal = bench.folder / "triggers" / "decisions.jsonl"
    captures = len(list((bench.folder / "captures").glob("*.h5")))
    bench.client.set(["trigger_armed=Yes"])
    begun = bench.soon()
    bench.until(lambda s: s["frames"]["received"] > begun["frames"]["received"] + 150)
    quiet = bench.client.status()
    assert quiet["triggers"][0]["captures"] == 0
    crack, absorption, sharpness = (trigger["value"] for trigger in quiet["triggers"])
    assert crack < 14
    assert 0.5 < absorption < 1.5, "it is 1 through the middle of the sample"
    assert 0 < sharpness < 1
    assert not journal.exists() or '"fired"' not in journal.read_text()
    assert len(list((bench.folder / "captures").glob("*.h5"))) == captures
    before = quiet["capture"]["file"]
    bench.put(":Sim:StartEvent", 1)
    status = bench.until(lambda s: s["capture"]["file"] != before and s["capture"]["state"] == "Idle")
    assert [trigger["captures"] for trigger in status["triggers"]] == [1, 0, 0]
    opened_at = bench.get(":Sim:EventBegins_RBV")
    with h5py.File(status["capture"]["file"]) as file:
        times = file["/defaults/NDArrayTimeStamp"][()]
        ids = file["/defaults/NDArrayUniqueId"][()]
    assert len(times) == 180
    assert np.all(np.diff(ids) == 1), "no gap between what was before and what follows"
    assert times[0] < times[-1]
    assert times[-1] > opened_at
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    fired = [line for line in lines if line["verdict"] == "fired"]
    assert len(fired) == 1
    assert (journal.parent / fired[0]["picture"]).exists()


def test_a_retake_that_is_aborted_brings_the_sample_back(bench: LiveBench, whole: Status) -> None:
    bench.client.retake("flat")
    bench.watch(f"{bench.name}:m2.RBV", lambda at: at > 0.2)
    bench.pva.put(bench.scan + "AbortScan", 1, timeout=20)
    bench.until(lambda s: s["collection"]["phase"] == "Idle")
    assert bench.get(":m2.RBV") == pytest.approx(0, abs=0.01)
    assert bench.get(":m2.DMOV") == 1
    assert bench.get(":A_shutter:status") == 0
    assert bench.get("SP:cam1:Acquire") == 0
    for name in ("StartScan", "StreamRetakeFlat"):
        assert int(bench.client.get(name, stream=False)) == 0


def _watch_rotation(bench: LiveBench, place_deg: float) -> None:
    """Wait until the stage is near a place, whatever the number of its turns."""
    bench.watch(f"{bench.name}:m1.RBV", lambda at: abs(at % 360 - place_deg) < 12)


def test_to_and_fro(bench: LiveBench, whole: Status) -> None:
    """The stage turns round at both ends; a new step is taken over where it does."""
    if bench.client.status()["collection"]["phase"] != "Idle":
        bench.client.abort()
        bench.until(lambda s: s["collection"]["phase"] == "Idle")
    began = time.time()
    bench.start(
        "stream_scan_type=backforth", "num_angles=91", "step=2", "dark_field_mode=None",
        "flat_field_mode=None",
    )  # fmt: skip
    bench.until(lambda s: s["collection"]["phase"] == "Streaming" and s["time"] > began)
    for place in (170, 10, 100):
        _watch_rotation(bench, place)
    assert _angles_agree(bench)
    theta = bench.pva.get(bench.scan + "StreamTheta", timeout=20).value
    assert len(theta) == 182
    assert max(theta) == pytest.approx(180) and min(theta) == pytest.approx(0)
    bench.until(lambda s: s["reconstruction"]["coverage_percent"] > 99)
    _sync(bench, "step=1", "num_angles=181")
    assert bench.get(":m1.VELO") == pytest.approx(40, rel=0.01)
    _watch_rotation(bench, 100)
    assert _angles_agree(bench)
    status = bench.soon()
    assert status["collection"]["phase"] == "Streaming"
    assert np.isfinite(_slice(bench)).all()
