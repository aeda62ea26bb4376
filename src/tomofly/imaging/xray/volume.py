"""Volumes slab by slab: how many rows fit into the memory there is, and from counts to slices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray import back_projection, gridding
from tomofly.imaging.xray.filters import FilterName, filter_response
from tomofly.imaging.xray.normalisation import make_reference, minus_log, transmission

FloatArray = npt.NDArray[np.float32]
Method = Literal["gridding", "direct"]

_STEPS_BETWEEN_EPOCHS = 32
_FRAMES_PER_PIECE = 8


@dataclass(frozen=True)
class Slab:
    """Rows ``first`` to ``last`` (excluded) of the detector, read with some more around them."""

    first: int
    last: int
    read_first: int
    read_last: int


@dataclass(frozen=True)
class ScanSize:
    """What the memory of a slab depends on; ``row_chunk`` rows of frames are stored together."""

    angles: int
    width: int
    itemsize: int
    row_chunk: int = 1


def slab_bytes(size: ScanSize, rows: int, halo: int, threads: int, method: Method) -> int:
    """Give the memory, in bytes, that the reconstruction of a slab takes at its peak."""
    read = rows + 2 * halo
    counts = size.angles * read * size.width * size.itemsize
    # Counts of the next slab are read meanwhile; absorption is there twice while it is worked on.
    projections = 2 * size.angles * read * size.width * 4 + 2 * counts
    slices = 4 * rows * size.width * size.width
    if method == "direct":
        work = back_projection.batch_bytes(size.width, size.angles, threads)
    else:
        work = threads * gridding.batch_bytes(size.width, size.angles)
    return projections + slices + work


def plan_slabs(
    rows: tuple[int, int],
    height: int,
    size: ScanSize,
    memory: int,
    *,
    halo: int = 0,
    threads: int = 1,
    method: Method = "gridding",
) -> list[Slab]:
    """Divide rows (first, last) of a detector of ``height`` into slabs that need at most ``memory`` bytes.

    As few slabs as possible, of whole batches of slices, and where that is possible of whole stored chunks.
    Raises ValueError with what is needed when not even a small slab fits.
    """
    first, last = rows
    batch = gridding.SLICES if method == "gridding" else back_projection.SLICES
    most = _most_rows(
        last - first, batch, lambda count: slab_bytes(size, count, halo, threads, method), memory
    )
    # Whole batches, so that the same slices share a grid however many slabs there are, and whole chunks too.
    together = math.lcm(batch, size.row_chunk)
    for step in (together, batch):
        if step < most < last - first:
            most -= most % step
            break
    edges = [*range(first, last, most), last]
    return [Slab(begin, end, max(0, begin - halo), min(height, end + halo)) for begin, end in pairwise(edges)]


def _most_rows(wanted: int, batch: int, cost: Callable[[int], int], memory: int) -> int:
    """Give the rows of the largest slab that fits: all, else whole batches, else fewer than a batch."""
    choices: list[int] = [wanted, *range(wanted - wanted % batch, 0, -batch), 8, 4, 2, 1]
    for rows in choices:
        if 0 < rows <= wanted and cost(rows) <= memory:
            return rows
    raise ValueError(
        f"one row of slices needs {cost(1) / 1e9:.2g} GB of memory, {memory / 1e9:.2g} GB are allowed"
    )


@dataclass(frozen=True)
class Fields:
    """Dark and flat fields of some rows: ``dark`` (y, x); ``flats`` (epoch, y, x), taken ``at`` so many
    projections from the beginning (NaN or a single one: for all)."""

    dark: FloatArray
    flats: FloatArray
    at: npt.NDArray[np.float64]
    saturation: float | None = None

    def flat_at(self, projection: float) -> FloatArray:
        """Interpolate the flat field in time; before the first and after the last, these."""
        if len(self.flats) == 1:
            only: FloatArray = self.flats[0]
            return only
        place = float(np.interp(projection, self.at, np.arange(len(self.at))))
        before = min(int(place), len(self.flats) - 2)
        share = np.float32(place - before)
        flat: FloatArray = (1 - share) * self.flats[before] + share * self.flats[before + 1]
        return flat


def transmitted(counts: npt.NDArray[Any], fields: Fields, *, threads: int = 1) -> FloatArray:
    """Give the transmission (angle, y, x) of counts; flats are interpolated in steps of some projections.

    Raises ValueError where the fields are of no use.
    """
    out = np.empty(counts.shape, np.float32)
    pieces = _pieces(len(counts), fields)

    def one(index: int) -> None:
        begin, end = pieces[index]
        flat = fields.flat_at((begin + end - 1) / 2)
        reference = make_reference(fields.dark, flat, fields.saturation)
        for frame in range(begin, end):
            out[frame] = transmission(counts[frame], reference)

    for_each(one, len(pieces), threads)
    return out


def _pieces(count: int, fields: Fields) -> list[tuple[int, int]]:
    """Divide projections into runs that share one flat field."""
    if len(fields.flats) == 1:
        run = max(1, -(-count // 16))
    else:
        run = max(1, count // (_STEPS_BETWEEN_EPOCHS * (len(fields.flats) - 1)))
    return [(begin, min(count, begin + run)) for begin in range(0, count, run)]


def absorbed(transmissions: FloatArray, *, threads: int = 1) -> FloatArray:
    """Give minus the logarithm of transmissions (angle, y, x), in place."""
    count = len(transmissions)

    def one(index: int) -> None:
        for frame in range(index * _FRAMES_PER_PIECE, min(count, (index + 1) * _FRAMES_PER_PIECE)):
            transmissions[frame] = minus_log(transmissions[frame])

    for_each(one, -(-count // _FRAMES_PER_PIECE), threads)
    return transmissions


def reconstruct(
    absorption: FloatArray,
    angles_deg: npt.ArrayLike,
    centre: float,
    *,
    method: Method = "gridding",
    filter_name: FilterName = "ramp",
    threads: int = 1,
) -> FloatArray:
    """Reconstruct slices (y of the detector, y, x) in 1/px of absorption (angle, y, s)."""
    width = absorption.shape[2]
    response = filter_response(filter_name, width)
    if method == "direct":
        return back_projection.back_project_slices(absorption, angles_deg, centre, response, threads=threads)
    plan = gridding.plan_gridding(angles_deg, width, centre, response)
    return gridding.reconstruct_slices(absorption, plan, threads=threads)


def sample_rows(height: int, count: int, contrast: Sequence[float] | None = None) -> list[int]:
    """Choose rows spread over a detector, away from its edges; in each part that of the most contrast."""
    parts = np.array_split(np.arange(height)[height // 20 : height - height // 20], min(count, height))
    filled = [part for part in parts if len(part)]
    if contrast is None:
        return [int(part[len(part) // 2]) for part in filled]
    return [int(part[np.argmax(np.asarray(contrast)[part])]) for part in filled]
