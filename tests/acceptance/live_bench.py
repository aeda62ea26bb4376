"""A simulated beamline and `tomofly live run` as programs of their own, and an operator who watches them."""

import json
import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p4p.client.thread import Context, Disconnected, RemoteError

from tests.live.conftest import Loopback, Server
from tests.live.live_bench import SETTINGS
from tomofly.live.client import LiveClient

Status = dict[str, Any]
WAIT_S = 40.0


class LiveBench:
    """EPICS on the loopback, the programs on it, and what an operator can ask of them over PVAccess."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.scan, self.stream = f"{name}:TomoScanStream:", f"{name}:TomoStream:"
        self._epics = Loopback()
        self._servers: list[Server] = []
        self.camera: Server
        self.program: Server
        self.variables = self._epics.variables

    def open(self) -> None:
        """Begin to look; after the variables are set."""
        self.pva = Context("pva")
        self.client = LiveClient(self.scan, self.stream, answer_s=20)

    def serve(self, *arguments: str | Path, ready: str) -> Server:
        """Start a program and wait for a line of its output."""
        server = Server(arguments, self._epics.server())
        self._servers.append(server)
        server.line(ready)
        return server

    def beamline(self, *options: str) -> Server:
        """Start the simulated beamline: its stage stands and its camera rests."""
        small = ("--size", "36x52", "--rate", "40", "--pattern", "none", "--no-acquire")
        names = ("--prefix", f"{self.name}:", "--camera-prefix", f"{self.name}SP:")
        program = ("-m", "tomofly.cli", "simulate", "beamline")
        return self.serve(*program, *names, *small, *options, ready="beamline ready")

    def settings(self, folder: Path | None = None, *, more: str = "", **changes: str) -> Path:
        """Write the settings of a live program; `changes` replace lines that begin with a word."""
        text = SETTINGS.format(name=self.name, backend="cpu")
        for word, line in changes.items():
            text = "\n".join(line if row.startswith(f"{word} =") else row for row in text.splitlines())
        file = (folder or self.folder) / "live.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n{more}")
        return file

    def live(self, settings: Path) -> Server:
        """Start the live program."""
        command = ("-m", "tomofly.cli", "live", "run", "--config", settings, "--json")
        return self.serve(*command, ready='"time"')

    def end(self) -> None:
        """End all that was started."""
        self.client.__exit__()
        self.pva.close()
        for server in reversed(self._servers):
            server.end()

    # What an operator does.

    def put(self, name: str, value: Any, *, wait: bool = True) -> None:
        """Put to a PV of the beamline, named behind its prefix."""
        self.pva.put(f"{self.name}{name}", value, timeout=20, wait=wait)

    def get(self, name: str) -> float:
        """Read a PV of the beamline, named behind its prefix."""
        return float(self.pva.get(f"{self.name}{name}", timeout=20))

    def watch(self, full_name: str, wanted: Callable[[Any], Any], seconds: float = WAIT_S) -> Any:
        """Watch a channel until what is wanted of its value is true; give that."""
        come: queue.SimpleQueue[Any] = queue.SimpleQueue()
        monitor = self.pva.monitor(full_name, come.put)
        end, value = time.monotonic() + seconds, None
        try:
            while True:
                value = come.get(timeout=max(0.01, end - time.monotonic()))
                if not isinstance(value, (Disconnected, RemoteError)) and (found := wanted(value)):
                    return found
        except queue.Empty:
            raise AssertionError(f"{full_name} never was as wanted in {seconds} s; last: {value}") from None
        finally:
            monitor.close()

    def until(
        self, wanted: Callable[[Status], bool], seconds: float = WAIT_S, stream: str | None = None
    ) -> Status:
        """Watch the status until it is as wanted; give it."""

        def as_wanted(value: Any) -> Status | None:
            status: Status = json.loads(value[:])
            return status if status and wanted(status) else None

        found: Status = self.watch((stream or self.stream) + "Status", as_wanted, seconds)
        return found

    def soon(self, wanted: Callable[[Status], bool] = lambda _: True) -> Status:
        """Give a status that was made after this call."""
        now = time.time()
        return self.until(lambda status: status["time"] > now and wanted(status))

    def start(self, *assignments: str) -> None:
        """Let collection start, with some settings changed."""
        self.client.set(assignments)
        self.client.start()

    def streams(self, status: Status) -> bool:
        """Tell whether projections are being taken."""
        return bool(status["collection"]["phase"] == "Streaming")


def warnings_of(status: Status) -> str:
    """Give all that the status says to an operator."""
    return "; ".join(alert["what"] for alert in status["alerts"])


def log_events(folder: Path) -> list[dict[str, Any]]:
    """Read the log of a live program."""
    return [json.loads(line) for line in (folder / "live.log").read_text().splitlines()]


@contextmanager
def live_bench(folder: Path, name: str) -> Iterator[LiveBench]:
    """Give a bench whose EPICS variables hold in this process, too, for as long as it is there."""
    bench = LiveBench(folder, name)
    before = {variable: os.environ.get(variable) for variable in bench.variables}
    os.environ.update(bench.variables)
    bench.open()
    try:
        yield bench
    finally:
        bench.end()
        for variable, value in before.items():
            os.environ.pop(variable, None) if value is None else os.environ.__setitem__(variable, value)
