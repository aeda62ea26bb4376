"""Positions in pixels when the size of the pixels changes: binning."""

import math

SIZES = (1, 2, 4)
"""Pixels of one side that become one, in the order of StreamBinning's choices."""


def binning_ratio(before_yx: tuple[int, int], after_yx: tuple[int, int]) -> float:
    """Give how many new pixels one old pixel is wide, by the sizes: 1/4 to 4, and 1 where it was no binning.

    What did not fill a block was left out, so that sizes are whole quotients.
    """
    for size in SIZES[1:]:
        if after_yx == (before_yx[0] // size, before_yx[1] // size):
            return 1 / size
        if before_yx == (after_yx[0] // size, after_yx[1] // size):
            return float(size)
    return 1.0


def rescaled_centre(centre: float, ratio: float) -> float:
    """Give a centre (0 is the middle of the first pixel) in pixels of which `ratio` make one old one."""
    return (centre + 0.5) * ratio - 0.5


def rescaled_position(position: int, ratio: float) -> int:
    """Give the new pixel in which the middle of the old one lies; between two, the first."""
    return math.ceil((position + 0.5) * ratio - 1)
