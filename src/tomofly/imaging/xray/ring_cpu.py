"""Filtered projections in the processor's memory, and slices out of them by Numba's kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.backend import COARSE, PlaneSums, RingShape
from tomofly.imaging.xray.blocks import LANES, bin_blocks, count_blocks, from_blocks, turned
from tomofly.imaging.xray.filters import FilterName
from tomofly.imaging.xray.level_slices import TiltedPlane, add_tilted, level_slice, read_sinogram
from tomofly.imaging.xray.row_filter import ramp_filter
from tomofly.imaging.xray.slices import Line, Views, add_lines
from tomofly.imaging.xray.window_taps import window_taps

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# Of the window of a quick answer: two columns on either side are enough for that.
_COARSE_TOLERANCE = 0.02


@dataclass
class CpuSums:
    """Vertical planes (line, block, t, lane) and a tilted one (x, y) in float64.

    Float64, so that what is added and later taken away, rounded to float32 each time, leaves no trace: after
    100 000 projections the rounding of the sums themselves is of the order of 1e-14.
    """

    lines: Sequence[Line]
    plane: TiltedPlane | None
    filter_name: FilterName
    of_lines: Float64Array
    of_plane: Float64Array


class CpuRing:
    """A ``RingBackend`` in the processor's memory, on so many threads."""

    name = "cpu"
    level_is_quick = False

    def __init__(self, shape: RingShape, threads: int = 2, memory: FloatArray | None = None) -> None:
        self.shape = shape
        self._threads = threads
        blocks, half_blocks = count_blocks(shape.rows), count_blocks(max(1, shape.rows // COARSE))
        full = (shape.slots, blocks, shape.columns, LANES)
        coarse = (shape.slots, half_blocks, shape.columns // COARSE, LANES)
        sizes = int(np.prod(full)), int(np.prod(coarse))
        if memory is None or len(memory) < sum(sizes):
            # Memory of slots that are never stored is never touched, and so costs nothing.
            memory = np.empty(sum(sizes), np.float32)
        self._full = memory[: sizes[0]].reshape(full)
        self._coarse = memory[sizes[0] : sum(sizes)].reshape(coarse)

    def store(self, slot: int, absorption: FloatArray) -> None:
        """Ramp-filter a projection (z, s), float32, into a slot, and bin it."""
        if absorption.shape != (self.shape.rows, self.shape.columns):
            raise ValueError(f"a projection {absorption.shape} does not fit the ring of {self.shape}")
        ramp_filter(np.ascontiguousarray(absorption, np.float32), self._full[slot])
        bin_blocks(self._full[slot], self._coarse[slot])

    def projection(self, slot: int, every: int = 1) -> FloatArray:
        """Give every so many rows of a slot's ramp-filtered projection: (z, s), float32."""
        rows = np.arange(0, self.shape.rows, every)
        return np.ascontiguousarray(self._full[slot][rows // LANES, :, rows % LANES])

    def sums(
        self, lines: Sequence[Line], plane: TiltedPlane | None, filter_name: FilterName, size: int
    ) -> CpuSums:
        """Give sums of vertical planes and a tilted one that hold nothing yet."""
        shape = (len(lines), self._full.shape[1], size, LANES)
        tilted = np.zeros((size, size) if plane else (0, 0))
        return CpuSums(lines, plane, filter_name, np.zeros(shape), tilted)

    def add(self, sums: PlaneSums, views: Views) -> None:
        """Add projections to sums, times their weights, which are negative to take them away."""
        if not isinstance(sums, CpuSums):
            raise TypeError("sums of another backend")
        taps = window_taps(sums.filter_name)
        if sums.lines:
            add_lines(self._full, list(sums.lines), views, taps, sums.of_lines, threads=self._threads)
        if sums.plane:
            add_tilted(self._full, views, taps, sums.plane, sums.of_plane, threads=self._threads)

    def planes(self, sums: PlaneSums) -> list[FloatArray]:
        """Give the sums as images (z, t), float32, one per line."""
        if not isinstance(sums, CpuSums):
            raise TypeError("sums of another backend")
        rows, blocks = self.shape.rows, self._full.shape[1]
        images = [np.empty((rows, sums.of_lines.shape[2]), np.float32) for _ in sums.lines]

        def one(index: int) -> None:
            line, block = divmod(index, blocks)
            turned(sums.of_lines[line, block], images[line][block * LANES : (block + 1) * LANES])

        for_each(one, len(images) * blocks, self._threads)
        return images

    def tilted(self, sums: PlaneSums) -> FloatArray:
        """Give the tilted plane of sums as an image (y, x), float32."""
        if not isinstance(sums, CpuSums):
            raise TypeError("sums of another backend")
        image = np.empty(sums.of_plane.shape[::-1], np.float32)
        strips = range(0, len(image), LANES)

        def one(index: int) -> None:
            strip = slice(strips[index], strips[index] + LANES)
            turned(sums.of_plane[:, strip], image[strip])

        for_each(one, len(strips), self._threads)
        return image

    def coarse_planes(self, lines: Sequence[Line], filter_name: FilterName, views: Views) -> list[FloatArray]:
        """Sum binned projections: images as large as ``planes`` gives, interpolated."""
        binned = replace(views, size=views.size // COARSE, binning=COARSE)
        passing = np.zeros((len(lines), self._coarse.shape[1], binned.size, LANES), np.float32)
        taps = window_taps(filter_name, binning=COARSE, tolerance=_COARSE_TOLERANCE)
        add_lines(self._coarse, list(lines), binned, taps, passing, threads=self._threads)
        rows = max(1, self.shape.rows // COARSE)
        return [stretch(from_blocks(one, rows), (self.shape.rows, views.size)) for one in passing]

    def level(self, row: int, filter_name: FilterName, views: Views, *, coarse: bool = False) -> FloatArray:
        """Reconstruct the horizontal slice (y, x), float32, at a detector row."""
        if not coarse:
            sinogram = read_sinogram(self._full, views.slots, row)
            return level_slice(sinogram, views, filter_name, threads=self._threads)
        last = max(0, self.shape.rows // COARSE - 1)
        sinogram = read_sinogram(self._coarse, views.slots, min(row // COARSE, last))
        binned = replace(views, size=views.size // COARSE, binning=COARSE)
        image = level_slice(sinogram, binned, filter_name, threads=self._threads)
        return stretch(image, (views.size, views.size))


def stretch(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Double an image along both axes, linearly between the middles of its pixels, to an exact shape.

    What the doubled image lacks, of odd sizes, repeats its last line.
    """
    for axis, size in enumerate(shape):
        image = _doubled(image, size) if axis == 0 else _doubled(image.T, size).T
    return np.ascontiguousarray(image)


def _doubled(image: FloatArray, size: int) -> FloatArray:
    near, far = np.float32(0.75), np.float32(0.25)
    before = np.concatenate([image[:1], image[:-1]])
    after = np.concatenate([image[1:], image[-1:]])
    out = np.empty((size, image.shape[1]), np.float32)
    count = min(size // 2, len(image))
    out[0 : 2 * count : 2] = (near * image + far * before)[:count]
    out[1 : 2 * count : 2] = (near * image + far * after)[:count]
    out[2 * count :] = image[-1]
    return out
