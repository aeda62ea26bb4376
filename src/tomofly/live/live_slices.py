"""What the live reconstruction gives out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomofly.imaging.xray.rotation_centre import CentreEstimate
from tomofly.imaging.xray.slice_quality import SliceQuality, slice_quality
from tomofly.live.parameters import LiveParameters

FloatArray = NDArray[np.float32]
Stage = Literal["coarse", "full", "running"]


@dataclass(frozen=True, eq=False)
class LivePreview:
    """A small volume (z, y, x), float32, in ``unit``; voxels are ``binning`` pixels wide in all directions.

    ``number`` is of the newest projection in it, ``made_at`` in POSIX seconds.
    """

    volume: FloatArray
    binning: int
    unit: Literal["1/um", "1/px"]
    number: int
    made_at: float


@dataclass(frozen=True, eq=False)
class LiveSlices:
    """Three slices, float32, and what they were made of and with.

    ``z`` (y, x) is horizontal, ``y`` (z, x) and ``x`` (z, y) vertical; values are absorption per µm where the
    pixel size is known, else per pixel (``unit``). ``stage``: 'coarse' from binned projections right after a
    change, 'full', or 'running' when only new projections came in. ``centre`` and ``ortho_xyz`` are those in
    use. ``number``, ``unique_id``, ``angle_deg`` and ``lens`` are of the newest projection in it, ``oldest``
    is the number of the oldest. ``coverage_deg``: seen of the half turn. ``settled``: share of the
    projections prepared as the parameters now say. Times are POSIX seconds; ``latency_s`` from the newest
    frame's receipt.
    """

    sequence: int
    stage: Stage
    z: FloatArray
    y: FloatArray
    x: FloatArray
    unit: Literal["1/um", "1/px"]
    parameters: LiveParameters
    parameters_version: int
    centre: float
    ortho_xyz: tuple[int, int, int]
    number: int
    unique_id: int
    angle_deg: float
    oldest: int
    projections: int
    coverage_deg: float
    settled: float
    acquired_at: float
    made_at: float
    latency_s: float
    taken_s: float
    found_centre: CentreEstimate | None
    losses: Mapping[str, int]
    lens: int | None = None

    def quality(self) -> dict[str, SliceQuality]:
        """Measure sharpness and noise of the slices, by name; some milliseconds each."""
        return {name: slice_quality(getattr(self, name)) for name in ("z", "y", "x")}
