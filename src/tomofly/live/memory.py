"""Memory of a program that makes and drops the same large arrays a hundred times a second."""

import ctypes
import gc
from contextlib import suppress

import structlog

log = structlog.get_logger(__name__)

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
LARGEST_KEPT = 32 * 2**20
KEPT = 2**30
ROOM = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keep freed arrays of up to 32 MiB for the next ones, 1 GiB in all; False where the C library cannot.

    Otherwise each is given back to the system and asked for again, which costs a page fault for every 4 KiB:
    more than the arithmetic on it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.info("freed memory cannot be kept: no mallopt")
        return False
    wanted = ((_MMAP_THRESHOLD, LARGEST_KEPT), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, ROOM))
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted)


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
