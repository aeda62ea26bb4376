"""A check of LZW streams: the decoder of imagecodecs trusts them, and a damaged one can end the process."""

import numpy as np
from numba import njit

LZW = 5
_CLEAR, _END, _FIRST_FREE, _TABLE_END = 256, 257, 258, 4096


def is_sound(stream: bytes) -> bool:
    """Whether every code of a TIFF LZW stream (TIFF 6.0, section 13) is one that its table holds."""
    return bool(_codes_are_known(np.frombuffer(stream + bytes(4), np.uint8), 8 * len(stream)))


@njit(cache=True, nogil=True)
def _codes_are_known(stream, bits):  # type: ignore[no-untyped-def]
    at, width, free, fresh = 0, 9, -1, True  # free -1: no table before the first clear code
    while at + width <= bits:
        byte = at >> 3
        word = (np.int64(stream[byte]) << 16) | (np.int64(stream[byte + 1]) << 8) | np.int64(stream[byte + 2])
        code = (word >> (24 - width - (at & 7))) & ((1 << width) - 1)
        at += width
        if code == _CLEAR:
            width, free, fresh = 9, _FIRST_FREE, True
            continue
        if free < 0:
            return False
        if code == _END:
            return True
        if fresh:
            if code > 255:
                return False
            fresh = False
            continue
        if code > free or free >= _TABLE_END:
            return False
        free += 1
        if free in (511, 1023, 2047):  # codes grow one early, as TIFF has it
            width += 1
    return free >= 0
