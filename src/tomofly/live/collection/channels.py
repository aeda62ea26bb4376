"""PVs of other servers, over Channel Access or, where a name begins with `pva://`, over PVAccess."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import aioca
import numpy as np
from p4p.client.asyncio import Context
from p4p.client.thread import Disconnected, RemoteError

from tomofly.live.records.waveform_text import as_text
from tomofly.model import TomoflyError

PVA = "pva://"
ANSWER_S = 5.0
WAY_OUT = "Check that its server runs, and the name in the settings"

Told = Callable[[Any], object]


class DeviceFault(TomoflyError):
    """A device does not answer, refuses, or does not do what it was asked to within its time."""


class Watching(Protocol):
    """Something that can be told to stop."""

    def close(self) -> None:
        """Stop it."""


class Channels(Protocol):
    """What collection needs of a control system."""

    async def get(self, name: str) -> Any:
        """Give a value: a number or a text. Raises DeviceFault."""

    async def put(self, name: str, value: Any, wait_s: float | None = None) -> None:
        """Put a value; `wait_s`: wait for its processing, so long at most. Raises DeviceFault."""

    def watch(self, name: str, told: Told, gone: Callable[[], object] | None = None) -> Watching:
        """Tell each value, and when the server goes away."""


async def until(
    channels: Channels, name: str, wanted: Callable[[Any], bool], limit_s: float, what: str
) -> Any:
    """Wait until a PV's value is as wanted; give it. Raises DeviceFault with `what` and the last value."""
    come: asyncio.Queue[Any] = asyncio.Queue()
    last: Any = "no value"
    watching = channels.watch(name, come.put_nowait)
    try:
        async with asyncio.timeout(limit_s):
            while not wanted(last := await come.get()):
                pass
    except TimeoutError:
        raise DeviceFault(f"{what}: {name} is {_short(last)} after {limit_s:.1f} s", WAY_OUT) from None
    finally:
        watching.close()
    return last


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class EpicsChannels:
    """The control system of the beamline."""

    def __init__(self) -> None:
        self._pva: Context | None = None

    async def get(self, name: str) -> Any:
        if not name.startswith(PVA):
            try:
                return _plain(await aioca.caget(name, timeout=ANSWER_S))
            except aioca.CANothing as error:
                raise DeviceFault(f"{name} does not answer", WAY_OUT) from error
        try:
            return _plain(await asyncio.wait_for(self._context().get(name.removeprefix(PVA)), ANSWER_S))
        except (TimeoutError, Disconnected, RemoteError) as error:
            raise DeviceFault(f"{name} does not answer", WAY_OUT) from error

    async def put(self, name: str, value: Any, wait_s: float | None = None) -> None:
        limit = ANSWER_S if wait_s is None else wait_s
        if not name.startswith(PVA):
            try:
                # A server that is gone is known soon, however long its work may take.
                await aioca.connect(name, timeout=ANSWER_S)
                await aioca.caput(name, value, wait=wait_s is not None, timeout=limit)
            except aioca.CANothing as error:
                raise DeviceFault(f"{name} cannot be set to {value}: {_reason(error)}", WAY_OUT) from error
            return
        try:
            put = self._context().put(name.removeprefix(PVA), value, wait=wait_s is not None)
            await asyncio.wait_for(put, limit)
        except TimeoutError as error:
            raise DeviceFault(f"{name} cannot be set to {value}: no answer", WAY_OUT) from error
        except (Disconnected, RemoteError, ValueError, TypeError) as error:
            raise DeviceFault(f"{name} cannot be set to {value}: {error}", WAY_OUT) from error

    def watch(self, name: str, told: Told, gone: Callable[[], object] | None = None) -> Watching:
        if not name.startswith(PVA):
            return _watch_ca(name, told, gone)

        async def come(value: Any) -> None:
            if isinstance(value, Exception):
                if gone is not None:
                    gone()
            else:
                told(_plain(value))

        watching: Watching = self._context().monitor(name.removeprefix(PVA), come, notify_disconnect=True)
        return watching

    def _context(self) -> Context:
        if self._pva is None:
            self._pva = Context("pva")
        return self._pva

    def close(self) -> None:
        """Let go of all channels."""
        if self._pva is not None:
            self._pva.close()
        aioca.purge_channel_caches()


def _watch_ca(name: str, told: Told, gone: Callable[[], object] | None) -> Watching:
    def come(value: Any) -> None:
        if value.ok:
            told(_plain(value))
        elif gone is not None:
            gone()

    watching: Watching = aioca.camonitor(name, come, notify_disconnect=True)
    return watching


def _reason(error: aioca.CANothing) -> str:
    return str(error).split(":")[-1].strip() or "no answer"


def _plain(value: Any) -> Any:
    """Make a number or text of what a client library gives; an array stays one."""
    if isinstance(value, str):
        return value[:]  # a plain text, without what the libraries add for printing
    array = np.asarray(value)
    if array.ndim == 0:
        return array.item()
    return as_text(array) if array.dtype.itemsize == 1 else array
