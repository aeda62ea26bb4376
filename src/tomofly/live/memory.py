"""Memory of a program that makes and drops the same large arrays a hundred times a second."""

import ctypes
import gc
from contextlib import suppress

import numpy as np
import structlog
from numpy.typing import NDArray

from tomofly.imaging.side_by_side import for_each

log = structlog.get_logger(__name__)

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # glibc's malloc.h
LARGEST_KEPT = 32 * 2**20
KEPT = 2**31 - 1
ROOM = 64 * 2**20
_PIECE = 2**24  # values, 64 MiB


def keep_freed_memory() -> bool:
    """Keep freed arrays of up to 32 MiB for the next ones, 2 GiB in all; False where the C library cannot.

    Otherwise each is given back to the system and asked for again, which costs a page fault for every 4 KiB:
    more than the arithmetic on it. What one thread frees, any other may use.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.info("freed memory cannot be kept: no mallopt")
        return False
    wanted = (
        (_MMAP_THRESHOLD, LARGEST_KEPT), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, ROOM), (_ARENA_MAX, 1)
    )  # fmt: skip
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted)


def taken_beforehand(size_bytes: int, threads: int) -> NDArray[np.float32]:
    """Give flat memory, float32, that the system has handed over already, by writing to all of it."""
    memory = np.empty(size_bytes // 4, np.float32)
    pieces = range(0, len(memory), _PIECE)

    def fill(index: int) -> None:
        memory[pieces[index] : pieces[index] + _PIECE] = 0

    for_each(fill, len(pieces), threads)
    return memory


def keep_ready(size_bytes: int) -> None:
    """Have so much memory handed over by the system and freed, for arrays that come one by one.

    At most what ``keep_freed_memory``, which comes first, keeps.
    """
    count = min(size_bytes, KEPT - 2**30) // LARGEST_KEPT
    arrays = [np.zeros(LARGEST_KEPT // 2, np.uint8) for _ in range(2 * count)]
    for array in arrays:
        array[:] = 1


def unlock_memory() -> None:
    """Undo that EPICS base, where it may, locks all memory of the process, now and to come.

    Each new array would be filled page by page when it is asked for, and small pages at that: a ring of some
    gigabytes then holds up everything for half a minute.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).munlockall()


def spare_garbage_collection() -> None:
    """Let the collector leave alone what lives as long as the program: looking at it holds up all threads."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
