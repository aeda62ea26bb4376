"""The slices as NTNDArrays over PVAccess: three panels as ImageJ's users know them, each slice, a volume."""

import math
import time
from collections.abc import Mapping
from threading import Condition, Thread
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray
from p4p import Value
from p4p.nt import NTNDArray
from p4p.server import Server
from p4p.server.thread import SharedPV

from tomofly.formats.ntndarray import make_ndarray
from tomofly.live.live_slices import LiveSlices
from tomofly.live.losses import LossCounter, Losses

log = structlog.get_logger(__name__)

_END_S = 10.0
_UNWATCHED_S = 1.0
# What the reconstruction counts beside its losses.
_NO_LOSS = ("received", "not_projection", "moving")


def join_panels(
    z: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Z, Y and X slice beside each other, float32, as high as the highest of them; nothing is drawn in.

    ``z`` (y, x), ``y`` (z, x), ``x`` (z, y): a picture (max(n, nz), 3 n) whose rows below a slice are 0.
    """
    panels = (z, y, x)
    height, width = max(len(panel) for panel in panels), sum(panel.shape[1] for panel in panels)
    picture = np.zeros((height, width), np.float32)
    column = 0
    for panel in panels:
        picture[: panel.shape[0], column : column + panel.shape[1]] = panel
        column += panel.shape[1]
    return picture


def describe(slices: LiveSlices, account: Losses | None = None) -> dict[str, object]:
    """What goes out with every picture, as attributes; `account` is that of the intake."""
    parameters = slices.parameters
    idx, idy, idz = slices.ortho_xyz
    told: dict[str, object] = {
        "FirstId": slices.oldest,
        "LastId": slices.number,
        "LastUniqueId": slices.unique_id,
        "Angle": slices.angle_deg,
        "Coverage_deg": slices.coverage_deg,
        "Projections": slices.projections,
        "Center": slices.centre,
        "idx": idx,
        "idy": idy,
        "idz": idz,
        "RotX": parameters.rot_x,
        "RotY": parameters.rot_y,
        "RotZ": parameters.rot_z,
        "Filter": str(parameters.filter),
        "Dezinger": parameters.dezinger,
        "RingRemoval": int(parameters.ring_removal),
        "Alpha": parameters.alpha,
        "WindowTurns": parameters.window_turns,
        "PixelSize_um": parameters.pixel_size_um,
        "Unit": slices.unit,
        "Stage": slices.stage,
        "Settled": slices.settled,
        "Latency_ms": 1e3 * slices.latency_s,
        "Recon_ms": 1e3 * slices.taken_s,
    }
    lost = {stage: count for stage, count in slices.losses.items() if stage not in _NO_LOSS}
    if account is not None:
        lost |= {"missing": account.missing, **account.lost}
    told["Losses"] = sum(lost.values())
    return told | {f"Lost_{stage.replace(' ', '_')}": count for stage, count in lost.items()}


def layout_of(slices: LiveSlices) -> str:
    """Where each slice stands in the picture of three: name, first column, width, height."""
    words, column = [], 0
    for name in ("z", "y", "x"):
        height, width = getattr(slices, name).shape
        words.append(f"{name}:{column},{width}x{height}")
        column += width
    return " ".join(words)


class SlicePublisher:
    """Serves the newest slices under one name for all three, and one each.

    ``channel`` shows the three panels; ``channel`` + Z, Y, X one slice each, + Volume the preview volume.
    Publishing happens in a thread of its own, of the newest only: neither a slow viewer nor the making of the
    pictures holds up the reconstruction. `configuration`: EPICS_PVAS_* settings of the server; those of the
    environment where None, and an isolated server on the loopback where it is empty. `losses`: the intake's,
    told with each picture beside those of the reconstruction.
    """

    def __init__(
        self,
        channel: str,
        configuration: Mapping[str, str] | None = None,
        *,
        losses: LossCounter | None = None,
    ) -> None:
        self.channel = channel
        self._losses = losses
        self._watched = {name: _Watched() for name in ("", "Z", "Y", "X", "Volume")}
        self._pvs = {f"{channel}{name}": _empty_pv(watched) for name, watched in self._watched.items()}
        self._asked = configuration
        self._server: Server | None = None
        self._changed = Condition()
        self._slices: LiveSlices | None = None
        self._volume: tuple[NDArray[np.float32], LiveSlices] | None = None
        self._closing = False
        self._thread = Thread(target=self._run, name="publishing", daemon=True)
        self.published = 0
        self.skipped = 0

    @property
    def pvs(self) -> Mapping[str, SharedPV]:
        """The channels by name, for a server of somebody else's."""
        return self._pvs

    @property
    def configuration(self) -> dict[str, str]:
        """What a client needs to find the server."""
        return dict(self._server.conf()) if self._server is not None else {}

    def start(self, *, serve: bool = True) -> Self:
        """Begin to publish; with `serve`, by a server of its own."""
        if serve:
            self._server = _serve(self._pvs, self._asked)
        self._thread.start()
        return self

    def close(self) -> None:
        """Publish what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_END_S)
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, slices: LiveSlices) -> None:
        """Show these slices; comes back at once. Older ones that still wait are left out."""
        with self._changed:
            self.skipped += self._slices is not None
            self._slices = slices
            self._changed.notify()

    def publish_volume(self, volume: NDArray[np.float32], made_with: LiveSlices) -> None:
        """Show a preview volume (z, y, x) made of the same projections as these slices."""
        with self._changed:
            self._volume = (volume, made_with)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slices or self._volume or self._closing)
                slices, self._slices = self._slices, None
                volume, self._volume = self._volume, None
                if self._closing and slices is None and volume is None:
                    return
            try:
                self._post(slices, volume)
            except (RuntimeError, ValueError, TypeError) as error:
                log.warning("slices could not be published", reason=str(error))

    def _post(self, slices: LiveSlices | None, volume: tuple[NDArray[np.float32], LiveSlices] | None) -> None:
        if slices is not None and any(self._watched[name].wants() for name in ("", "Z", "Y", "X")):
            told = describe(slices, self._losses.account() if self._losses else None)
            if self._watched[""].wants():
                panels = join_panels(slices.z, slices.y, slices.x)
                self._show("", panels, slices, {**told, "PanelLayout": layout_of(slices)})
            for name in ("z", "y", "x"):
                if self._watched[name.upper()].wants():
                    self._show(name.upper(), getattr(slices, name), slices, {**told, "Slice": name})
            self.published += 1
        if volume is not None:
            self._show("Volume", volume[0], volume[1], {**describe(volume[1]), "Slice": "volume"})

    def _show(
        self, name: str, image: NDArray[np.float32], slices: LiveSlices, told: Mapping[str, object]
    ) -> None:
        value = make_ndarray(
            np.asarray(image, np.float32), unique_id=slices.sequence, time=slices.made_at,
            data_time=slices.acquired_at, attributes=told,
        )  # fmt: skip
        self._pvs[f"{self.channel}{name}"].post(value)
        self._watched[name].shown_at = time.monotonic()


class _Watched:
    """Whether anybody is connected to a channel: nobody else needs more than a picture now and then."""

    def __init__(self) -> None:
        self.by_somebody = False
        self.shown_at = -math.inf

    def onFirstConnect(self, _pv: SharedPV) -> None:
        self.by_somebody = True

    def onLastDisconnect(self, _pv: SharedPV) -> None:
        self.by_somebody = False

    def wants(self) -> bool:
        """Say whether a picture is to be shown now."""
        return self.by_somebody or time.monotonic() - self.shown_at > _UNWATCHED_S


def _empty_pv(watched: _Watched) -> SharedPV:
    return SharedPV(initial=Value(NTNDArray.buildType()), handler=watched)


def _serve(pvs: Mapping[str, SharedPV], configuration: Mapping[str, str] | None) -> Server:
    if configuration is None:
        return Server(providers=[dict(pvs)])
    if not configuration:
        return Server(providers=[dict(pvs)], isolate=True)
    return Server(providers=[dict(pvs)], conf=dict(configuration), useenv=False)
