"""EPICS on this machine alone: ports of our own, clients, and servers in processes of their own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aioca
import pytest
from p4p.client.thread import Context

from tests.conftest import REPOSITORY
from tests.free_ports import free_ports
from tests.simulate.beamline_process import keep_in_time

CA_SERVERS = 12
START_S = 40.0
END_S = 15.0
T = TypeVar("T")


class Loopback:
    """EPICS's variables for clients and servers of one test process.

    Several servers on one address share no CA port, as a search goes to one of them only: `server()` gives
    the variables of the next one. Clients look at all ports. Over PVA, servers find a port of their own.
    """

    def __init__(self) -> None:
        repeater, broadcast, *self._ports = free_ports(CA_SERVERS + 2)
        self._next = 0
        self.variables = {
            "EPICS_CA_ADDR_LIST": " ".join(f"127.0.0.1:{port}" for port in self._ports),
            "EPICS_CA_AUTO_ADDR_LIST": "NO",
            "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_PVA_ADDR_LIST": "127.0.0.1",
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_CA_REPEATER_PORT": str(repeater),
            "EPICS_PVA_BROADCAST_PORT": str(broadcast),
            "EPICS_PVAS_BROADCAST_PORT": str(broadcast),
            "EPICS_CA_MAX_ARRAY_BYTES": "100000000",
        }

    def server(self) -> dict[str, str]:
        """Give the environment for one more server process."""
        port = str(self._ports[self._next % CA_SERVERS])
        self._next += 1
        own = {"EPICS_CAS_SERVER_PORT": port, "EPICS_CA_SERVER_PORT": port, "EPICS_PVAS_SERVER_PORT": "0"}
        return {**os.environ, **self.variables, **own, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def epics() -> Iterator[Loopback]:
    """EPICS on the loopback for this process and those that it starts; ask for it before any client."""
    loopback = Loopback()
    before = {name: os.environ.get(name) for name in loopback.variables}
    os.environ.update(loopback.variables)
    yield loopback
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def pva(epics: Loopback) -> Iterator[Context]:
    """A PVAccess client; values come as p4p's plain types."""
    with Context("pva") as context:
        yield context


class ChannelAccess:
    """A Channel Access client for tests that are no coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="channel access", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def get(self, name: str, **options: Any) -> Any:
        """Get a value; `datatype` and `format` as aioca's."""
        return self.run(aioca.caget(name, timeout=10, **options))

    def text(self, name: str) -> str:
        """Get what `caget -S` would show."""
        return str(self.get(name, datatype=aioca.DBR_CHAR_STR))

    def put(self, name: str, value: Any, *, wait: bool = True, timeout: float = 10) -> None:
        """Put a value, and wait until its processing is complete."""
        self.run(aioca.caput(name, value, wait=wait, timeout=timeout), timeout + 5)

    def until(self, name: str, wanted: Callable[[Any], bool], timeout: float = 10) -> Any:
        """Watch a name until its value is as wanted; give that value."""
        return self.run(self._until(name, wanted, timeout), timeout + 5)

    async def _until(self, name: str, wanted: Callable[[Any], bool], timeout: float) -> Any:
        come: asyncio.Queue[Any] = asyncio.Queue()
        watching = aioca.camonitor(name, come.put, format=aioca.FORMAT_TIME, all_updates=True)
        try:
            async with asyncio.timeout(timeout):
                while not wanted(value := await come.get()):
                    pass
        finally:
            watching.close()
        return value

    def forget(self) -> None:
        """Let go of all channels, so that a server which comes back elsewhere is found at once."""

        async def purge() -> None:
            aioca.purge_channel_caches()

        self.run(purge())

    def close(self) -> None:
        """End the client."""
        self._loop.call_soon_threadsafe(aioca.purge_channel_caches)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture(scope="session")
def ca(epics: Loopback) -> Iterator[ChannelAccess]:
    """A Channel Access client."""
    client = ChannelAccess()
    yield client
    client.close()


class Server:
    """A process that serves PVs; what it writes, to whichever stream, is kept by lines."""

    def __init__(self, arguments: Sequence[str | Path], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment, cwd=REPOSITORY, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        keep_in_time(self.process.pid)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._lines.append("")
            self._changed.notify_all()

    def line(self, wanted: str, timeout: float = START_S) -> str:
        """Wait for a line of its output that holds `wanted`."""

        def found() -> str | None:
            return next((line for line in self._lines if wanted in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or "" in self._lines[-1:], timeout)
            line = found()
        assert line is not None, f"no line with {wanted!r}: {self._lines}"
        return line

    def wait(self) -> int:
        """Wait until it ends by itself; give its exit code."""
        return self.process.wait(END_S)

    def end(self) -> int:
        """Ask it to end, and make it where it does not; give its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait(END_S)
        self._reader.join(END_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(epics: Loopback) -> Iterator[Serve]:
    """Starts server processes (`serve("-m", "module", "argument", ready="ready")`), and ends them all."""
    servers: list[Server] = []

    def start(*arguments: str | Path, ready: str = "ready") -> Server:
        server = Server(arguments, epics.server())
        servers.append(server)
        server.line(ready)
        return server

    yield start
    for server in reversed(servers):
        server.end()
