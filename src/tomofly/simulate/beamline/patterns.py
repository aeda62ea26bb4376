"""Orders of angles in which projections are taken, in degrees."""

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.settings import PatternName

Angles = NDArray[np.float64]
GOLDEN_SHARE = (np.sqrt(5.0) - 1) / 2
# Sub-turns of the interlaced pattern; a power of two.
INTERLACED_TURNS = 8


def pattern_angles(pattern: PatternName, number: int, span_deg: float, start_deg: float = 0.0) -> Angles:
    """Angles (number,) of the projections of one pass over `span_deg`, in the order taken.

    - continuous, none: equal steps, the end left out
    - back-and-forth: half of them on the way there, half on the way back
    - interlaced: TIMBIR, Mohan et al. (2015): sub-turns whose order is bit-reversed
    - golden: Köhler (2004): each step the golden share of the span
    """
    orders = {
        "back-and-forth": _back_and_forth,
        "interlaced": _interlaced,
        "golden": _golden,
    }
    share = orders.get(pattern, _equal)(number)
    return start_deg + span_deg * share


def _equal(number: int) -> Angles:
    share: Angles = np.arange(number) / number
    return share


def _back_and_forth(number: int) -> Angles:
    there = np.arange((number + 1) // 2) / max((number + 1) // 2, 1)
    return np.concatenate([there, there[::-1][: number - there.size]])


def _interlaced(number: int) -> Angles:
    """Share of the span; the last angles are left out where the sub-turns do not divide `number`."""
    turns = INTERLACED_TURNS
    per_turn = -(-number // turns)
    order = np.array([_bits_reversed(turn, turns) for turn in range(turns)])
    place = np.arange(per_turn)[None, :] * turns + order[:, None]
    share: Angles = place.ravel()[:number] / (per_turn * turns)
    return share


def _bits_reversed(value: int, size: int) -> int:
    bits = size.bit_length() - 1
    return int(format(value, f"0{bits}b")[::-1], 2) if bits else 0


def _golden(number: int) -> Angles:
    share: Angles = (np.arange(number) * GOLDEN_SHARE) % 1.0
    return share
