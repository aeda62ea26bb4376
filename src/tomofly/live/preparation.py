"""From a camera's frame to absorption: flat field, outliers, phase, logarithm, rings."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.live_rings import RunningStripes
from tomofly.imaging.xray.normalisation import Reference, absorption, make_reference, minus_log, transmission
from tomofly.imaging.xray.outliers import remove_zingers
from tomofly.imaging.xray.phase import retrieve_phase
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.parameters import LiveParameters

FloatArray = NDArray[np.float32]


class Fields(Protocol):
    """Dark and flat (y, x) of a frame; the flat is dimmer than the frame's light by ``flat_scale``."""

    @property
    def dark(self) -> FloatArray: ...

    @property
    def flat(self) -> FloatArray: ...

    @property
    def flat_scale(self) -> float: ...


_FEWEST_COLUMNS = 4

FieldsOf = Callable[[Frame], Fields | None]


def why_not(frame: Frame) -> str | None:
    """Say why a frame is no part of a reconstruction, in one word of the counters; None where it is."""
    if frame.kind is not FrameKind.PROJECTION:
        return "not_projection"
    if frame.moving:
        return "moving"
    if not np.isfinite(frame.angle_deg):
        return "no_angle"
    if frame.image.ndim != 2 or frame.image.shape[0] < 2 or frame.image.shape[1] < _FEWEST_COLUMNS:
        return "unreadable"
    return None


class Preparation:
    """Prepares frames side by side, and remembers what is the same for many of them."""

    def __init__(self, fields_of: FieldsOf, threads: int) -> None:
        self._fields_of = fields_of
        self._threads = threads
        self._stripes = RunningStripes()
        self._reference: tuple[Fields, Reference | None] | None = None
        self.complaint = ""

    def prepare(
        self, frames: list[Frame], parameters: LiveParameters
    ) -> tuple[list[tuple[Frame, FloatArray]], int]:
        """Give frames with their absorption (z, s), and how many had no usable dark and flat."""
        known = [(frame, self._reference_of(frame)) for frame in frames]
        usable = [(frame, reference) for frame, reference in known if reference is not None]
        done: list[FloatArray] = [np.empty(0, np.float32)] * len(usable)

        def one(index: int) -> None:
            frame, reference = usable[index]
            done[index] = prepare_frame(frame.image, reference, parameters)

        for_each(one, len(usable), self._threads)
        if parameters.ring_removal:
            done = [self._without_rings(image) for image in done]
        pairs = [(frame, image) for (frame, _), image in zip(usable, done, strict=True)]
        return pairs, len(frames) - len(usable)

    def _without_rings(self, image: FloatArray) -> FloatArray:
        self._stripes.add(image)
        return self._stripes.corrected(image)

    def _reference_of(self, frame: Frame) -> Reference | None:
        fields = self._fields_of(frame)
        if fields is None:
            return None
        last = self._reference
        if last is None or not _same(last[0], fields):
            last = self._reference = (fields, self._made(fields, frame))
        reference = last[1]
        return reference if reference is not None and reference.shape == frame.image.shape else None

    def _made(self, fields: Fields, frame: Frame) -> Reference | None:
        flat = (
            fields.flat
            if fields.flat_scale == 1
            else fields.dark + (fields.flat - fields.dark) * fields.flat_scale
        )
        kind = np.dtype(frame.binned.dtype) if frame.binned else frame.image.dtype
        top = float(np.iinfo(kind).max) if np.issubdtype(kind, np.integer) else None
        try:
            # A flat that reaches the top of the type says nothing of saturation.
            saturated = None if top is None or np.median(flat) > 0.9 * top else top
            return make_reference(fields.dark, flat, saturated)
        except ValueError as error:
            self.complaint = str(error)
            return None


def _same(one: Fields, other: Fields) -> bool:
    return one.dark is other.dark and one.flat is other.flat and one.flat_scale == other.flat_scale


def prepare_frame(image: NDArray[np.generic], reference: Reference, parameters: LiveParameters) -> FloatArray:
    """Give the absorption (z, s), float32, of an image (y, x), as the parameters say."""
    phase = parameters.alpha > 0 and parameters.pixel_size_um is not None
    if not parameters.dezinger and not phase:
        return absorption(image, reference)
    light = remove_zingers(transmission(image, reference), parameters.dezinger)
    if phase:
        light = retrieve_phase(
            light, energy_kev=parameters.energy_kev, distance_mm=parameters.distance_mm,
            pixel_size_um=parameters.pixel_size_um or 1.0, alpha=parameters.alpha,
        )  # fmt: skip
    return minus_log(light)
