"""The live program as one process, on a simulated beamline: all through PVs, and through what goes wrong."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.live.conftest import ChannelAccess, Loopback, Serve, Server
from tests.live.live_bench import simulate, start_live, write_settings
from tomofly.live.client import LiveClient
from tomofly.model import TomoflyError

pytestmark = pytest.mark.slow

NAME = "pl"
STREAMING = 4
P, R = f"{NAME}:TomoScanStream:", f"{NAME}:TomoStream:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def beamline(serve: Serve) -> Server:
    return simulate(serve, NAME)


@pytest.fixture(scope="module")
def live(beamline: Server, serve: Serve, folder: Path) -> Server:
    return start_live(serve, write_settings(folder, NAME))


@pytest.fixture(scope="module")
def client(live: Server, epics: Loopback) -> Iterator[LiveClient]:
    with LiveClient(P, R, answer_s=20) as made:
        yield made


def until(client: LiveClient, ca: ChannelAccess, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for a status as wanted; a new one comes as often as the PV of received frames changes."""
    found: list[dict[str, Any]] = []

    def looked(_: object) -> bool:
        status = client.status()
        if wanted(status):
            found.append(status)
        return bool(found)

    ca.until(P + "Watchdog", looked, timeout=40)
    return found[-1]


@pytest.fixture(scope="module")
def streaming(client: LiveClient, ca: ChannelAccess) -> dict[str, Any]:
    ca.put(P + "StartScan", 1, wait=False)
    return until(client, ca, lambda s: s["reconstruction"]["projections"] > 60)


def test_start_brings_slices(streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess) -> None:
    assert streaming["collection"]["phase"] == "Streaming"
    assert streaming["fields"]["dark"]["version"] == streaming["fields"]["flat"]["version"] == 1
    assert streaming["frames"]["missing"] == 0
    assert streaming["camera"]["shape_yx"] == [36, 52]
    assert [alert for alert in streaming["alerts"] if alert["level"] == "problem"] == []
    image = np.asarray(client.get("StreamRecon", stream=True))
    assert image.shape == (52, 156)
    assert ca.get(R + "OrthoX") == 26
    assert ca.get(R + "Center") == pytest.approx(25.5)
    assert ca.get(P + "ServerRunning") == 1


def test_parameters_reach_the_slices(
    streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess
) -> None:
    client.set(["center=26.25", "ortho_z=7", "filter=hann"])
    until(client, ca, lambda s: s["reconstruction"]["centre"] == 26.25)


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("center=60", "from 0 to 51"),
        ("alpha=100", "pixel size"),
        ("rot_z=120", "rot_z"),
    ],
)
def test_what_reconstruction_refuses_goes_back(
    streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess, assignment: str, why: str
) -> None:
    name = {"center": "Center", "alpha": "Alpha", "rot_z": "RotZ"}[assignment.split("=", maxsplit=1)[0]]
    before = ca.get(R + name)
    with pytest.raises(TomoflyError) as refusal:
        client.set([assignment])
    assert why in str(refusal.value)
    assert name in str(refusal.value)
    assert ca.get(R + name) == before


def test_a_retake_and_a_capture(streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess) -> None:
    client.retake("flat", wait_s=40)
    assert ca.get(P + "StreamPhase") == STREAMING
    ca.until(P + "StreamPreCounted", lambda count: count > 10, timeout=20)
    path = Path(client.capture(20, 10, wait_s=40))
    with h5py.File(path) as file:
        assert file["/exchange/data"].shape == (30, 36, 52)
        ids = file["/defaults/NDArrayUniqueId"][:]
        assert np.all(np.diff(ids) > 0)
        assert len(file["/exchange/theta"]) == 30
        assert file["/exchange/data_white"].shape[0] >= 4
    assert json.loads(path.with_suffix(".config").read_text())[P]["NumAngles"] == 360
    assert ca.text(P + "StreamMessage") == "Done"
    assert ca.text(P + "FullFileName") == str(path)
    assert ca.get(P + "StreamNumTotalCaptured") == 30


def test_binning_is_of_what_is_streamed_and_captures_stay_whole(
    streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess
) -> None:
    client.set(["pixel_size=0.5", "center=26.25", "ortho_z=8", "binning=2x"])
    ca.until(R + "PixelSize", lambda size: size == 1.0, timeout=40)
    assert ca.get(R + "Center") == pytest.approx(26.75 / 2 - 0.5)
    assert ca.get(R + "OrthoZ") == 4
    binned = until(client, ca, lambda s: "begins anew" in "".join(s["reconstruction"]["messages"]))
    assert binned["camera"]["shape_yx"] == [36, 52]
    assert np.asarray(client.get("StreamRecon", stream=True)).shape == (26, 78)
    flat = client.get("StreamFlatFields", stream=False)
    assert (flat.sizex, flat.sizey, flat.binning, len(flat.value)) == (26, 18, 2, 26 * 18)
    with h5py.File(client.capture(5, 5, wait_s=40)) as file:
        assert file["/exchange/data"].shape == (10, 36, 52)
        place = "/measurement/instrument/detection_system/objective/resolution"
        assert file[place][0] == pytest.approx(0.5)
    client.set(["binning=1x"])
    ca.until(R + "PixelSize", lambda size: size == 0.5, timeout=40)
    assert ca.get(R + "Center") == pytest.approx(26.25)


def test_a_small_volume_is_shown(streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess) -> None:
    def volume_shown() -> np.ndarray[Any, Any]:
        return np.asarray(client.get("StreamReconVolume", stream=True))

    shown = until(client, ca, lambda _: volume_shown().shape[1:] == (17, 17))  # 52 columns by 3
    volume = volume_shown()
    assert np.isfinite(volume).all()
    assert np.abs(volume).max() > 0
    assert shown["reconstruction"]["published"] > 0


def test_a_click_goes_there(streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess) -> None:
    until(
        client, ca, lambda s: s["collection"]["binning"] == "1x" and s["reconstruction"]["projections"] > 60
    )
    ca.put(R + "ClickX", 2 * 52 + 30)
    ca.put(R + "ClickY", 9)
    ca.until(R + "OrthoY", lambda y: y == 30)
    ca.until(R + "OrthoZ", lambda z: z == 9)


def test_a_capture_is_copied(
    streaming: dict[str, Any], client: LiveClient, ca: ChannelAccess, folder: Path
) -> None:
    client.set([f"remote_analysis_dir={folder}/analysis", "copy_to_analysis_dir=scp"])
    path = Path(client.capture(5, 0, wait_s=40))
    until(client, ca, lambda s: s["copies"]["copied"] == 1)
    assert (folder / "analysis" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "analysis" / path.name).with_suffix(".config").exists()
    with pytest.raises(TomoflyError, match="No copy has failed"):
        client.copy()
    with pytest.raises(TomoflyError, match=r"Remote|host"):
        client.set(["remote_analysis_dir=-oProxyCommand=x:/data"])


def test_a_second_program_of_the_prefix_is_refused(live: Server, serve: Serve, folder: Path) -> None:
    command = ("-m", "tomofly.cli", "live", "run", "--config", folder / "live.toml", "--headless")
    second = serve(*command, ready="already served")
    assert second.wait() == 1


def test_the_camera_comes_back(
    streaming: dict[str, Any], beamline: Server, client: LiveClient, ca: ChannelAccess, serve: Serve
) -> None:
    """Its server is killed and started anew: that is said, and frames are taken in again."""
    before = client.status()["frames"]["received"]
    beamline.process.send_signal(signal.SIGKILL)
    beamline.end()
    gone = until(client, ca, lambda s: not s["camera"]["connected"])
    assert "is not there" in gone["alerts"][0]["what"]
    simulate(serve, NAME)
    until(client, ca, lambda s: s["camera"]["connected"] and s["frames"]["received"] > before + 20)


def test_it_ends_safely_on_sigterm(
    live: Server, client: LiveClient, ca: ChannelAccess, folder: Path, streaming: dict[str, Any]
) -> None:
    assert live.end() == 0
    assert ca.until(f"{NAME}:A_shutter:status", lambda v: v == 0, timeout=20) == 0
    assert ca.until(f"{NAME}SP:cam1:Acquire", lambda v: v == 0) == 0
    writes = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    (centre,) = (write for write in writes if write["pv"] == R + "Center" and write["new"] == 26.25)
    assert centre["by"].endswith(" PVA")
    assert "@" in centre["by"]
    start = next(write for write in writes if write["pv"] == P + "StartScan")
    assert (start["new"], start["by"][-3:]) == ("Scan", " CA")
    saved = json.loads((folder / "settings_pvs.json").read_text())
    assert saved[R]["Center"] == 26.25
    assert saved[R]["FilterType"] == "Hann"
    events = [json.loads(line)["event"] for line in (folder / "live.log").read_text().splitlines()]
    assert events[0] == "started"
    assert events[-1] == "ended"


def test_without_reconstruction_frames_are_captured_all_the_same(
    serve: Serve, ca: ChannelAccess, epics: Loopback, tmp_path: Path
) -> None:
    """A GPU is asked for where there is none: the status says it, collection and capture work."""
    name = "nr"
    simulate(serve, name)
    start_live(serve, write_settings(tmp_path, name, backend="gpu"))
    scan = f"{name}:TomoScanStream:"
    with LiveClient(scan, f"{name}:TomoStream:", answer_s=20) as client:
        status = client.status()
        if status["reconstruction"]["alive"]:
            pytest.skip("this computer has a GPU")
        assert "Reconstruction does not work" in status["alerts"][0]["what"] + status["alerts"][1]["what"]
        ca.put(scan + "StartScan", 1, wait=False)
        ca.until(scan + "StreamPhase", lambda phase: phase == STREAMING, timeout=40)
        path = Path(client.capture(5, 5, wait_s=30))
    assert path.exists()
