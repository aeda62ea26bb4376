"""The parts of the live program, put together: what each hears of the others."""

import difflib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import structlog
from numpy.typing import NDArray

from tomofly.imaging.xray.backend import gpu_problem
from tomofly.live.binning import StreamBinning
from tomofly.live.calibration import CalibrationStore
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.collection.angles import AngleList
from tomofly.live.collection.beamline import device_names
from tomofly.live.collection.broadcast import Broadcast
from tomofly.live.control.facts import facts
from tomofly.live.field_runs import FieldVersion
from tomofly.live.frame_reading import FrameReader
from tomofly.live.frames import FrameKind
from tomofly.live.intake import Intake
from tomofly.live.losses import LossCounter
from tomofly.live.memory import keep_ready, taken_beforehand
from tomofly.live.parameters import LiveParameters
from tomofly.live.pixels import SIZES
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings
from tomofly.live.slicer import Room
from tomofly.model import BadInput, TomoflyError

log = structlog.get_logger(__name__)

GIGABYTE = 10**9


def pv_groups(settings: LiveSettings) -> tuple[PVValues, PVValues]:
    """Make the PVs of collection and of reconstruction, as the settings say. Raises TomoflyError."""
    scan = PVValues(settings.prefixes.scan, SCAN_TABLE)
    stream = PVValues(settings.prefixes.stream, STREAM_TABLE)
    for name, value in device_names(settings).items():
        scan.set(name, value)
    prefix = settings.prefixes.scan
    scan.set("PvaStreamPVPrefix", prefix)
    channels = {
        "TomoScanPVPrefix": prefix, "ImagePVAPName": f"{prefix}PvaPluginPVPrefix",
        "DarkPVAName": f"{prefix}StreamDarkFields", "FlatPVAName": f"{prefix}StreamFlatFields",
        "ThetaPVAName": f"{prefix}StreamTheta", "ReconPVAName": recon_channel(settings),
        "MctOpticsPVPrefix": settings.camera.optics, "RoiPluginPVPrefix": settings.camera.roi,
        "SampleYPVName": settings.sample_y.record,
    }  # fmt: skip
    for name, value in channels.items():
        stream.set(name, value)
    for name, given in settings.initial.items():
        _set_initial(scan, stream, name, given)
    return scan, stream


def _set_initial(scan: PVValues, stream: PVValues, name: str, value: Any) -> None:
    group = next((group for group in (scan, stream) if name in group.table), None)
    if group is None:
        close = difflib.get_close_matches(name, [*scan.table, *stream.table], n=1)
        raise TomoflyError(
            f"There is no PV '{name}', as in [initial] of the settings",
            f"Did you mean '{close[0]}'?" if close else "`tomofly live pvs` lists all names",
        )
    group.set(name, group.checked(name, value))


def recon_channel(settings: LiveSettings) -> str:
    """Give the channel of the three slices."""
    return settings.reconstruction.images or f"{settings.prefixes.stream}StreamRecon"


def backend_in_use(settings: LiveSettings) -> str:
    """Say what will reconstruct: cpu or gpu. Raises BadInput where a GPU is wanted and there is none."""
    choice = settings.reconstruction.backend
    problem = gpu_problem()
    if choice == "gpu" and problem:
        raise BadInput(f"There is no GPU to use: {problem}", "Set reconstruction.backend to auto or cpu")
    return "gpu" if choice != "cpu" and problem is None else "cpu"


class Parts:
    """The parts that frames pass through, and what they tell each other."""

    def __init__(self, settings: LiveSettings) -> None:
        self.settings = settings
        self.scan, self.stream = pv_groups(settings)
        self._ring_memory: NDArray[np.float32] | None = None
        self.losses = LossCounter()
        self.reader = FrameReader()
        self.intake = Intake(
            settings.camera.image, reader=self.reader, losses=self.losses, queue_frames=settings.camera.queue
        )
        self.calibration = CalibrationStore(settings.service.state_folder / "fields")
        self.binning = StreamBinning(self.calibration.for_frame)
        self.scan.watch("StreamBinning", lambda _: self._bin())
        self.broadcast = Broadcast(settings.prefixes.scan)
        self.calibration.on_change(self._field_came)
        self.fields: dict[FrameKind, FieldVersion] = {}
        self.field_counts = {FrameKind.DARK: 0, FrameKind.FLAT: 0}
        for version in self.calibration.versions():
            self._field_came(version)

    def _bin(self) -> None:
        """Bin what is streamed as the PV says; a ROI plugin that bins is the business of collection."""
        size = SIZES[self.scan.whole("StreamBinning")]
        if self.settings.camera.binning != "here" or size == self.binning.size:
            return
        self.binning.size = size
        for version in self.fields.values():
            self._broadcast(version)
        self.stream.notice(f"Projections are binned {size}x from here on: their ring begins anew")

    def room(self) -> Room:
        """Give what the live reconstruction may take."""
        wanted = self.settings.reconstruction
        return Room(
            memory_bytes=int(wanted.memory_gb * GIGABYTE),
            most_slots=wanted.projections,
            backend=wanted.backend,
            threads=wanted.threads or _cores(),
            memory=self._ring_memory,
        )

    def take_memory(self) -> None:
        """Take the memory of both rings, where that is wanted; TomoflyError where there is too little."""
        if not self.settings.service.reserve:
            return
        here = backend_in_use(self.settings) == "cpu"
        filtered = int(self.settings.reconstruction.memory_gb * GIGABYTE) if here else 0
        raw = int(self.settings.capture.ring_gb * GIGABYTE)
        free = psutil.virtual_memory().available
        if filtered + raw > free:
            raise TomoflyError(
                f"service.reserve wants {(filtered + raw) / GIGABYTE:.1f} GB for the rings, and"
                f" {free / GIGABYTE:.1f} GB are free",
                "Set reconstruction.memory_gb or capture.ring_gb lower, or service.reserve to false",
            )
        log.info("taking memory", gb=round((filtered + raw) / GIGABYTE, 1))
        keep_ready(raw)
        self._ring_memory = taken_beforehand(filtered, self.room().threads) if here else None

    def reconstructor(self) -> LiveReconstructor:
        """Make the live reconstruction. Raises TomoflyError where it cannot be."""
        self._bin()
        wanted = self.settings.reconstruction
        self.stream.set("Backend", backend_in_use(self.settings))
        return LiveReconstructor(
            self.binning.fields, LiveParameters.model_validate({}), room=self.room(),
            preview_every_s=wanted.preview_s if wanted.preview else None, preview_size=wanted.preview or 1,
        )  # fmt: skip

    def capture_service(self, folder: Path, base: str) -> CaptureService:
        """Make a service that captures into a folder, and begin. Raises OSError where it cannot."""
        wanted = self.settings.capture
        settings = CaptureSettings(
            folder, base, ring_bytes=int(wanted.ring_gb * GIGABYTE),
            reserve_bytes=int(wanted.minimum_free_gb * GIGABYTE),
        )  # fmt: skip
        service = CaptureService(
            settings, calibration=self.calibration, losses=self.losses,
            facts=lambda: facts(self.scan, self.stream, self.binning.size),
        )  # fmt: skip
        return service.start()

    # What collection says of frames: a listener of `collection.driver`.

    def kind(self, kind: FrameKind) -> None:
        """Frames that say nothing of themselves show this from now on; OTHER: no frame shows anything."""
        self.reader.hold(kind is FrameKind.OTHER)
        if kind is not FrameKind.OTHER:
            self.reader.set_kind(int(kind))

    def angles(self, angles: AngleList, first_id: int) -> None:
        """Angles of frames from an id on."""
        self.reader.set_theta(angles.angles_deg, first_id)
        self.broadcast.theta(angles, first_id)

    def lens(self, lens: int) -> None:
        """Another lens is in: its own dark and flat are broadcast again."""
        for version in self.calibration.versions():
            if version.lens == lens:
                self._field_came(version)

    # What a foreign collection says.

    def foreign_kind(self, kind: Any) -> None:
        """Frames that say nothing of themselves show this from now on."""
        self.reader.set_kind(kind)
        self.scan.set("FrameType", kind if str(kind).isdigit() and int(kind) < 3 else 2)

    def foreign_first(self, first_id: int) -> None:
        """The first angle belongs to this id."""
        self.reader.set_first_id(first_id)
        self.scan.set("FirstProjid", first_id)

    def foreign_theta(self, angles_deg: NDArray[np.float32]) -> None:
        """Angles from the first id on."""
        self.reader.set_theta(angles_deg)

    def foreign_field(self, kind: FrameKind, mean: NDArray[np.float32]) -> None:
        """A dark or flat field, valid for all frames in memory and to come."""
        self.calibration.add_mean(kind, mean, self.losses.account().first)

    # Dark and flat.

    def _field_came(self, version: FieldVersion) -> None:
        self.fields[version.kind] = version
        self.field_counts[version.kind] += 1
        self._broadcast(version)

    def _broadcast(self, version: FieldVersion) -> None:
        self.broadcast.field(
            version.kind, self.binning.mean(version.mean), version.valid_from, frames=version.count,
            lens=version.lens, exposure_s=version.exposure_s, binning=SIZES[self.scan.whole("StreamBinning")],
        )  # fmt: skip

    def field_state(self, kind: FrameKind) -> Mapping[str, Any]:
        """Say which dark or flat is in force, and since when."""
        version = self.fields.get(kind)
        known = version is not None and np.isfinite(version.taken_at)
        return {
            "version": self.field_counts[kind],
            "age_s": round(time.time() - version.taken_at, 1) if version is not None and known else None,
            "frames": version.count if version is not None else 0,
            "valid_from": version.valid_from if version is not None else None,
            "lens": version.lens if version is not None else None,
            "exposure_s": version.exposure_s if version is not None else None,
        }


def _cores() -> int:
    return len(os.sched_getaffinity(0))
