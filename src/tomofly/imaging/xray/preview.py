"""A small volume of everything, to look at in three dimensions."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.blocks import LANES, from_blocks, to_blocks
from tomofly.imaging.xray.slices import Views, add_lines, plane_line
from tomofly.imaging.xray.window_taps import window_taps

FloatArray = npt.NDArray[np.float32]


def preview_volume(projections: FloatArray, views: Views, *, threads: int = 1) -> FloatArray:
    """Back-project binned, ramp-filtered projections (view, z, s) into a volume (z, y, x), float32.

    ``views.binning``: of the columns, ``views.size`` columns of the volume; one view per projection, and its
    slots are not used. Values are per unbinned pixel, with a Hann window over the binned columns.
    """
    blocked = to_blocks(projections)
    lines = [
        plane_line("y", _middle_of(y, views.binning), 0, views.size * views.binning)
        for y in range(views.size)
    ]
    sums = np.zeros((len(lines), blocked.shape[1], views.size, LANES), np.float32)
    own = Views(
        np.arange(len(projections)), views.angle_deg, views.weight, views.centre, views.size, views.binning
    )
    add_lines(blocked, lines, own, window_taps("hann"), sums, threads=threads)
    return np.ascontiguousarray(np.swapaxes(from_blocks(sums, projections.shape[1]), 0, 1))


def _middle_of(index: int, binning: int) -> float:
    return (index + 0.5) * binning - 0.5


def bin_columns(projection: FloatArray, binning: int) -> FloatArray:
    """Average every so many columns of a projection (z, s); what is left over at the end is left out."""
    columns = projection.shape[1] // binning
    kept = projection[:, : columns * binning].reshape(len(projection), columns, binning)
    return np.asarray(kept.mean(axis=2), np.float32)
