"""What goes wrong at a beamline, one thing after the other, and the live program that goes on."""

import math
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from p4p import Type, Value
from p4p.client.thread import RemoteError
from p4p.server.thread import SharedPV

from tests.acceptance.commands import tomofly
from tests.acceptance.live_bench import LiveBench, Status, live_bench, log_events, warnings_of
from tests.live.pva_camera import CHANNEL, PvaCamera
from tomofly.formats.ntndarray import make_ndarray
from tomofly.model import TomoflyError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FIRST_ID = 65_300


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBench]:
    """A beamline whose camera counts with 16 bits, soon at their end, and the live program."""
    folder = tmp_path_factory.mktemp("faults")
    with live_bench(folder, "fa") as made:
        made.camera = made.beamline("--wrap16", "--first-id", str(FIRST_ID))
        made.program = made.live(made.settings())
        yield made


@pytest.fixture(scope="module")
def streaming(bench: LiveBench) -> Status:
    """Projections come, before any dark or flat was taken."""
    bench.start("dark_field_mode=None", "flat_field_mode=None", "step=3")
    return bench.until(lambda s: s["reconstruction"]["losses"].get("no_fields", 0) > 10)


def _slices(status: Status, more: int = 0) -> bool:
    return bool(status["reconstruction"]["projections"] > more)


def _picture(bench: LiveBench) -> np.ndarray:
    return np.asarray(bench.client.get("StreamRecon", stream=True))


def test_without_dark_and_flat_nothing_is_made_up_and_the_status_says_what_to_do(
    bench: LiveBench, streaming: Status
) -> None:
    assert streaming["reconstruction"]["projections"] == 0
    assert {"There is no dark field, so nothing is reconstructed",
            "There is no flat field, so nothing is reconstructed"} <= {
        alert["what"] for alert in streaming["alerts"]}  # fmt: skip
    assert "tomofly live retake flat" in {alert["do"] for alert in streaming["alerts"]}
    bench.client.retake("dark", wait_s=40)
    bench.client.retake("flat", wait_s=40)
    whole = bench.until(lambda s: _slices(s, 50))
    assert "dark field" not in warnings_of(whole)


@pytest.fixture(scope="module")
def whole(bench: LiveBench, streaming: Status) -> Status:
    """There are slices."""
    for kind in ("dark", "flat"):
        if not bench.client.status()["fields"][kind]["version"]:
            bench.client.retake(kind, wait_s=40)
    return bench.until(lambda s: _slices(s, 50))


def test_ids_of_16_bits_wrap_and_every_frame_is_accounted_for(bench: LiveBench, whole: Status) -> None:
    frames = bench.until(lambda s: s["frames"]["last"] > 65_600)["frames"]
    assert frames["first"] >= FIRST_ID
    assert frames["restarts"] == 0
    assert frames["received"] + frames["missing"] == frames["last"] - frames["first"] + 1


def test_doubles_wrong_order_and_losses_are_told_apart(bench: LiveBench, whole: Status) -> None:
    before = bench.soon()["frames"]
    bench.put(":Sim:Duplicate", 1)
    bench.until(lambda s: s["frames"]["duplicates"] == before["duplicates"] + 1)
    bench.put(":Sim:Swap", 1)
    bench.until(lambda s: s["frames"]["late"] == before["late"] + 1)
    bench.put(":Sim:DropPeriod", 20)
    bench.put(":Sim:DropBurst", 3)
    bench.put(":Sim:DropMode", 3)
    bench.watch(f"{bench.name}:Sim:Dropped_RBV", lambda count: count >= 9)
    bench.put(":Sim:DropMode", 0)
    lost = int(bench.get(":Sim:Dropped_RBV"))
    after = bench.until(lambda s: s["frames"]["missing"] >= before["missing"] + lost)["frames"]
    assert after["missing"] == before["missing"] + lost
    assert after["duplicates"] == before["duplicates"] + 1
    assert after["received"] + after["missing"] == after["last"] - after["first"] + 1


@pytest.mark.parametrize(("blank", "which"), [(1, "zero"), (2, "saturated")])
def test_frames_without_content_leave_finite_slices(
    bench: LiveBench, whole: Status, blank: int, which: str
) -> None:
    bench.put(":Sim:Blank", blank)
    before = bench.soon()["frames"]["received"]
    bench.until(lambda s: s["frames"]["received"] > before + 30)
    assert np.isfinite(_picture(bench)).all(), which
    bench.put(":Sim:Blank", 0)
    before = bench.soon()["frames"]["received"]
    status = bench.until(lambda s: s["frames"]["received"] > before + 60)
    assert not status["program"]["troubles"]
    assert status["reconstruction"]["losses"].get("failed", 0) == 0
    assert np.isfinite(_picture(bench)).all()


def test_no_nan_and_no_centre_beyond_the_detector_gets_in(bench: LiveBench, whole: Status) -> None:
    before = bench.client.get("Center", stream=True)
    for value in (math.nan, math.inf, -1.0, 52.0):
        with pytest.raises(RemoteError):
            bench.pva.put(bench.stream + "Center", value, timeout=20)
        assert bench.client.get("Center", stream=True) == before
    for assignment, why in (("center=nan", "nan"), ("center=52", "51"), ("exposure=nan", "nan")):
        refused = tomofly(bench.folder, "live", "set", assignment, "--config", bench.folder / "live.toml")
        assert refused.status != 0
        assert why in refused.err
    assert np.isfinite(_picture(bench)).all()


def test_two_who_write_the_same_pv_end_with_one_value_and_slices_of_it(
    bench: LiveBench, whole: Status
) -> None:
    refusals: list[str] = []

    def write(rows: range) -> None:
        for row in rows:
            try:
                bench.client.set([f"ortho_z={row}"])
            except TomoflyError as refusal:
                refusals.append(str(refusal))

    writers = [threading.Thread(target=write, args=(rows,)) for rows in (range(5, 20), range(30, 15, -1))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert all("somebody else" in refusal for refusal in refusals)
    row = int(bench.client.get("OrthoZ", stream=True))
    assert row in (16, 19)

    bench.watch(bench.stream + "StreamRecon", lambda image: image.attrib.get("idz") == row)


def test_another_type_needs_dark_and_flat_of_its_own(bench: LiveBench, whole: Status) -> None:
    before = bench.soon()
    bench.put("SP:cam1:DataType", 1)  # UInt8
    changed = bench.until(lambda s: s["camera"]["dtype"] == "uint8")
    assert changed["camera"]["changes"] == before["camera"]["changes"] + 1
    lost = before["reconstruction"]["losses"].get("no_fields", 0)
    status = bench.until(lambda s: s["reconstruction"]["losses"].get("no_fields", 0) > lost + 10)
    assert "No dark and flat field fit" in warnings_of(status)
    for kind in ("dark", "flat"):
        bench.client.retake(kind, wait_s=40)
    middle = _middle_of_a_new_half_turn(bench)
    bench.put("SP:cam1:DataType", 3)  # UInt16
    bench.until(lambda s: s["camera"]["dtype"] == "uint16")
    assert _middle_of_a_new_half_turn(bench) == pytest.approx(middle, rel=0.2)


def _middle_of_a_new_half_turn(bench: LiveBench) -> float:
    """Give the mean in the middle of the level slice, 1/px, of projections that all are yet to come."""
    before = bench.soon()["frames"]["received"]
    bench.until(lambda s: s["frames"]["received"] > before + 70 and s["reconstruction"]["projections"] > 50)
    image = bench.pva.get(bench.stream + "StreamReconZ", timeout=20)
    return float(np.asarray(image)[20:32, 20:32].mean())


def test_another_size_begins_anew_and_the_old_fields_come_back_with_the_old_size(
    bench: LiveBench, whole: Status
) -> None:
    bench.put("SP:cam1:SizeX", 40)
    status = bench.until(lambda s: s["camera"]["shape_yx"] == [36, 40])
    lost = status["reconstruction"]["losses"].get("no_fields", 0)
    status = bench.until(lambda s: s["reconstruction"]["losses"].get("no_fields", 0) > lost + 5)
    assert "No dark and flat field fit" in warnings_of(status)
    for kind in ("dark", "flat"):
        bench.client.retake(kind, wait_s=40)
    bench.watch(bench.stream + "StreamRecon", lambda image: np.asarray(image).shape == (40, 120))
    bench.put("SP:cam1:SizeX", 52)
    bench.watch(bench.stream + "StreamRecon", lambda image: np.asarray(image).shape == (52, 156))


def test_another_rate_is_followed(bench: LiveBench, whole: Status) -> None:
    bench.put("SP:cam1:FrameRate", 20)
    bench.until(lambda s: abs(s["camera"]["frames_per_s"] - 20) < 2)
    # A ring that still fills passes through such a number as well, without going all the way round.
    slow = bench.until(
        lambda s: (
            25 < s["reconstruction"]["projections"] < 40 and s["reconstruction"]["coverage_percent"] > 95
        )
    )
    bench.put("SP:cam1:FrameRate", 40)
    bench.until(lambda s: abs(s["camera"]["frames_per_s"] - 40) < 4)
    assert bench.until(lambda s: _slices(s, 50))["frames"]["restarts"] == slow["frames"]["restarts"] == 0


@pytest.fixture
def small_disk(bench: LiveBench) -> Iterator[Path]:
    """A disk of 24 MiB."""
    folder = bench.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    bench.client.set(["file_path="])
    subprocess.run(["umount", str(folder)], check=True)


def test_a_capture_into_a_disk_that_fills_up_ends_with_a_whole_file(
    bench: LiveBench, whole: Status, small_disk: Path
) -> None:
    bench.client.set([f"file_path={small_disk}"])
    with pytest.raises(TomoflyError, match="GB may be used"):
        bench.client.capture(20_000, 0, wait_s=20)
    bench.client.capture(2000, 0)
    bench.until(lambda s: s["capture"]["captured"] > 20)
    (small_disk / "of others").write_bytes(bytes(14 << 20))
    status = bench.until(lambda s: s["capture"]["state"] in ("Idle", "Failed") and s["capture"]["file"] != "")
    path = Path(status["capture"]["file"])
    assert path.parent == small_disk
    with h5py.File(path) as file:
        images = file["/exchange/data"]
        assert 20 < len(images) < 2000
        assert np.all(np.diff(file["/defaults/NDArrayUniqueId"][:].astype(np.int64)) > 0)
        assert images[-1].max() > 0
    assert not list(small_disk.glob("*.part"))
    assert "ended early" in bench.client.status()["collection"]["notice"]
    frames = bench.soon()["frames"]
    bench.until(lambda s: s["frames"]["received"] > frames["received"] + 20)


def test_a_camera_that_stands_still_for_a_while_goes_on(bench: LiveBench, whole: Status) -> None:
    """Its process sleeps for some seconds, as on a machine that swaps; nothing is lost in the account."""
    bench.camera.process.send_signal(signal.SIGSTOP)
    try:
        bench.until(lambda s: s["camera"]["frames_per_s"] < 0.5)
    finally:
        bench.camera.process.send_signal(signal.SIGCONT)
    bench.until(lambda s: s["camera"]["frames_per_s"] > 30)
    frames = bench.soon()["frames"]
    assert frames["restarts"] == 0
    assert frames["received"] + frames["missing"] == frames["last"] - frames["first"] + 1


def test_kill_9_in_the_middle_of_a_capture_leaves_a_whole_file_and_a_line_in_the_log(
    bench: LiveBench, whole: Status
) -> None:
    captures = bench.folder / "captures"
    before = set(captures.glob("*"))
    bench.client.capture(5000, 0)
    bench.until(lambda s: s["capture"]["captured"] > 60)
    bench.program.process.send_signal(signal.SIGKILL)
    bench.program.end()
    (left,) = set(captures.glob("*")) - before
    assert left.suffix == ".part"
    bench.program = bench.live(bench.folder / "live.toml")
    bench.until(lambda s: _slices(s, 50))
    lines = [line for line in log_events(bench.folder) if line["event"] == "a killed capture is recovered"]
    (path,) = set(captures.glob("*.h5")) - before
    assert [line["file"] for line in lines] == [path.name]
    assert not left.exists()
    with h5py.File(path) as file:
        ids = file["/defaults/NDArrayUniqueId"][:].astype(np.int64)
        assert len(file["/exchange/data"]) == len(ids) == lines[0]["frames"] >= 50
        assert np.all(np.diff(ids) == 1)
        assert file["/exchange/data_white"].shape[0] == 4
        assert file["/exchange/data_dark"].shape[0] == 3


# A camera of the test's own, of which nobody knows more than the images: what no simulated beamline sends.

SHAPE = (6, 24)
FIELD = Type([("value", "af"), ("sizex", "i"), ("sizey", "i")])
THETA = Type([("value", "af"), ("sizex", "i")])
ELSEWHERE = "el:TomoScanStream:"
BARE = """
[prefixes]
scan = "ba:TomoScanStream:"
stream = "ba:TomoStream:"
[camera]
image = "{channel}"
[collection]
enabled = false
foreign = "{elsewhere}"
[reconstruction]
memory_gb = 0.1
threads = 1
backend = "cpu"
[service]
status_s = 0.2
"""


class Elsewhere:
    """Images, dark, flat and angles of another tomoScanStream, in the structures that it sends."""

    def __init__(self, configuration: dict[str, str]) -> None:
        self.fields = {kind: SharedPV(initial=Value(FIELD, {})) for kind in ("Dark", "Flat")}
        self.angles = SharedPV(initial=Value(THETA, {}))
        self._configuration = configuration
        self.camera = self._open()

    def _open(self) -> PvaCamera:
        channels = {f"{ELSEWHERE}Stream{kind}Fields": pv for kind, pv in self.fields.items()}
        return PvaCamera(self._configuration, **channels, **{f"{ELSEWHERE}StreamTheta": self.angles})

    def field(self, kind: str, level: float) -> None:
        rows, columns = SHAPE
        value = np.full(rows * columns, level, np.float32)
        self.fields[kind].post(Value(FIELD, {"value": value, "sizex": columns, "sizey": rows}))

    def theta(self, angles: np.ndarray) -> None:
        self.angles.post(Value(THETA, {"value": angles.astype(np.float32), "sizex": len(angles)}))

    def send(self, ids: range) -> None:
        image = np.full(SHAPE, 500, np.uint16)
        image[:, 8:16] = 300
        for unique_id in ids:
            self.camera.send(unique_id, image)

    def restart(self) -> None:
        self.camera = self._open()


@pytest.fixture(scope="module")
def elsewhere(bench: LiveBench) -> Iterator[Elsewhere]:
    with_ports = {name: value for name, value in bench.variables.items() if name.startswith("EPICS_PVA")}
    made = Elsewhere(with_ports | {"EPICS_PVAS_SERVER_PORT": "0"})
    settings = bench.folder / "bare" / "live.toml"
    settings.parent.mkdir()
    settings.write_text(BARE.format(channel=CHANNEL, elsewhere=ELSEWHERE))
    bench.live(settings)
    yield made
    made.camera.close()


def _bare(bench: LiveBench, wanted: Any) -> Status:
    return bench.until(wanted, stream="ba:TomoStream:")


def test_a_dark_brighter_than_the_flat_is_refused_and_said(bench: LiveBench, elsewhere: Elsewhere) -> None:
    elsewhere.field("Flat", 500)
    _bare(bench, lambda s: s["fields"]["flat"]["version"] == 1)
    elsewhere.field("Dark", 900)
    status = _bare(bench, lambda s: s["fields"]["refusals"])
    assert "as bright as the flat field" in warnings_of(status)
    assert status["fields"]["dark"]["version"] == 0
    elsewhere.field("Dark", 100)
    _bare(bench, lambda s: s["fields"]["dark"]["version"] == 1)


def test_frames_beyond_the_list_of_angles_have_none_and_are_counted(
    bench: LiveBench, elsewhere: Elsewhere
) -> None:
    elsewhere.theta(1.8 * np.arange(100))
    _bare(bench, lambda s: s["camera"]["connected"])
    elsewhere.send(range(150))
    status = _bare(
        bench, lambda s: s["frames"]["received"] == 150 and s["reconstruction"]["projections"] == 100
    )
    assert status["camera"]["flags"]["no angle: the broadcast list is too short"] == 50
    assert status["reconstruction"]["losses"]["no_angle"] == 50
    assert status["reconstruction"]["coverage_percent"] == pytest.approx(100)
    assert "angle" in warnings_of(status)


def test_an_unknown_codec_is_named_and_the_next_frame_is_well(bench: LiveBench, elsewhere: Elsewhere) -> None:
    unknown = make_ndarray(np.zeros(SHAPE, np.uint16), unique_id=150, time=2e9)
    unknown.codec.name = "zfp"
    elsewhere.camera.pv.post(unknown)
    status = _bare(bench, lambda s: s["frames"]["received"] == 151)
    assert "zfp" in status["camera"]["problem"]
    assert "zfp" in warnings_of(status)
    assert status["frames"]["lost"] == {"unreadable": 1}
    elsewhere.send(range(151, 152))
    assert _bare(bench, lambda s: s["frames"]["received"] == 152)["camera"]["problem"] == ""


def test_a_server_that_is_gone_while_its_camera_goes_on_is_found_again(
    bench: LiveBench, elsewhere: Elsewhere
) -> None:
    elsewhere.camera.close()
    gone = _bare(bench, lambda s: not s["camera"]["connected"])
    assert f"{CHANNEL} is not there" in warnings_of(gone)
    _bare(bench, lambda s: s["time"] > gone["time"] + 4)
    elsewhere.restart()
    _bare(bench, lambda s: s["camera"]["connected"] or elsewhere.send(range(400, 401)))
    elsewhere.send(range(401, 411))
    frames = _bare(bench, lambda s: s["frames"]["last"] == 410)["frames"]
    assert frames["received"] + frames["missing"] == 411
    assert frames["missing"] >= 248
    assert frames["restarts"] == 0
