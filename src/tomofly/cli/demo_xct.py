"""A simulated beamline and the live program beside each other, and what an operator does with them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomofly.cli.output import tell
from tomofly.model import TomoflyError
from tomofly.services.live import CONFIG_VARIABLE, LiveClient

LENGTHS = {"frames": 360, "pre": 400}
"""Frames of the triggered capture from the decision on, half a turn, and from before it."""

SETTINGS = """\
[camera]
prefix = "2bmSP2:"
image = "2bmSP2:Pva1:Image"
optics = "2bmb:MCTOptics:"
period = "2bmSP2:cam1:AcquirePeriod"

[rotation]
record = "2bmb:m1"

[sample_x]
record = "2bmb:m2"

[sample_y]
record = "2bmb:m3"

[shutter]
open = ["2bmb:A_shutter:open", "1"]
close = ["2bmb:A_shutter:close", "1"]
status = "2bmb:A_shutter:status"

[capture]
ring_gb = 0.5
minimum_free_gb = 0.2

[initial]
ExposureTime = {exposure}
RotationStep = 0.5
NumAngles = 100000
StreamScanType = "continuous"
SampleOutX = 10.0
NumDarkFields = 20
NumFlatFields = 20
AutoCenterEnable = "Yes"
TriggerArmed = "No"
PixelSize = 1.0
FilterType = "Shepp-logan"

# The crack: pixels of the horizontal slice that are much darker than the sample.
[[triggers]]
name = "crack"
frames = {frames}
pre = {pre}

[triggers.measure]
kind = "objects"
source = "slice_z"
region = {region}
threshold = "value"
value = {air}
side = "dark"
quantity = "largest"
least_area_px = 12

[triggers.rule]
threshold = {crack_px}
consecutive = 3
budget = 1
"""


@dataclass(frozen=True)
class Beamline:
    """A folder with a beamline's and the live program's files, and EPICS's ports on this computer alone."""

    folder: Path
    size: int
    rate_hz: float
    environment: Mapping[str, str]
    ports: tuple[int, int]

    @property
    def config(self) -> Path:
        """The settings of the live program."""
        return self.folder / "live.toml"

    @property
    def truth(self) -> dict[str, Any]:
        """What is true of the beamline."""
        known: dict[str, Any] = json.loads((self.folder / "beamline.truth.json").read_text(encoding="utf-8"))
        return known


def new_beamline(folder: Path, size: int, rate_hz: float, least_crack_px: float, air: float) -> Beamline:
    """Write the settings of the live program, and choose ports."""
    folder.mkdir(parents=True, exist_ok=True)
    low, high = round(0.3 * size), round(0.7 * size)
    text = SETTINGS.format(
        exposure=round(0.8 / rate_hz, 6), region=[low, low, high, high], crack_px=least_crack_px, air=air,
        **LENGTHS,
    )  # fmt: skip
    beam, live, broadcast, repeater = _free_ports(4)
    environment = {
        "EPICS_CA_AUTO_ADDR_LIST": "NO", "EPICS_CA_ADDR_LIST": f"127.0.0.1:{beam} 127.0.0.1:{live}",
        "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_CA_REPEATER_PORT": str(repeater),
        "EPICS_PVA_AUTO_ADDR_LIST": "NO", "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVA_BROADCAST_PORT": str(broadcast),
        "EPICS_PVAS_BROADCAST_PORT": str(broadcast), CONFIG_VARIABLE: str(folder / "live.toml"),
    }  # fmt: skip
    made = Beamline(folder, size, rate_hz, environment, (beam, live))
    made.config.write_text(text, encoding="utf-8")
    return made


def _free_ports(count: int) -> list[int]:
    """Find ports that nobody listens at now, over TCP and UDP."""
    found: list[int] = []
    kept: list[socket.socket] = []
    while len(found) < count:
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        kept += [tcp, udp]
        tcp.bind(("127.0.0.1", 0))
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            continue
        found.append(tcp.getsockname()[1])
    for each in kept:
        each.close()
    return found


@contextmanager
def at_work(beamline: Beamline, seed: int, view: list[str]) -> Iterator["Operator"]:
    """Have the beamline and the live program at work; both end with the block."""
    os.environ.update(beamline.environment)
    simulate = [
        "simulate", "beamline", "--size", f"{beamline.size}x{beamline.size}", "--rate", str(beamline.rate_hz),
        "--pattern", "none", "--no-acquire", "--frame-type-pv", "2bmb:TomoScanStream:FrameType",
        "--seed", str(seed), "--truth", str(beamline.folder / "beamline.truth.json"),
    ]  # fmt: skip
    live = ["live", "run", "--config", str(beamline.config), *view]
    with (
        _running(beamline, simulate, "beamline.log", beamline.ports[0]) as camera,
        _running(beamline, live, "live.out", beamline.ports[1], shown=not view) as program,
        LiveClient("2bmb:TomoScanStream:", "2bmb:TomoStream:") as client,
    ):
        yield Operator(client, {"simulated beamline": camera, "live program": program}, beamline.folder)


@contextmanager
def _running(
    beamline: Beamline, arguments: list[str], log: str, port: int, *, shown: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command beside this one, what it says in a file; with `shown`, its view on the terminal."""
    command = [sys.executable, "-m", "tomofly.cli", *arguments]
    environment = {**os.environ, "EPICS_CA_SERVER_PORT": str(port), "EPICS_CAS_SERVER_PORT": str(port)}
    with (beamline.folder / log).open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=None if shown else file, env=environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Operator:
    """What a person at the beamline does, step by step; each step waits until it has come about."""

    def __init__(
        self, client: LiveClient, processes: Mapping[str, "subprocess.Popen[bytes]"], folder: Path
    ) -> None:
        self.client, self._processes, self._folder = client, processes, folder

    def begin(self) -> dict[str, Any]:
        """Start the collection: dark and flat fields, then projections, until the slices are whole."""
        self._until("the live program answers", lambda _: True, 60)
        self.client.start()
        return self._until("the slices are whole", _whole, 120)

    def retake_flat(self) -> None:
        """Take flat fields anew while the sample turns."""
        self.client.retake("flat", 60)

    def arm(self) -> None:
        """Arm the triggers."""
        self.client.set(["trigger_armed=Yes"])

    def open_crack(self) -> None:
        """Let the event begin in the sample."""
        self.client.put("2bmb:Sim:StartEvent", 1)

    def captured(self, limit_s: float) -> dict[str, Any]:
        """Wait for the file of a capture."""

        def there(status: dict[str, Any]) -> bool:
            return bool(status["capture"]["file"]) and status["capture"]["state"] == "Idle"

        return self._until("the trigger has captured", there, limit_s)

    def watch(self, seconds: float) -> dict[str, Any]:
        """Let it run for a while."""
        end = time.monotonic() + seconds
        return self._until("", lambda _: time.monotonic() > end, seconds + 60)

    def end(self) -> dict[str, Any]:
        """Stop the collection; give the last status."""
        last = self.client.status()
        self.client.abort()
        self._until("the collection has stopped", lambda s: s["collection"]["phase"] == "Idle", 60)
        return last

    def _until(self, what: str, there: Callable[[dict[str, Any]], bool], limit_s: float) -> dict[str, Any]:
        """Look at the status until something holds. Raises TomoflyError where it does not come about."""
        end = time.monotonic() + limit_s
        trouble = ""
        while time.monotonic() < end:
            self._require_processes()
            try:
                status = self.client.status()
            except (TomoflyError, ValueError) as error:
                trouble = str(error)
            else:
                trouble = "; ".join(alert["what"] for alert in status["alerts"])
                if status and there(status):
                    return status
            time.sleep(0.2)
        raise TomoflyError(f"It took longer than {limit_s:.0f} s until {what}", trouble or self._where())

    def _require_processes(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise TomoflyError(f"The {name} has ended with status {process.returncode}", self._where())

    def _where(self) -> str:
        return f"Look at beamline.log, live.out and live.log in {self._folder}"


def _whole(status: dict[str, Any]) -> bool:
    reconstruction = status["reconstruction"]
    return (
        status["collection"]["phase"] == "Streaming"
        and reconstruction["coverage_percent"] > 99
        and bool(reconstruction["centre_found"])
    )


def told(step: str, status: Mapping[str, Any]) -> None:
    """Say how far it is."""
    frames, slices = status["frames"], status["reconstruction"]
    rate, late_ms = slices["updates_per_s"], 1e3 * slices["latency_p95_s"]
    tell(
        f"{step}: {frames['received']} frames, {frames['missing']} missing; {rate:.0f} slices/s, latency p95 "
        f"{late_ms:.0f} ms, centre {slices['centre']:.2f}"
    )


def show_beamline(
    folder: Path, size: int, rate_hz: float, seed: int, seconds: float, *, plain: bool
) -> dict[str, Any]:
    """Live slices, a retake, an event, its capture; give what was measured, beside the truth."""
    air = 0.25 / (0.8 * size)  # half of the sample's attenuation, 1/px
    beamline = new_beamline(folder, size, rate_hz, least_crack_px=0.0015 * size**2, air=air)
    with at_work(beamline, seed, ["--headless"] if plain else []) as operator:
        told("slices are whole", operator.begin())
        operator.retake_flat()
        told("flat fields taken anew", operator.watch(seconds))
        operator.arm()
        begun = time.time()
        operator.open_crack()
        found = operator.captured(60 + LENGTHS["frames"] / rate_hz)
        told("captured", found)
        last = operator.end()
    return _measured(last, beamline.truth, found["capture"], begun)


def _measured(
    status: Mapping[str, Any], truth: Mapping[str, Any], capture: Mapping[str, Any], event_at: float
) -> dict[str, Any]:
    frames, slices = status["frames"], status["reconstruction"]
    return {
        "frames": frames["received"], "missing": frames["missing"], "lost": frames["lost"],
        "slices_per_s": slices["updates_per_s"], "latency_p50_s": slices["latency_p50_s"],
        "latency_p95_s": slices["latency_p95_s"], "centre_px": slices["centre"],
        "true_centre_px": truth["centre_px"], "triggers": status["triggers"], "event_at": event_at,
        "capture": {"file": capture["file"], **_frames_about(Path(capture["file"]), event_at)},
    }  # fmt: skip


def _frames_about(path: Path, event_at: float) -> dict[str, Any]:
    """Say how many frames of a capture were taken before and after a moment."""
    import h5py

    with h5py.File(path) as file:
        times = file["defaults/NDArrayTimeStamp"][()]
    return {
        "frames": len(times), "before_event": int((times < event_at).sum()),
        "after_event": int((times >= event_at).sum()),
    }  # fmt: skip


def show_volume(
    home: Path | None, folder: Path, live: Mapping[str, Any], *, plain: bool
) -> tuple[dict[str, Any], int]:
    """Reconstruct the captured file in a session; give its summary and the exit status."""
    from tomofly.cli.running import RunRequest, open_session, run_to_summary
    from tomofly.flow.conductor import RunOptions
    from tomofly.services.home import open_home

    place = open_home(home)
    settings = [f"source.pattern={Path(live['capture']['file']).parent}/*.h5", "source.settle_s=0"]
    name = open_session(place, folder / "session", "xct", settings)
    return run_to_summary(place, name, RunRequest(RunOptions(once=True), plain))
