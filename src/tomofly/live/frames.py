"""A frame of the camera, as it travels through the live session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray


class FrameKind(IntEnum):
    """What a frame shows; the numbers are those of tomoScan's FrameType PV."""

    DARK = 0
    FLAT = 1
    PROJECTION = 2
    OTHER = 3  # the sample is moving, or nobody can tell


@dataclass(frozen=True)
class Binned:
    """How an image was binned here: pixels of one side that became one, and what the camera had sent."""

    size: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of the camera, decompressed, with what is known of it.

    `number` counts up for ever: it is `unique_id`, as sent, unwrapped. `image` (y, x) is in the camera's own
    type and belongs to the frame. `angle_deg` is NaN where unknown; `acquired_at` (the camera's time stamp)
    and `received_at` are POSIX seconds; `exposure_s` and `lens` are None where unknown. `attributes` are all
    that came with the image, by name. `binned`: where the image is the binned one of another.
    """

    number: int
    unique_id: int
    image: NDArray[Any]
    kind: FrameKind
    angle_deg: float
    acquired_at: float
    received_at: float
    exposure_s: float | None = None
    lens: int | None = None
    moving: bool = False
    attributes: Mapping[str, object] = field(default_factory=dict)
    binned: Binned | None = None
