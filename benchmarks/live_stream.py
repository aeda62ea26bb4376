"""The whole live program on frames of a third-party source: losses, outputs per second, latency.

The source is ``pvapy-ad-sim-server`` (see pva_intake.py); dark, flat and angles are broadcast in the
structures of tomoScanStream by this script, which also looks at the three slices as a viewer does. The
program runs as users run it, in a process of its own, on as many cores as there are, together with source and
viewer. Figures are taken from its status, once a second; the first seconds, in which the ring fills, are left
out of rates and latencies. Processor time is that of the program.

    python benchmarks/live_stream.py --simulator /path/to/pvapy-ad-sim-server --seconds 300
    python benchmarks/live_stream.py --simulator ... --seconds 60 --rate 50
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from p4p import Type
from p4p.client.thread import Context
from p4p.server import Server
from p4p.server.thread import SharedPV

from pva_intake import CHANNEL, START_S, loopback, simulator, source_parser, what_was_sent

PREFIX = "benchmark:TomoScanStream:"
STEP_DEG = 0.2
SETTINGS = """\
[prefixes]
scan = "benchmark:own:"
stream = "benchmark:TomoStream:"
[camera]
image = "{channel}"
queue = 100
[collection]
enabled = false
foreign = "{foreign}"
[reconstruction]
memory_gb = {memory_gb}
threads = {threads}
[service]
reserve = true
[capture]
ring_gb = {ring_gb}
minimum_free_gb = 0.1
"""


def broadcast(options: argparse.Namespace) -> Server:
    """Serve dark, flat and angles as a tomoScanStream does."""
    shape = [("value", "af"), ("sizex", "i"), ("sizey", "i")]
    size = options.width * options.height
    served = {}
    for name, level in (("StreamDarkFields", 0.0), ("StreamFlatFields", 70000.0)):
        value = {"value": np.full(size, level, np.float32), "sizex": options.width, "sizey": options.height}
        served[PREFIX + name] = SharedPV(initial=Type(shape)(value))
    angles = (STEP_DEG * np.arange(round(1.2 * options.rate * (options.seconds + 30)))).astype(np.float32)
    theta = Type([("value", "af"), ("sizex", "i")])
    served[PREFIX + "StreamTheta"] = SharedPV(initial=theta({"value": angles, "sizex": len(angles)}))
    return Server(providers=[served])


class Viewer:
    """Looks at the three slices as ImageJ does: the newest picture, each of them decoded."""

    def __init__(self) -> None:
        self.pictures = 0
        self._context = Context("pva")
        self._subscription = self._context.monitor(
            "benchmark:TomoStream:StreamRecon", self._come, request="record[queueSize=2]"
        )

    def _come(self, picture: Any) -> None:
        self.pictures += np.asarray(picture).size > 0

    def close(self) -> None:
        self._subscription.close()
        self._context.close()


class Program:
    """The live program, and what it says of itself."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        config = folder / "live.toml"
        config.write_text(
            SETTINGS.format(
                channel=CHANNEL, foreign=PREFIX, memory_gb=options.memory_gb, threads=options.threads,
                ring_gb=options.ring_gb,
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "tomofly.cli", "live", "run", "--config", str(config), "--json"]
        log = (folder / "live.out").open("w")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self._usage = psutil.Process(self._process.pid)
        self.said: list[dict[str, Any]] = []
        self.ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                used = self._usage.cpu_times()
                memory = self._usage.memory_info().rss
                self.said.append(json.loads(line) | {"cpu_s": used.user + used.system, "rss": memory})
                self.ready.set()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._listener.join()


def measured(said: list[dict[str, Any]], settling_s: float) -> Mapping[str, Any]:
    """Bring the status documents of a run together."""
    begun = next(each["time"] for each in said if each["frames"]["received"])
    steady = [s for s in said if s["time"] > begun + settling_s and s["camera"]["frames_per_s"] > 1]
    first, last, end = steady[0], steady[-1], said[-1]
    frames = last["frames"]["received"] - first["frames"]["received"]
    slices = [each["reconstruction"] for each in steady]
    return {
        "frames": end["frames"],
        "reconstruction_losses": end["reconstruction"]["losses"],
        "projections_in_slices": end["reconstruction"]["projections"],
        "frames_per_s": frames / (last["time"] - first["time"]),
        "updates_per_s": {
            "mean": float(np.mean([s["updates_per_s"] for s in slices])),
            "least": min(s["updates_per_s"] for s in slices),
        },
        "latency_p50_ms": 1e3 * float(np.median([s["latency_p50_s"] for s in slices])),
        "latency_p95_ms": {
            "median": 1e3 * float(np.median([s["latency_p95_s"] for s in slices])),
            "worst": 1e3 * max(s["latency_p95_s"] for s in slices),
        },
        "processor_ms_per_frame": 1e3 * (last["cpu_s"] - first["cpu_s"]) / max(frames, 1),
        "peak_memory_gb": max(each["rss"] for each in said) / 2**30,
        "alerts": sorted({alert["what"] for each in steady for alert in each["alerts"]}),
    }


def main() -> None:
    parser = source_parser(__doc__)
    parser.add_argument("--memory-gb", type=float, default=6.0, help="of the ring of filtered projections")
    parser.add_argument("--ring-gb", type=float, default=1.0, help="of the ring of raw frames")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--settling", type=float, default=15.0, help="first seconds, left out")
    options = parser.parse_args()
    os.environ.update(loopback())
    with tempfile.TemporaryDirectory() as folder, broadcast(options):
        program = Program(Path(folder), options)
        try:
            if not program.ready.wait(START_S):
                sys.exit((Path(folder) / "live.out").read_text())
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            viewer = Viewer()
            source = subprocess.run(simulator(options), check=False, **quiet)  # type: ignore[call-overload]
            viewer.close()
            time.sleep(2.0)
        finally:
            program.end()
        found = measured(program.said, options.settling)
    report = {
        **what_was_sent(options),
        "load": os.getloadavg()[0],
        "source_status": source.returncode,
        "pictures_seen": viewer.pictures,
        **found,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
