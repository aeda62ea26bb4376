"""Serves the tables of PVs for tests: `python -m tests.live.records_server SCAN_PREFIX STREAM_PREFIX [FILE]`.

A capture lasts until it is stopped; moving the sample in lasts until the process hears `MoveSampleOut`.
"""

import asyncio
import signal
import sys
from pathlib import Path

from tomofly.live.records.ioc import Ioc
from tomofly.live.records.presence import refuse_served
from tomofly.live.records.saving import Autosave
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.model import TomoflyError


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(scan_prefix: str, stream_prefix: str, saved: str = "") -> None:
    scan, stream = PVValues(scan_prefix, SCAN_TABLE), PVValues(stream_prefix, STREAM_TABLE)
    await refuse_served([scan.full_name("ServerRunning"), stream.full_name("ServerRunning")])
    autosave = Autosave(Path(saved), [scan, stream], say, every_s=0.05) if saved else None
    if autosave is not None:
        autosave.restore()
    for group in (scan, stream):
        group.on_refusal(group.notice)
    stream.watch("Center", lambda value: say(f"centre {value}"))
    scan.watch("MoveSampleOut", lambda _: scan.set("MoveSampleIn", 0))
    ioc = Ioc([scan, stream])
    ioc.start()
    if autosave is not None:
        autosave.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    ioc.feed_watchdogs()
    say("ready")
    await ended.wait()
    if autosave is not None:
        autosave.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except TomoflyError as error:
        say(f"refused: {error}")
