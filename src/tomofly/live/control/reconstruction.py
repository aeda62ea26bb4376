"""The PVs of live reconstruction: parameters in, state and measures out."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog

from tomofly.imaging.xray.filters import FILTER_NAMES
from tomofly.live.control.lens import OF_A_LENS, LensMemory
from tomofly.live.frames import Frame
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.pixels import binning_ratio, rescaled_centre, rescaled_position
from tomofly.live.records.pv import Value
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput

log = structlog.get_logger(__name__)

PARAMETERS = (
    "Center", "FilterType", "Dezinger", "RingRemoval", "OrthoX", "OrthoY", "OrthoZ", "RotX", "RotY", "RotZ",
    "Energy", "Distance", "Alpha", "PixelSize", "WindowLength", "AutoCenterEnable",
)  # fmt: skip
POSITIONS = ("Center", "OrthoX", "OrthoY", "OrthoZ")
"""PVs whose 0 means that nobody has chosen yet: the middle is taken, and shown."""
LATENCIES = 200
DEFAULTS = LiveParameters.model_validate({})
FIND_S = 30.0


class Reconstructor(Protocol):
    """What control needs of the live reconstruction."""

    def put(self, frame: Frame) -> bool:
        """Take a frame."""

    def set(self, **values: Any) -> LiveParameters:
        """Change parameters. Raises BadInput."""

    def restart(self) -> None:
        """Forget all projections."""

    @property
    def losses(self) -> Mapping[str, int]:
        """Frames received, and not used by reason."""


def parameters_of(values: PVValues) -> dict[str, Any]:
    """Give the parameters of live reconstruction as the PVs say them."""
    dezinger = values.table["Dezinger"].raw[values.whole("Dezinger")]
    positions = {
        name.lower().replace("ortho", "ortho_"): values.whole(name) or None for name in POSITIONS[1:]
    }
    return positions | {
        "centre": values.number("Center") or None,
        "auto_centre": values.text("AutoCenterEnable") == "Yes",
        "filter": FILTER_NAMES[values.whole("FilterType")],
        "dezinger": dezinger,
        "ring_removal": values.text("RingRemoval") != "None",
        "energy_kev": values.number("Energy"),
        "distance_mm": values.number("Distance"),
        "alpha": values.number("Alpha"),
        "pixel_size_um": values.number("PixelSize") or None,
        "rot_x": values.number("RotX"),
        "rot_y": values.number("RotY"),
        "rot_z": values.number("RotZ"),
        "window_turns": values.number("WindowLength"),
    }


class ReconstructionControl:
    """Binds the PVs to a reconstructor. For the asyncio loop; `take` and `came` are for any thread."""

    def __init__(
        self, values: PVValues, reconstructor: Reconstructor, *, show_limits: Callable[[str], object],
        memory: Path, now: Callable[[], float] = time.time,
        binned: Callable[[Frame], Frame] = lambda frame: frame, binning: float = 1,
        lens_of_frames: bool = False,
    ) -> None:  # fmt: skip
        """`binned` bins a frame as it is to be reconstructed; `binning`: that of the positions in the PVs.

        `lens_of_frames`: nobody but the frames says which lens is in.
        """
        self.values, self._reconstructor, self._show_limits = values, reconstructor, show_limits
        self._lenses, self._now = LensMemory(memory), now
        self._binned, self._binning = binned, binning
        self._lens_of_frames = lens_of_frames
        self._loop = asyncio.get_running_loop()
        self.running = False
        self.latest: LiveSlices | None = None
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._times: deque[float] = deque(maxlen=LATENCIES)
        self._agreed = {name: values[name] for name in PARAMETERS}
        self._size: tuple[int, int] | None = None
        self._middle: Mapping[str, float] = {}
        self._shown = -1
        self._measured = -1
        self._found_at: float | None = None

    def connect(self) -> None:
        """Follow the PVs, and set the parameters as they are."""
        self.values.guard(self._refuse_unfit)
        for name in PARAMETERS:
            self.values.watch(name, self._putter(name))
        self.values.watch("StartRecon", lambda on: self.start() if on else self.stop())
        self.values.watch("AbortRecon", lambda on: None if on else self._aborted())
        self.values.watch("AutoCenter", lambda on: self._find_centre() if on else None)
        self._apply()

    def _putter(self, name: str) -> Callable[[object], None]:
        return lambda _: self._apply(because_of=name)

    def start(self) -> None:
        """Begin to reconstruct."""
        self.running = True
        self.values.set("StartRecon", 1)
        self.values.set("ReconStatus", "Running")

    def stop(self) -> None:
        """Stop; the last slices stay."""
        self.running = False
        self.values.set("StartRecon", 0)
        self.values.set("ReconStatus", "Stopped")

    def _aborted(self) -> None:
        self.stop()
        self._reconstructor.restart()
        self.values.set("AbortRecon", 1)

    def take(self, frame: Frame) -> None:
        """Hand a frame on while reconstruction runs; for the intake's thread."""
        if self.running:
            self._reconstructor.put(self._binned(frame))

    def _refuse_unfit(self, name: str, value: Value) -> None:
        """Refuse a value that does not go with the others, before it is put. Raises BadInput."""
        if name not in PARAMETERS:
            return
        try:
            DEFAULTS.changed(parameters_of(self.values.proposed(name, value)))
        except BadInput as refusal:
            raise BadInput(f"{name}: {refusal.what}", refusal.do) from None

    def _apply(self, because_of: str = "") -> None:
        """Take over all parameters; where they are refused the PVs go back, and the notice says why.

        `because_of`: the PV that a client has put, by which clients find the notice that is theirs.
        """
        try:
            self._reconstructor.set(**parameters_of(self.values))
        except BadInput as refusal:
            self.notice(f"{because_of}: {refusal}" if because_of else str(refusal))
            for name, value in self._agreed.items():
                self.values.set(name, value)
            return
        self._agreed = {name: self.values[name] for name in PARAMETERS}
        self._remember_lens()

    def notice(self, text: str) -> None:
        """Tell the operator."""
        log.warning("notice", text=text)
        self.values.notice(text)

    # What comes out.

    def came(self, slices: LiveSlices) -> None:
        """Note an output; for the worker's thread."""
        self._loop.call_soon_threadsafe(self._came, slices)

    def _came(self, slices: LiveSlices) -> None:
        self.latest = slices
        self._times.append(self._now())
        if slices.stage == "running" and math.isfinite(slices.latency_s):
            self._latencies.append(slices.latency_s)
        size = (slices.y.shape[0], slices.z.shape[1])
        if size != self._size:
            self._fit(size)
        if self._lens_of_frames and slices.lens is not None:
            self.lens(slices.lens)
        if self._found_at is not None:
            self._take_found(slices)

    def _fit(self, size: tuple[int, int]) -> None:
        """Follow another size of images: limits, and positions as they are after binning."""
        rows, columns = size
        ratio = binning_ratio(self._size, size) if self._size is not None else 1.0
        self._size = size
        if ratio != 1:
            self._rescale(ratio)
        for name in POSITIONS:
            self.values.limit(name, 0, (rows if name == "OrthoZ" else columns) - 1)
            self._show_limits(name)
        middle = {
            "Center": (columns - 1) / 2,
            "OrthoX": columns // 2,
            "OrthoY": columns // 2,
            "OrthoZ": rows // 2,
        }
        for name, unchosen in middle.items():
            now = self.values.number(name)
            outside = now > (self.values.limits(name)[1] or 0)
            # The middle of the last size, which nobody chose, is none of this one.
            if not now or outside or (ratio == 1 and now == self._middle.get(name)):
                self.values.set(name, unchosen)
        self._middle = middle
        self._apply()

    def _rescale(self, ratio: float) -> None:
        self._binning /= ratio
        centre = self.values.number("Center")
        self.values.set("Center", max(rescaled_centre(centre, ratio), 0.0) if centre else 0.0)
        for name in POSITIONS[1:]:
            position = self.values.whole(name)
            self.values.set(name, rescaled_position(position, ratio) if position else 0)
        self.values.set("PixelSize", self.values.number("PixelSize") / ratio)

    def publish(self) -> None:
        """Show the state of the latest output; for once in a while, as it measures the slices."""
        slices, values = self.latest, self.values
        losses = self._reconstructor.losses
        values.set("FramesIn", losses.get("received", 0))
        values.set("FramesLost", losses.get("queue_full", 0) + losses.get("thinned_out", 0))
        values.set("FramesNoAngle", losses.get("no_angle", 0))
        values.set("FramesNoField", losses.get("no_fields", 0))
        values.set("UpdateRate", self._rate())
        if slices is None or slices.sequence == self._measured:
            return
        new = slices.number - self._shown if self._shown >= 0 else slices.projections
        self._shown, self._measured = slices.number, slices.sequence
        values.set("BufferSize", f"{min(new, slices.projections)}/{slices.projections}")
        values.set("ReconTime", slices.taken_s)
        values.set("Coverage", slices.coverage_deg / 1.8)
        half, most = self.latencies()
        values.set("Latency50", half)
        values.set("Latency95", most)
        for name, quality in slices.quality().items():
            values.set(f"Sharpness{name.upper()}", quality.sharpness)
            values.set(f"Noise{name.upper()}", quality.noise)
        if slices.found_centre is not None:
            values.set("CenterFound", slices.found_centre.centre)
        if values.text("AutoCenterEnable") == "Yes":
            values.set("Center", slices.centre)

    def latencies(self) -> tuple[float, float]:
        """Give the median and the 95th percentile of the latest latencies, s; 0 before the first."""
        if not self._latencies:
            return 0.0, 0.0
        half, most = np.percentile(self._latencies, [50, 95])
        return float(half), float(most)

    def _rate(self) -> float:
        recent = [at for at in self._times if at > self._now() - 5]
        return len(recent) / 5

    # The rotation centre.

    def _find_centre(self) -> None:
        self._found_at = self._now()
        if self.latest is not None:
            self._take_found(self.latest)

    def _take_found(self, slices: LiveSlices) -> None:
        """Take over what was found, if it is certain; say why not after some time."""
        found = slices.found_centre
        began = self._found_at if self._found_at is not None else self._now()
        if found is not None and found.certain:
            self.values.set("Center", found.centre)
            self._apply()
        elif self._now() - began < FIND_S:
            return
        else:
            self.notice("No certain rotation centre in the pairs of projections; half a turn is needed")
        self._found_at = None
        self.values.set("AutoCenter", 0)

    @property
    def lens_in(self) -> int:
        """The lens that centre and pixel size belong to."""
        return self._lenses.lens

    def lens(self, lens: int) -> None:
        """Another lens is in: its own centre and pixel size come back, and projections begin anew."""
        if lens == self.lens_in:
            return
        self._remember_lens()
        for name, value in self._lenses.change(lens, self._binning).items():
            self.values.set(name, value)
        self._reconstructor.restart()
        self._apply()

    def _remember_lens(self) -> None:
        self._lenses.keep({name: self.values.number(name) for name in OF_A_LENS}, self._binning)

    def go_to(self, positions: Mapping[str, int]) -> None:
        """Put the slices at positions by the names of their PVs."""
        for name, position in positions.items():
            self.values.set(name, position)
        self._apply()

    def put_into_the_middle(self) -> None:
        """Let the slices cross in the middle of the field."""
        if self._size is None:
            return
        rows, columns = self._size
        self.go_to({"OrthoX": columns // 2, "OrthoY": columns // 2, "OrthoZ": rows // 2})

    def way_to_the_middle(self) -> dict[str, float]:
        """Give how far the sample must go, mm, for what the slices cross in to be in the middle of the field.

        By the PVs that name the motors: two under the rotation, at 0 and 90 degrees, and one along the axis.
        """
        pixel_mm = self.values.number("PixelSize") / 1000
        if self._size is None or not pixel_mm:
            return {}
        rows, columns = self._size
        off = {name: self.values.whole(name) for name in POSITIONS[1:]}
        return {
            "SampleTomo0degPVName": (off["OrthoX"] - columns / 2) * pixel_mm,
            "SampleTomo90degPVName": -(off["OrthoY"] - columns / 2) * pixel_mm,
            "SampleYPVName": (off["OrthoZ"] - rows / 2) * pixel_mm,
        }
