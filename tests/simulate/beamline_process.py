"""A simulated beamline in a process of its own on free loopback ports, and clients that look at it."""

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from p4p.client.thread import Context

from tests.free_ports import free_ports

STARTING_S = 60.0
WAITING_S = 20.0
# Channel Access reads its environment once in a process, so its client is a process too.
CA_CLIENT = """
import asyncio, json, sys
from aioca import caget, caput

async def main():
    for line in sys.stdin:
        name, value, wait = json.loads(line)
        try:
            if value is None:
                print(json.dumps(float(await caget(name, timeout=10))), flush=True)
            else:
                await caput(name, value, wait=wait, timeout=20)
                print("null", flush=True)
        except Exception as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)

asyncio.run(main())
"""


def loopback_environment() -> dict[str, str]:
    """EPICS variables for free ports on loopback."""
    ca, repeater, pva, search = map(str, free_ports(4))
    lists = ("CAS_INTF", "CA", "PVAS_INTF", "PVA")
    here = {f"EPICS_{which}_ADDR_LIST": "127.0.0.1" for which in lists}
    ports = {
        "EPICS_CA_SERVER_PORT": ca, "EPICS_CA_REPEATER_PORT": repeater, "EPICS_PVAS_SERVER_PORT": pva,
        "EPICS_PVA_SERVER_PORT": pva, "EPICS_PVAS_BROADCAST_PORT": search, "EPICS_PVA_BROADCAST_PORT": search,
    }  # fmt: skip
    return here | ports | {"EPICS_CA_AUTO_ADDR_LIST": "NO", "EPICS_PVA_AUTO_ADDR_LIST": "NO"}


def keep_in_time(process: int) -> None:
    """Let a process go before others, where that is allowed: a camera keeps to the clock, tests need not."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, process, -10)


def wait_until(holds: Callable[[], Any], seconds: float = WAITING_S) -> Any:
    """Wait until something is true, and give it. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"{holds} did not become true in {seconds} s")
    return found


class RunningBeamline:
    """A beamline at work: `get` and `put` over Channel Access, `frames` over PVAccess."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, environment: dict[str, str]) -> None:
        self.process, self.log, self.environment = process, log, environment
        self._client = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CA_CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | environment, text=True,
        )  # fmt: skip

    def _ask(self, name: str, value: float | None, wait: bool) -> Any:
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(json.dumps([name, value, wait]) + "\n")
        self._client.stdin.flush()
        answer = json.loads(self._client.stdout.readline())
        assert not isinstance(answer, str), answer
        return answer

    def get(self, name: str) -> float:
        """The value of a PV, as a number."""
        return float(self._ask(name, None, False))

    def put(self, name: str, value: float, *, wait: bool = False) -> None:
        """Write a PV; with `wait` until what that began is over."""
        self._ask(name, value, wait)

    @contextmanager
    def frames(self) -> Iterator[Callable[..., Any]]:
        """A function that gives the next NTNDArray; it may be told how many seconds to wait for it."""
        arrived: queue.Queue[Any] = queue.Queue()
        with Context("pva", conf=self.environment, useenv=False, nt=False) as context:
            monitor = context.monitor(
                "2bmSP2:Pva1:Image", arrived.put, request="record[queueSize=200]field()"
            )
            first = arrived.get(timeout=WAITING_S)
            if first.uniqueId:
                arrived.put(first)
            yield lambda seconds=WAITING_S: arrived.get(timeout=seconds)
            monitor.close()

    def frames_of(self, number: int) -> list[Any]:
        """So many frames in a row."""
        with self.frames() as following:
            return [following() for _ in range(number)]

    def end(self) -> None:
        """End both processes."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.close()
        self._client.wait(timeout=20)
        self._client.stdout.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=20)


@contextmanager
def beamline(folder: Path, *options: str) -> Iterator[RunningBeamline]:
    """Run `tomofly simulate beamline` with options until the block ends."""
    log, environment = folder / "beamline.log", loopback_environment()
    command = [sys.executable, "-m", "tomofly.cli", "simulate", "beamline", *options]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | environment,
            text=True,
        )  # fmt: skip
    keep_in_time(process.pid)
    running = RunningBeamline(process, log, environment)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        return "beamline ready" in log.read_text()

    try:
        wait_until(is_ready, STARTING_S)
        yield running
    finally:
        running.end()


def attributes(frame: Any) -> dict[str, Any]:
    """NDAttributes of a frame by name."""
    return {item.name: item.value for item in frame.attribute}


def picture(frame: Any) -> np.ndarray:
    """Pixels (y, x) of a frame that is not compressed."""
    width, height = (dimension.size for dimension in frame.dimension)
    return np.asarray(frame.value).reshape(height, width)


def began(frame: Any) -> float:
    """POSIX time of the exposure's begin."""
    return float(frame.dataTimeStamp.secondsPastEpoch + 1e-9 * frame.dataTimeStamp.nanoseconds)
