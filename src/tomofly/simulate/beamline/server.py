"""The beamline as an EPICS server: softioc records and motors, and the camera's images by p4p."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tomofly.simulate.beamline.beamline import Beamline, StartOptions
from tomofly.simulate.beamline.names import Names
from tomofly.simulate.beamline.settings import BeamlineConfig

if TYPE_CHECKING:
    from tomofly.simulate.beamline.ioc import BeamlineIoc

REFRESH_S = 0.1
TRUTH_S = 1.0


def run_beamline(
    config: BeamlineConfig, options: StartOptions, names: Names, tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; once in a process, after `settle_network`."""
    failure = asyncio.run(_serve(config, options, names, tell))
    if failure is not None:
        tell(f"tomofly: the simulated camera has died: {type(failure).__name__}: {failure}")
    # EPICS's own threads do not end, and its way of exiting may wait for them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if failure is None else 1)


async def _serve(
    config: BeamlineConfig, options: StartOptions, names: Names, tell: Callable[[str], None]
) -> Exception | None:
    """Serve until a signal comes, or the camera fails; give that failure."""
    from tomofly.simulate.beamline.ioc import BeamlineIoc
    from tomofly.simulate.beamline.sending import ImageServer

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    images = ImageServer(names.image)
    beamline = Beamline(config, options, images.send)
    ioc = BeamlineIoc(beamline, names)
    ioc.start()
    images.start()
    beamline.start()
    _announce(ioc, names, tell)
    try:
        await _refresh(beamline, ioc, over)
    finally:
        beamline.end()
        images.end()
        counts, delivery = beamline.camera.counts, beamline.delivery
        tell(
            f"stopped after {counts.number} frames: {delivery.sent} sent, {len(delivery.dropped)} dropped on "
            f"request, {counts.skipped} not made in time"
        )
    return beamline.camera.failure


def _announce(ioc: "BeamlineIoc", names: Names, tell: Callable[[str], None]) -> None:
    for name in ioc.names:
        tell(name)
    tell(f"{names.image} (NTNDArray)")
    tell("beamline ready")


async def _refresh(beamline: Beamline, ioc: "BeamlineIoc", over: asyncio.Event) -> None:
    """Show how everything is until it is over."""
    truth_at = time.monotonic()
    while not over.is_set() and beamline.camera.failure is None:
        ioc.refresh()
        if time.monotonic() - truth_at > TRUTH_S:
            truth_at = time.monotonic()
            beamline.write_truth_if_changed()
        try:
            await asyncio.wait_for(over.wait(), REFRESH_S)
        except TimeoutError:
            continue
