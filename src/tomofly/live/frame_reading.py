"""What a received image is: dark, flat or projection, at which angle, exposure and lens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomofly.formats.ntndarray import NDFrame
from tomofly.live.frame_numbers import Numbered
from tomofly.live.frames import Frame, FrameKind

Theta = NDArray[np.floating[Any]]

# tomoScan's words for FrameType, and the places in a file to which areaDetector is told to send a frame.
_KINDS = {
    "darkfield": FrameKind.DARK, "dark": FrameKind.DARK, "data_dark": FrameKind.DARK,
    "flatfield": FrameKind.FLAT, "flat": FrameKind.FLAT, "data_white": FrameKind.FLAT,
    "projection": FrameKind.PROJECTION, "data": FrameKind.PROJECTION,
}  # fmt: skip


class Flag(StrEnum):
    """What had to be taken from elsewhere than the frame itself, or is not known."""

    KIND_FROM_PV = "frame type from its PV, not from the frame"
    KIND_ASSUMED = "frame type unknown, taken for a projection"
    ANGLE_FROM_LIST = "angle from the broadcast list"
    ANGLE_FROM_STEP = "angle from degrees per frame"
    BEYOND_LIST = "no angle: the broadcast list is too short"
    NO_ANGLE = "no angle: no attribute, list or degrees per frame"


@dataclass(frozen=True)
class AttributeNames:
    """Names of the attributes (NDAttributes) that travel with each frame."""

    kind: str = "FrameType"
    location: str = "HDF5FrameLocation"
    angle: str = "RotationAngle"
    exposure: str = "ExposureTime"
    lens: str = "LensSelect"
    moving: str = "SampleMoving"
    shutter: str = "ShutterOpen"


@dataclass(frozen=True, eq=False)
class _Around:
    """What is known beside the frames: `theta` belongs to the ids from `first_id` on."""

    kind: FrameKind | None = None
    held: bool = False
    theta: Theta | None = None
    first_id: int = 0
    lap: int | None = None  # of the frames when `first_id` was set; None until the next frame comes
    start_deg: float = 0.0
    step_deg: float | None = None


class FrameReader:
    """Makes frames of images; what a frame does not say of itself is taken from PVs and settings.

    The setters may be called from any thread, `read` from one.
    """

    def __init__(
        self, *, start_deg: float = 0.0, step_deg: float | None = None, names: AttributeNames | None = None
    ) -> None:
        self._around = _Around(start_deg=start_deg, step_deg=step_deg)
        self._names = names or AttributeNames()

    def set_kind(self, kind: object) -> None:
        """What frames without an attribute of their own show from now on: FrameType's number or word."""
        self._around = replace(self._around, kind=_kind(kind))

    def hold(self, held: bool) -> None:
        """Take frames for nothing, whatever they say of themselves: something is on its way."""
        self._around = replace(self._around, held=held)

    def set_theta(self, theta: Theta | None, first_id: int | None = None) -> None:
        """The angles in degrees (frame,) of the frames from id `first_id` on (None: as set before)."""
        first = self._around.first_id if first_id is None else first_id
        self._around = replace(self._around, theta=theta, first_id=first, lap=None)

    def set_first_id(self, first_id: int) -> None:
        """The id of the frame to which the first angle belongs."""
        self._around = replace(self._around, first_id=first_id, lap=None)

    def set_step(self, start_deg: float, step_deg: float | None) -> None:
        """Degrees per frame from `start_deg` at the first id, where there is no other angle (None: none)."""
        self._around = replace(self._around, start_deg=start_deg, step_deg=step_deg)

    def read(self, image: NDFrame, numbered: Numbered, received_at: float) -> tuple[Frame, tuple[Flag, ...]]:
        """The frame, and what had to be taken from elsewhere than from itself."""
        around = self._around
        if around.lap is None or around.lap > numbered.lap:  # ids are counted anew since then
            around = self._around = replace(around, lap=numbered.lap)
        kind, kind_flags = self._kind(image.attributes, around)
        angle, angle_flags = self._angle(image, numbered, around)
        frame = Frame(
            number=numbered.number,
            unique_id=image.unique_id,
            image=image.image,
            kind=kind,
            angle_deg=angle,
            acquired_at=received_at if math.isnan(image.taken_at) else image.taken_at,
            received_at=received_at,
            exposure_s=_positive(image.attributes.get(self._names.exposure)),
            lens=_whole(image.attributes.get(self._names.lens)),
            moving=bool(_whole(image.attributes.get(self._names.moving)) or 0),
            attributes=image.attributes,
        )
        return frame, kind_flags + (angle_flags if kind is FrameKind.PROJECTION else ())

    def _kind(self, attributes: Mapping[str, object], around: _Around) -> tuple[FrameKind, tuple[Flag, ...]]:
        names = self._names
        kind = _kind(attributes.get(names.kind))
        if kind is None:
            kind = _kind(attributes.get(names.location))
        flags: tuple[Flag, ...] = ()
        if kind is None:
            flags = (Flag.KIND_ASSUMED if around.kind is None else Flag.KIND_FROM_PV,)
            kind = FrameKind.PROJECTION if around.kind is None else around.kind
        if around.held or _whole(attributes.get(names.moving)):
            return FrameKind.OTHER, flags
        shutter = _whole(attributes.get(names.shutter))
        # What is wanted and what the camera sees differ while the shutter is on its way.
        if shutter is not None and kind is not FrameKind.OTHER and bool(shutter) is (kind is FrameKind.DARK):
            return FrameKind.OTHER, flags
        return kind, flags

    def _angle(self, image: NDFrame, numbered: Numbered, around: _Around) -> tuple[float, tuple[Flag, ...]]:
        own = image.attributes.get(self._names.angle)
        if isinstance(own, int | float) and math.isfinite(own):
            return float(own), ()
        place = image.unique_id + numbered.lap - (around.first_id + (around.lap or 0))
        if around.theta is not None:
            if 0 <= place < len(around.theta):
                return float(around.theta[place]), (Flag.ANGLE_FROM_LIST,)
            return math.nan, (Flag.BEYOND_LIST,)
        if around.step_deg is not None:
            return around.start_deg + around.step_deg * place, (Flag.ANGLE_FROM_STEP,)
        return math.nan, (Flag.NO_ANGLE,)


def _kind(said: object) -> FrameKind | None:
    """The kind that an attribute or a PV names; None where there is none, OTHER for what nobody knows."""
    if said is None or said == "":
        return None
    if isinstance(said, str) and not said.isdigit():
        return _KINDS.get(said.rsplit("/", maxsplit=1)[-1].replace(" ", "").lower(), FrameKind.OTHER)
    number = _whole(said)
    return FrameKind(number) if number in set(FrameKind) else FrameKind.OTHER


def _whole(said: object) -> int | None:
    try:
        return int(float(said)) if isinstance(said, int | float | str) and said != "" else None
    except (ValueError, OverflowError):
        return None


def _positive(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and said > 0 and math.isfinite(said) else None
