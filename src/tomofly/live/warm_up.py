"""The kernels of the live reconstruction loaded, or compiled, before the first frame comes."""

import time
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import DTypeLike, NDArray

from tomofly.live.frames import Frame, FrameKind
from tomofly.live.parameters import LiveParameters
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.slicer import BATCH, Room

log = structlog.get_logger(__name__)

PIXEL_TYPES: tuple[DTypeLike, ...] = (np.uint16, np.uint8, np.float32)
_SIZE = 32
_PATIENCE_S = 300.0
_SLOW_S = 5.0


@dataclass(frozen=True, eq=False)
class _Fields:
    dark: NDArray[np.float32]
    flat: NDArray[np.float32]
    flat_scale: float = 1.0


def warm_up(room: Room) -> float:
    """Reconstruct a few small frames of each pixel type; give the seconds that it took.

    The first time on a machine the kernels are compiled, which takes about a minute, and kept on disk.
    """
    begun = time.monotonic()
    fields = _Fields(np.zeros((_SIZE, _SIZE), np.float32), np.full((_SIZE, _SIZE), 200.0, np.float32))
    small = Room(memory_bytes=2**25, most_slots=4 * BATCH, backend=room.backend, threads=room.threads)
    for kind in PIXEL_TYPES:
        with LiveReconstructor(lambda _: fields, LiveParameters(angular_step_deg=10.0), room=small) as live:
            for number in range(3 * BATCH):
                live.put(_frame(number, kind))
            live.drain(_PATIENCE_S)
            if live.latest is None:  # it cannot reconstruct at all, which the status will say
                break
            live.set(filter="parzen", ortho_z=3)
            live.wait(lambda output: output.parameters.filter == "parzen", _PATIENCE_S)
    taken = time.monotonic() - begun
    if taken > _SLOW_S:
        log.info("kernels compiled, once for this machine", seconds=round(taken, 1))
    return taken


def _frame(number: int, kind: DTypeLike) -> Frame:
    image = np.full((_SIZE, _SIZE), 100, dtype=kind)
    return Frame(number, number, image, FrameKind.PROJECTION, 10.0 * number, 0.0, 0.0)
