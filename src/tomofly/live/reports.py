"""What the status document says of each part."""

import os
import platform
import time
from pathlib import Path
from typing import Any

from tomofly._version import __version__
from tomofly.live.capture.space import free_bytes
from tomofly.live.collection.driver import Collection
from tomofly.live.control.capture import CaptureControl
from tomofly.live.control.reconstruction import ReconstructionControl
from tomofly.live.frames import FrameKind
from tomofly.live.intake import Intake
from tomofly.live.losses import LossCounter
from tomofly.live.parts import GIGABYTE, Parts
from tomofly.live.publishing import SlicePublisher
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings

Report = dict[str, Any]


def of_program(began: float, troubles: dict[str, str], settings: LiveSettings) -> Report:
    """Say what runs, and which parts of it do not."""
    return {
        "version": __version__, "host": platform.node(), "process": os.getpid(),
        "up_s": round(time.time() - began, 1), "troubles": troubles,
        "prefixes": settings.prefixes.model_dump(),
    }  # fmt: skip


def of_collection(scan: PVValues, collection: Collection | None) -> Report:
    """Say what collection does, `drives`: whether it does from here, and why it has stopped at a fault."""
    names = {
        "phase": "StreamPhase", "message": "StreamMessage", "notice": "StreamNotice",
        "frame_type": "FrameType",
        "scan_type": "StreamScanType", "exposure_s": "ExposureTime", "step_deg": "RotationStep",
        "elapsed": "ElapsedTime", "binning": "StreamBinning", "lens": "StreamLens",
    }  # fmt: skip
    fault = collection.fault if collection is not None else ""
    return {"drives": collection is not None, "fault": fault} | {
        key: scan.table[name].shown(scan[name]) for key, name in names.items()
    }


def of_camera(intake: Intake) -> Report:
    """Say how frames come in."""
    status = intake.status()
    return {**vars(status), "flags": dict(status.flags)}


def of_frames(losses: LossCounter) -> Report:
    """Account for all frames."""
    account = losses.account()
    return {
        "first": account.first, "last": account.last, "received": account.received,
        "missing": account.missing, "duplicates": account.duplicates, "late": account.late,
        "restarts": account.restarts, "lost": dict(account.lost),
    }  # fmt: skip


def of_reconstruction(
    stream: PVValues, control: ReconstructionControl | None, reconstructor: LiveReconstructor | None,
    publisher: SlicePublisher, troubles: dict[str, str],
) -> Report:  # fmt: skip
    """Say how live reconstruction does."""
    half, most = control.latencies() if control is not None else (0.0, 0.0)
    latest = control.latest if control is not None else None
    messages = reconstructor.messages if reconstructor is not None else ()
    return {
        "alive": control is not None, "trouble": troubles.get("reconstruction", ""),
        "state": stream.text("ReconStatus"), "backend": stream.text("Backend"),
        "latency_p50_s": half, "latency_p95_s": most, "recon_time_s": stream.number("ReconTime"),
        "updates_per_s": stream.number("UpdateRate"), "coverage_percent": stream.number("Coverage"),
        "projections": latest.projections if latest is not None else 0,
        "centre": latest.centre if latest is not None else None,
        "centre_found": stream.number("CenterFound"),
        "sharpness": {axis: stream.number(f"Sharpness{axis.upper()}") for axis in "xyz"},
        "noise": {axis: stream.number(f"Noise{axis.upper()}") for axis in "xyz"},
        "losses": dict(reconstructor.losses) if reconstructor is not None else {},
        "published": publisher.published, "skipped": publisher.skipped,
        "notice": stream.text("StreamNotice"), "messages": list(messages[-3:]),
    }  # fmt: skip


def of_fields(parts: Parts) -> Report:
    """Say which dark and flat fields are in force, and which were refused."""
    return {
        "dark": parts.field_state(FrameKind.DARK),
        "flat": parts.field_state(FrameKind.FLAT),
        "fit": parts.calibration.fits,
        "refusals": list(parts.calibration.refused.values()),
    }


def of_capture(scan: PVValues, capture: CaptureControl | None, settings: LiveSettings) -> Report:
    """Say what captures do, and what room there is."""
    folder = capture.folder if capture is not None else settings.capture.folder
    last = capture.last if capture is not None else None
    return {
        "state": scan.text("StreamCaptureState"), "file": scan.text("FullFileName"),
        "captured": scan.whole("StreamNumTotalCaptured"),
        "wanted": last.wanted if last is not None else 0,
        "problem": capture.problem if capture is not None else "",
        "ring_frames": scan.whole("StreamPreCounted"), "ring_s": scan.number("StreamRingSeconds"),
        "folder": str(folder), "free_gb": _free_gb(folder),
        "minimum_free_gb": settings.capture.minimum_free_gb,
    }  # fmt: skip


def _free_gb(folder: Path) -> float | None:
    try:
        return round(free_bytes(folder) / GIGABYTE, 2)
    except OSError:
        return None
