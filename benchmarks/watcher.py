"""What a look of the folder watcher costs: 10 000 files in one folder, and in the folders of EPU.

Run it as ``python benchmarks/watcher.py [--files N]``; it prints one JSON object.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from tomofly.flow.watch import Watcher
from tomofly.formats.mrc import write_image
from tomofly.model import SourceParams

LAYOUTS: dict[str, Callable[[int], str]] = {
    "flat": lambda n: f"movie_{n:06}.mrc",
    "epu": lambda n: f"Images-Disc1/GridSquare_{n // 100}/Data/FoilHole_{n:06}_Fractions.mrc",
}


def main() -> None:
    """Measure both layouts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    print(json.dumps({name: measure(name, arguments.files) for name in LAYOUTS}, indent=2))


def measure(layout: str, files: int) -> dict[str, float]:
    """Watch a folder through a backlog, silence, and one arrival after another."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for n in range(files):
            put(root / LAYOUTS[layout](n))
        source = SourceParams(pattern=f"{root}/**/*.mrc" if layout == "epu" else f"{root}/*.mrc")
        held = bytes_held(source, files)
        watcher = Watcher(source)
        backlog, known = backlog_seconds(watcher, files)
        quiet, calls = quiet_seconds(watcher)
        begun = time.perf_counter()
        assert not Watcher(source, known).poll(0.0)
        restart = time.perf_counter() - begun
        arriving = arriving_seconds(watcher, root, LAYOUTS[layout], files)
    return {
        "files": files,
        "backlog_s": round(backlog, 3),
        "bytes_held_per_file": round(held / files),
        "quiet_poll_ms": round(1e3 * quiet, 3),
        "quiet_poll_stats": calls["stat"],
        "quiet_poll_listings": calls["scandir"],
        "poll_with_an_arrival_ms": round(1e3 * arriving, 3),
        "first_poll_after_restart_ms": round(1e3 * restart, 1),
    }


def put(path: Path) -> None:
    """Write a small whole movie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small_movie())


@cache
def small_movie() -> bytes:
    """The bytes of two frames of 4 x 4 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "movie.mrc")
        write_image(path, np.zeros((2, 4, 4), np.float32), 1.0)
        return path.read_bytes()


def backlog_seconds(watcher: Watcher, files: int) -> tuple[float, list[tuple[str, str]]]:
    """Take in everything that is there already: time spent in the polls, and (path, content) of each."""
    known: list[tuple[str, str]] = []
    begun, now = time.perf_counter(), 0.0
    while len(known) < files:
        known.extend((str(arrival.path), arrival.content) for arrival in watcher.poll(now))
        now += 1.0
    return time.perf_counter() - begun, known


def bytes_held(source: SourceParams, files: int) -> float:
    """Memory that a watcher keeps when it knows all files."""
    tracemalloc.start()
    watcher = Watcher(source)
    found, now = 0, 0.0
    while found < files:
        found += len(watcher.poll(now))
        now += 1.0
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


def quiet_seconds(watcher: Watcher) -> tuple[float, Counter[str]]:
    """Look again and again while nothing happens: median time of a look, and its calls."""
    calls: Counter[str] = Counter()
    real = {name: getattr(os, name) for name in ("stat", "scandir")}
    times = []
    for now in range(1000, 1040):
        begun = time.perf_counter()
        watcher.poll(float(now))
        times.append(time.perf_counter() - begun)
    for name, call in real.items():
        setattr(os, name, lambda *a, _name=name, _call=call: (calls.update([_name]), _call(*a))[1])
    watcher.poll(1040.0)
    for name, call in real.items():
        setattr(os, name, call)
    return statistics.median(times), calls


def arriving_seconds(watcher: Watcher, root: Path, name: Callable[[int], str], files: int) -> float:
    """One file a second comes in: mean time of a look."""
    times = []
    for n in range(30):
        put(root / name(files + n))
        begun = time.perf_counter()
        watcher.poll(2000.0 + n)
        times.append(time.perf_counter() - begun)
    return statistics.mean(times)


if __name__ == "__main__":
    main()
