"""Where filtered projections are kept and summed: in the processor's memory or a graphics processor's."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.blocks import LANES, count_blocks
from tomofly.imaging.xray.filters import FilterName
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.slices import Line, Views

FloatArray = npt.NDArray[np.float32]
Choice = Literal["auto", "cpu", "gpu"]

COARSE = 2  # binning of the projections kept beside the full ones, for quick answers


@dataclass(frozen=True)
class RingShape:
    """Detector rows and columns, and how many projections there is room for."""

    rows: int
    columns: int
    slots: int

    @property
    def size_bytes(self) -> int:
        """Memory of the projections and of their binned copies in float32, when all slots are in use."""
        full = count_blocks(self.rows) * self.columns
        coarse = count_blocks(self.rows // COARSE) * (self.columns // COARSE)
        return 4 * LANES * self.slots * (full + coarse)


class PlaneSums(Protocol):
    """Sums of planes on their backend: vertical ones, and a tilted one."""

    lines: Sequence[Line]
    plane: TiltedPlane | None
    filter_name: FilterName


class RingBackend(Protocol):
    """Filtered projections by slot, and the slices out of them.

    Slots are told by number; nobody checks that a slot has been stored before it is summed. ``store`` may be
    called for different slots at the same time, all else by one thread.
    """

    name: str
    shape: RingShape
    level_is_quick: bool  # quicker than taking some projections in and out

    def store(self, slot: int, absorption: FloatArray) -> None:
        """Ramp-filter a projection (z, s), float32, into a slot, and bin it."""

    def projection(self, slot: int, every: int = 1) -> FloatArray:
        """Give every so many rows of a slot's ramp-filtered projection: (z, s), float32."""

    def sums(
        self, lines: Sequence[Line], plane: TiltedPlane | None, filter_name: FilterName, size: int
    ) -> PlaneSums:
        """Give sums of vertical planes and a tilted one that hold nothing yet."""

    def add(self, sums: PlaneSums, views: Views) -> None:
        """Add projections to sums, times their weights, which are negative to take them away."""

    def planes(self, sums: PlaneSums) -> list[FloatArray]:
        """Give the sums as images (z, t), float32, one per line."""

    def tilted(self, sums: PlaneSums) -> FloatArray:
        """Give the tilted plane of sums as an image (y, x), float32."""

    def coarse_planes(self, lines: Sequence[Line], filter_name: FilterName, views: Views) -> list[FloatArray]:
        """Sum binned projections: images as large as ``planes`` gives, interpolated."""

    def level(self, row: int, filter_name: FilterName, views: Views, *, coarse: bool = False) -> FloatArray:
        """Reconstruct the horizontal slice (y, x), float32, at a detector row."""


def gpu_problem() -> str | None:
    """Say why the graphics processor cannot be used, or None where it can."""
    if find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA finds no device: {error}"
    return None if count else "CUDA finds no device"


def open_backend(
    choice: Choice,
    shape: RingShape,
    *,
    threads: int = 2,
    half: bool = False,
    memory: FloatArray | None = None,
) -> RingBackend:
    """Open a ring of the given shape on the processor or the graphics processor.

    'auto' takes the graphics processor where there is one. ``half``: keep the ring there in float16.
    ``memory``: flat, float32, for a ring in the processor's memory to lie in, where it is large enough.
    Raises ValueError where 'gpu' is asked for and cannot be had, or the choice is unknown.
    """
    if choice not in ("auto", "cpu", "gpu"):
        raise ValueError(f"the backend is auto, cpu or gpu, not {choice!r}")
    problem = gpu_problem() if choice != "cpu" else "not asked for"
    if choice == "gpu" and problem:
        raise ValueError(f"the graphics processor cannot be used: {problem}")
    if problem is None:
        from tomofly.imaging.xray.slices_gpu import GpuRing

        return GpuRing(shape, half=half)
    from tomofly.imaging.xray.ring_cpu import CpuRing

    return CpuRing(shape, threads, memory)
