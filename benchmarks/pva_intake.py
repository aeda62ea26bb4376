"""Frames of a third-party source taken in over PVAccess: how many are lost, and what each costs.

The source is ``pvapy-ad-sim-server`` of the package pvapy (tested with 5.6.0), in a process of its own. As it
brings its own EPICS libraries, it is best installed into an environment of its own, whose program is named by
``--simulator``. Processor time is that of this whole process, the client library's threads included, over the
time in which frames came; the load is told beside it. ``--capture`` keeps a ring of raw frames, and writes so
many into a file meanwhile, half of them from before.

    python benchmarks/pva_intake.py --simulator /path/to/pvapy-ad-sim-server --seconds 300
"""

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tomofly.live.capture.request import CaptureRequest
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.frames import Frame
from tomofly.live.intake import Intake

CHANNEL = "benchmark:Pva1:Image"
START_S = 60.0
WARM_UP_FRAMES = 50


def loopback() -> dict[str, str]:
    """EPICS on this machine alone, at ports that nobody uses."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    return {
        "EPICS_PVA_ADDR_LIST": "127.0.0.1", "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_SERVER_PORT": ports[0], "EPICS_PVAS_SERVER_PORT": ports[0],
        "EPICS_PVA_BROADCAST_PORT": ports[1], "EPICS_PVAS_BROADCAST_PORT": ports[1],
        "EPICS_CA_ADDR_LIST": "127.0.0.1", "EPICS_CA_AUTO_ADDR_LIST": "NO",
    }  # fmt: skip


def simulator(options: argparse.Namespace) -> list[str]:
    """The command that starts the source."""
    return [
        options.simulator, "-cn", CHANNEL, "-nx", str(options.width), "-ny", str(options.height), "-dt",
        options.dtype, "-fps", str(options.rate), "-rt", str(options.seconds), "-nf", "20", "-cs", "20",
        "-std", "10", "-shd", "3", "-rp", "0", "-dc",
    ]  # fmt: skip


class Watch:
    """What a consumer sees: frames, and how old they are when they come."""

    def __init__(self) -> None:
        self.frames = 0
        self.first_at, self.last_at = math.inf, 0.0
        self.ages_s: list[float] = []
        self.warm = threading.Event()

    def take(self, frame: Frame) -> None:
        self.frames += 1
        self.first_at, self.last_at = min(self.first_at, frame.received_at), frame.received_at
        self.ages_s.append(time.time() - frame.acquired_at)
        if self.frames == WARM_UP_FRAMES:
            self.warm.set()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Take in frames for so long, and give the account."""
    watch = Watch()
    ring_bytes = options.capture * options.width * options.height * 4
    capture = CaptureService(CaptureSettings(folder, ring_bytes=ring_bytes, reserve_bytes=0))
    source = subprocess.Popen(simulator(options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Intake(CHANNEL) as intake, capture:
            intake.attach("watch", watch.take)
            if options.capture:
                intake.attach("capture", capture.put)
            if not watch.warm.wait(START_S):
                raise SystemExit(f"no frames came: {intake.status()}")
            before, times = watch.frames, os.times()
            half = options.capture // 2
            ticket = capture.request(CaptureRequest(half, half)) if options.capture else None
            source.wait(options.seconds + START_S)
            frames = watch.frames - before
            now = os.times()
            user_ms, system_ms = (1e3 * (now[n] - times[n]) / max(frames, 1) for n in (0, 1))
            seconds = watch.last_at - watch.first_at
            written = {} if ticket is None else {
                "captured": ticket.written, "capture_lost": ticket.lost, "capture_state": ticket.state
            }  # fmt: skip
            ages = sorted(watch.ages_s)
            return {
                "frames": watch.frames, "frames_per_s": (watch.frames - 1) / seconds,
                "user_ms_per_frame": user_ms,
                "system_ms_per_frame": system_ms,
                "age_ms_median": 1e3 * ages[len(ages) // 2], "age_ms_p95": 1e3 * ages[len(ages) * 95 // 100],
                "account": intake.losses.account().summary(), "flags": dict(intake.status().flags), **written,
            }  # fmt: skip
    finally:
        if source.poll() is None:
            source.terminate()
            source.wait(10)


def source_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that say what the source sends; without a simulator there is nothing to parse."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found = shutil.which("pvapy-ad-sim-server")
    parser.add_argument(
        "--simulator", default=found, required=found is None, help="pvapy-ad-sim-server, of the package pvapy"
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--dtype", default="uint16")
    return parser


def what_was_sent(options: argparse.Namespace) -> dict[str, Any]:
    """What the source was asked for, for the report."""
    return {name: getattr(options, name) for name in ("width", "height", "dtype", "rate", "seconds")}


def main() -> None:
    parser = source_parser(__doc__)
    parser.add_argument("--capture", type=int, default=0, help="frames to write meanwhile")
    options = parser.parse_args()
    os.environ.update(loopback())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    print(json.dumps({**what_was_sent(options), "load": os.getloadavg()[0], **found}, indent=1))


if __name__ == "__main__":
    main()
