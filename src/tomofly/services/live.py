"""The live program as commands and pages use it: run here, or asked of one that runs elsewhere."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import structlog

from tomofly.live.client import Change, LiveClient
from tomofly.live.memory import keep_freed_memory
from tomofly.live.records.page import SECTIONS, pv_page
from tomofly.live.records.saving import read_configuration, write_configuration
from tomofly.live.settings import LiveSettings, PrefixSettings, example, read_settings
from tomofly.model import TomoflyError

if TYPE_CHECKING:  # commands that only ask need no mathematics
    from tomofly.live.live_slices import LiveSlices

CONFIG_VARIABLE = "TOMOFLY_LIVE_CONFIG"
STARTING = "Starting; the first time on a computer it compiles its kernels, which takes up to a minute."
ENDING = "Ending: rotation, shutter and camera are brought to rest, and a capture is closed."

__all__ = [
    "CONFIG_VARIABLE",
    "Change",
    "LiveClient",
    "LiveSettings",
    "example",
    "live_settings",
    "pv_page",
    "pv_rows",
    "reached",
    "read_configuration",
    "run",
    "save_configuration",
]


class View(Protocol):
    """Who shows the live program at work."""

    def show(self, status: Mapping[str, Any], slices: "LiveSlices | None", /) -> None:
        """Show how it stands."""

    def say(self, text: str, /) -> None:
        """Say what goes on while there is nothing to show."""


def live_settings(path: Path | None) -> LiveSettings:
    """Read the settings: of the file given, of TOMOFLY_LIVE_CONFIG, or the defaults. Raises TomoflyError."""
    named = path or (Path(text) if (text := os.environ.get(CONFIG_VARIABLE)) else None)
    return read_settings(named.expanduser()) if named is not None else LiveSettings.model_validate({})


def run(settings: LiveSettings, view: View | None = None) -> None:
    """Run the live program until SIGINT or SIGTERM. Raises TomoflyError where it cannot begin."""
    # Before EPICS begins threads: each would have freed memory of its own.
    keep_freed_memory()
    from tomofly.live.process import check_folders, run_live

    check_folders(settings)

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, ended)
        await run_live(settings, ended, view.show if view is not None else None)

    def end(ended: asyncio.Event) -> None:
        if not ended.is_set():
            say(ENDING)
        ended.set()

    say = view.say if view is not None else lambda _: None
    with _logged(settings.service.log):
        say(STARTING)
        asyncio.run(main())


@contextmanager
def _logged(path: str) -> Iterator[None]:
    """Write the log as JSON lines into a file, or to standard error where it is named `-`."""
    with _opened(path) as stream:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.WriteLoggerFactory(stream),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


def _opened(path: str) -> AbstractContextManager[TextIO]:
    if path == "-":
        return nullcontext(sys.stderr)
    try:
        return Path(path).open("a", encoding="utf-8")
    except OSError as error:
        raise TomoflyError(
            f"The log {path} cannot be written: {error.strerror}", "Name another as service.log"
        ) from error


def save_configuration(path: Path, client: LiveClient) -> None:
    """Write all settings of a running program into a file. Raises TomoflyError where that cannot be."""
    if not path.parent.is_dir():
        raise TomoflyError(f"There is no folder {path.parent} for {path.name}", "Make it, or name another")
    try:
        write_configuration(path, client.configuration())
    except OSError as error:
        raise TomoflyError(f"{path} cannot be written: {error.strerror}", "Name another file") from error


@contextmanager
def reached(path: Path | None, scan: str | None = None, stream: str | None = None) -> Iterator[LiveClient]:
    """Give a client of the live program that the settings name; `scan`, `stream`: other prefixes."""
    prefixes: PrefixSettings = live_settings(path).prefixes
    with LiveClient(scan or prefixes.scan, stream or prefixes.stream) as client:
        yield client


def pv_rows() -> Iterator[tuple[str, str, str]]:
    """Give name, record and meaning of all PVs."""
    for _, _, groups in SECTIONS:
        for _, rows in groups:
            yield from ((pv.name, str(pv.record), pv.meaning) for pv in rows)
