"""Filtered projections in a graphics processor's memory, and slices out of them by kernels of our own.

Here a projection is (s, z), rows innermost, so that the threads of a warp, along z, read neighbours. A window
is a sum over a few columns, taken while back-projecting vertical planes; rows of horizontal and tilted
slices, which are few, go through Fourier space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.backend import PlaneSums, RingShape
from tomofly.imaging.xray.filters import FilterName, filter_response, padded_length, window
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.slices import Line, Views, line_positions
from tomofly.imaging.xray.window_taps import plain_taps

FloatArray = npt.NDArray[np.float32]

_BATCH = 8  # projections whose rows of a tilted slice are gathered at a time
_THREADS = (128, 4)  # along z, or x; and along the line, or y

_LINES = r"""
#include <cuda_fp16.h>
extern "C" __global__ void add_lines(
    const RING* ring, const long long* slots, const float* positions, const float* weights, const float* taps,
    double* sums, const int views, const int columns, const int rows, const int size, const int reach)
{
    const int z = blockIdx.x * blockDim.x + threadIdx.x;
    const int t = blockIdx.y * blockDim.y + threadIdx.y;
    const int line = blockIdx.z;
    if (z >= rows || t >= size) return;
    float total = 0.0f;
    for (int view = 0; view < views; ++view) {
        const float* at = positions + 2 * ((long long)line * views + view);
        const float position = fmaf(at[1], (float)t, at[0]);
        if (!(position >= 0.0f && position <= (float)(columns - 1))) continue;
        const int column = min((int)position, columns - 2);
        const float upper = position - (float)column, lower = 1.0f - upper;
        const RING* projection = ring + slots[view] * columns * rows + z;
        float sum = 0.0f;
        for (int k = -reach; k <= reach + 1; ++k) {
            const int from = column + k;
            if (from < 0 || from >= columns) continue;
            const float below = k <= reach ? lower * taps[k + reach] : 0.0f;
            const float above = k > -reach ? upper * taps[k + reach - 1] : 0.0f;
            sum = fmaf(below + above, (float)projection[(long long)from * rows], sum);
        }
        total = fmaf(weights[view], sum, total);
    }
    sums[((long long)line * size + t) * rows + z] += (double)total;
}
"""

_ROWS = r"""
extern "C" __global__ void add_rows(
    const float* lines, const float* first, const float* steps, const float* weights, double* sums,
    const int views, const int columns, const int size, const int per_column, const int per_x)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    float total = 0.0f;
    for (int view = 0; view < views; ++view) {
        const float position = fmaf(steps[view], (float)y, first[(long long)view * size + x]);
        if (!(position >= 0.0f && position <= (float)(columns - 1))) continue;
        const int column = min((int)position, columns - 2);
        const float upper = position - (float)column;
        const float* line = lines + ((long long)view * columns + column) * per_column + (long long)x * per_x;
        total = fmaf(weights[view], fmaf(upper, line[per_column] - line[0], line[0]), total);
    }
    sums[(long long)y * size + x] += (double)total;
}
"""


@lru_cache(maxsize=4)
def _kernel(source: str, name: str, ring: str) -> Any:
    return cupy.RawKernel(source.replace("RING", ring), name)


def _blocks(width: int, height: int, depth: int = 1) -> tuple[int, int, int]:
    return (-(-width // _THREADS[0]), -(-height // _THREADS[1]), depth)


@dataclass
class GpuSums:
    """Vertical planes (line, t, z) and a tilted one (y, x), float64, on the device."""

    lines: Sequence[Line]
    plane: TiltedPlane | None
    filter_name: FilterName
    of_lines: Any
    of_plane: Any


class GpuRing:
    """A ``RingBackend`` on the current CUDA device; ``half`` keeps projections in float16."""

    name = "gpu"
    level_is_quick = True

    def __init__(self, shape: RingShape, *, half: bool = False) -> None:
        if shape.columns < 2:
            raise ValueError("a detector of one column has no slices")
        self.shape = shape
        kind = np.float16 if half else np.float32
        self._type = "__half" if half else "float"
        self._full = cupy.zeros((shape.slots, shape.columns, shape.rows), kind)
        self._response = cupy.asarray(filter_response("ramp", shape.columns))

    def store(self, slot: int, absorption: FloatArray) -> None:
        """Ramp-filter a projection (z, s), float32, into a slot."""
        if absorption.shape != (self.shape.rows, self.shape.columns):
            raise ValueError(f"a projection {absorption.shape} does not fit the ring of {self.shape}")
        length = padded_length(self.shape.columns)
        image = cupy.asarray(np.ascontiguousarray(absorption, np.float32))
        spectrum = cupy.fft.rfft(image, length, axis=1) * self._response
        filtered = cupy.fft.irfft(spectrum, length, axis=1)[:, : self.shape.columns].T.astype(np.float32)
        self._full[slot] = filtered

    def projection(self, slot: int, every: int = 1) -> FloatArray:
        """Give every so many rows of a slot's ramp-filtered projection: (z, s), float32."""
        return np.ascontiguousarray(cupy.asnumpy(self._full[slot][:, ::every]).T, np.float32)

    def sums(
        self, lines: Sequence[Line], plane: TiltedPlane | None, filter_name: FilterName, size: int
    ) -> GpuSums:
        """Give sums of vertical planes and a tilted one that hold nothing yet."""
        of_lines = cupy.zeros((len(lines), size, self.shape.rows), np.float64)
        tilted = cupy.zeros((size, size) if plane else (0, 0), np.float64)
        return GpuSums(lines, plane, filter_name, of_lines, tilted)

    def add(self, sums: PlaneSums, views: Views) -> None:
        """Add projections to sums, times their weights, which are negative to take them away."""
        if not isinstance(sums, GpuSums):
            raise TypeError("sums of another backend")
        if not len(views.slots):
            return
        if sums.lines:
            self._add_lines(self._full, sums.lines, sums.filter_name, views, sums.of_lines)
        if sums.plane:
            for start in range(0, len(views.slots), _BATCH):
                part = slice(start, start + _BATCH)
                some = replace(
                    views, slots=views.slots[part], angle_deg=views.angle_deg[part], weight=views.weight[part]
                )
                self._add_tilted(some, sums.plane, sums.filter_name, sums.of_plane)

    def planes(self, sums: PlaneSums) -> list[FloatArray]:
        """Give the sums as images (z, t), float32, one per line."""
        if not isinstance(sums, GpuSums):
            raise TypeError("sums of another backend")
        return [_on_host(one.T) for one in sums.of_lines]

    def tilted(self, sums: PlaneSums) -> FloatArray:
        """Give the tilted plane of sums as an image (y, x), float32."""
        if not isinstance(sums, GpuSums):
            raise TypeError("sums of another backend")
        return _on_host(sums.of_plane)

    def coarse_planes(self, lines: Sequence[Line], filter_name: FilterName, views: Views) -> list[FloatArray]:
        """Sum fewer projections than are given: the device needs no binning to be quick."""
        sums = self.sums(lines, None, filter_name, views.size)
        self.add(sums, views)
        return self.planes(sums)

    def level(self, row: int, filter_name: FilterName, views: Views, *, coarse: bool = False) -> FloatArray:
        """Reconstruct the horizontal slice (y, x), float32, at a detector row; coarse is no quicker here."""
        del coarse
        image = cupy.zeros((views.size, views.size), np.float64)
        if len(views.slots):
            slots = cupy.asarray(views.slots)
            lines = self._full[slots, :, row].astype(np.float32)[:, :, None]
            flat = TiltedPlane(row, 0.0, self.shape.rows)
            _add_rows(_windowed(lines, filter_name), views, flat, image)
        return _on_host(image)

    def _add_lines(
        self, ring: Any, lines: Sequence[Line], filter_name: FilterName, views: Views, sums: Any
    ) -> None:
        taps = plain_taps(filter_name).weights
        positions = line_positions(list(lines), views).astype(np.float32)
        columns, rows = ring.shape[1:]
        arguments = (
            ring, cupy.asarray(views.slots, np.int64), cupy.asarray(positions),
            cupy.asarray(views.weight, np.float32), cupy.asarray(taps), sums, np.int32(len(views.slots)),
            np.int32(columns), np.int32(rows), np.int32(views.size), np.int32(len(taps) // 2),
        )  # fmt: skip
        grid = _blocks(rows, views.size, len(lines))
        _kernel(_LINES, "add_lines", self._type)(grid, (*_THREADS, 1), arguments)

    def _add_tilted(self, views: Views, plane: TiltedPlane, filter_name: FilterName, sums: Any) -> None:
        """Gather the rows that each x lies at: (view, s, x), weighted between two of the detector's."""
        along = np.arange(views.size) - views.size // 2
        height = plane.row + along * np.sin(np.deg2rad(plane.tilt_deg))
        seen = (height >= 0) & (height <= plane.rows - 1)
        low = np.clip(height.astype(np.int64), 0, plane.rows - 1)
        high = np.minimum(low + 1, plane.rows - 1)
        share = np.where(seen, height - low, 0).astype(np.float32)
        projections = self._full[cupy.asarray(views.slots)]
        below = projections[:, :, cupy.asarray(low)].astype(np.float32)
        above = projections[:, :, cupy.asarray(high)].astype(np.float32)
        lower, upper = (cupy.asarray(part) for part in (((1 - share) * seen).astype(np.float32), share))
        _add_rows(_windowed(lower * below + upper * above, filter_name), views, plane, sums)


def _windowed(lines: Any, filter_name: FilterName) -> Any:
    """Apply a filter's window to rows (view, s, x) along s, padded."""
    if filter_name == "ramp":
        return lines
    columns = lines.shape[1]
    length = padded_length(columns)
    frequency = np.arange(length // 2 + 1) / length
    response = cupy.asarray(window(filter_name, frequency).astype(np.float32))
    spectrum = cupy.fft.rfft(lines, length, axis=1) * response[:, None]
    return cupy.fft.irfft(spectrum, length, axis=1)[:, :columns].astype(np.float32)


def _add_rows(lines: Any, views: Views, plane: TiltedPlane, sums: Any) -> None:
    """Back-project rows (view, s, x), or (view, s, 1) that all x share, into an image (y, x)."""
    angle, middle = np.deg2rad(views.angle_deg), views.size // 2
    across = (np.arange(views.size) - middle) * np.cos(np.deg2rad(plane.tilt_deg))
    first = across * np.cos(angle)[:, None] + middle * np.sin(angle)[:, None] + views.centre
    lines = cupy.ascontiguousarray(lines)
    arguments = (
        lines, cupy.asarray(first, np.float32), cupy.asarray(-np.sin(angle), np.float32),
        cupy.asarray(views.weight, np.float32), sums, np.int32(len(angle)), np.int32(lines.shape[1]),
        np.int32(views.size), np.int32(lines.shape[2]), np.int32(lines.shape[2] > 1),
    )  # fmt: skip
    _kernel(_ROWS, "add_rows", "float")(_blocks(views.size, views.size), (*_THREADS, 1), arguments)


def _on_host(image: Any) -> FloatArray:
    return np.ascontiguousarray(cupy.asnumpy(image), np.float32)
