"""A program killed at a random moment, and what must be the same as in a run that was not."""

import contextlib
import hashlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

OF_THIS_RUN = (
    "detected_at", "done_at", "shown_at", "latency_s", "last_tilt_to_tomogram_s", "transfer_speed_mb_per_s",
)  # fmt: skip
"""Columns that say when and how fast: they differ between any two runs."""


def kill_when(
    process: subprocess.Popen[bytes], out: Path, there: tuple[str, int], chance: random.Random
) -> None:
    """Kill the program, or one of its workers first, once so many files of a pattern are there."""
    pattern, count = there
    end = time.monotonic() + 300
    while len(list(out.glob(pattern))) < count and process.poll() is None:
        assert time.monotonic() < end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.01, 0.15))
    if process.poll() is not None:
        return
    workers = psutil.Process(process.pid).children(recursive=True)
    if workers and chance.random() < 0.5:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(workers, timeout=20)


def digests(out: Path, stages: Iterable[str]) -> dict[str, str]:
    """Give every product of these stages with its digest."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in stages
        for path in (out / stage).rglob("*")
        if path.is_file()
    }


def lasting(row: Mapping[str, Any], *but: str) -> str:
    """Give what of a row of the table must be the same in any two runs, but for some columns more."""
    return json.dumps({k: v for k, v in row.items() if k not in (*OF_THIS_RUN, *but)}, sort_keys=True)
