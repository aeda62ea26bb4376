"""Scan, at work: read what the file says, average its fields, look at some of its projections."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.formats.scan import Scan, ScanRows, open_rows, read_scan
from tomofly.imaging.xray.angular_weights import angular_weights, coverage_deg
from tomofly.imaging.xray.normalisation import make_reference
from tomofly.imaging.xray.volume import Fields, transmitted
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.scans.fields import average_fields, no_fields, saturation_of, write_fields
from tomofly.stages.scans.pictures import draw_projection
from tomofly.stages.scans.record import ScanRecord
from tomofly.stages.scans.scan import ScanParams
from tomofly.stages.transfer_run import require_source

FloatArray = npt.NDArray[np.float32]

# Below these, or above them, a person should have a look.
SATURATED_FLAG = 0.001
DRIFT_FLAG = 0.05
COVERAGE_FLAG_DEG = 175.0
DEAD_FLAG = 0.01
_NARROWEST_PX = 16
_EDGE = 0.03
_DARKEST = 0.1


@dataclass(frozen=True)
class FrameSample:
    """What some projections show: numbers, and one of them as transmission (y, x)."""

    transmission_mean: float
    transmission_min: float
    flux_drift: float
    saturated_fraction: float
    nan_fraction: float
    picture: FloatArray


def take_scan(item: ItemRef, params: ScanParams, ctx: StageContext) -> Outcome:
    """Take in one scan: its fields averaged, its light and angles checked, a projection drawn."""
    source = require_source(item)
    with blamed_on_input("The scan cannot be read", "Leave it out, or write it again"):
        scan = read_scan(source)
    _require_usable(scan, params)
    with open_rows(scan) as rows:
        with blamed_on_input("The dark and flat fields are of no use", "Take them again"):
            fields = no_fields(scan) if params.normalised else average_fields(scan, rows)
            dead = sum(make_reference(fields.dark, flat).blind for flat in fields.flats)
        with blamed_on_input("The projections cannot be used", "Look at the file"):
            sample = sample_frames(scan, rows, fields, params.sample_frames)
    _require_numbers(sample)
    record = _record(scan, source, params)
    products = {"fields": ctx.new_file("_fields.h5"), "record": ctx.new_file(".json")}
    write_fields(products["fields"], fields)
    record.write(products["record"])
    products["projection"] = ctx.new_file(".webp")
    draw_projection(sample.picture, record.pixel_size_um, products["projection"], source.name)
    metrics = _metrics(scan, record, fields, sample, dead)
    flags = (*(Flag(n.code, n.message) for n in scan.notes), *_flags(scan, params, metrics, dead))
    ctx.log.info(
        "%s: %s, %d projections of %d x %d", item.key, scan.layout, len(scan.angles_deg), *scan.shape_yx[::-1]
    )
    return Outcome(products, metrics, flags)


def _require_usable(scan: Scan, params: ScanParams) -> None:
    count = len(scan.angles_deg)
    if count < params.minimum_projections:
        raise BadInput(
            f"The scan has {count} projections, scan.minimum_projections={params.minimum_projections}",
            "Leave it out, or lower that setting",
        )
    if scan.flats is None and not params.normalised:
        raise BadInput(
            f"{scan.path.name} has no flat fields",
            "Take some, or set scan.normalised=true where the projections are transmissions already",
        )
    if scan.shape_yx[1] < _NARROWEST_PX:
        raise BadInput(f"The projections are {scan.shape_yx[1]} pixels wide", "Leave the file out")


def _require_numbers(sample: FrameSample) -> None:
    if sample.nan_fraction > 0.5:
        raise BadInput(
            f"{100 * sample.nan_fraction:.0f} % of the pixels are no numbers", "Write the scan again"
        )


def sample_frames(scan: Scan, rows: ScanRows, fields: Fields, count: int) -> FrameSample:
    """Look at some projections spread over the scan, one at a time."""
    total = len(scan.angles_deg)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    lights, means, lowest = [], [], []
    saturated = broken = 0
    full = saturation_of(scan)
    picture = np.zeros(scan.shape_yx, np.float32)
    for place in chosen:
        frame = rows.projections(0, scan.shape_yx[0], slice(int(place), int(place) + 1))
        saturated += 0 if full is None else int(np.count_nonzero(frame >= full))
        broken += _not_numbers(frame)
        now = Fields(fields.dark, fields.flat_at(float(place))[None], fields.at[:1], fields.saturation)
        picture = transmitted(frame, now)[0]
        means.append(float(picture.mean()))
        lowest.append(float(np.quantile(picture, 1e-3)))
        lights.append(_light(picture))
    pixels = scan.shape_yx[0] * scan.shape_yx[1] * len(chosen)
    return FrameSample(
        transmission_mean=float(np.mean(means)),
        transmission_min=float(np.min(lowest)),
        flux_drift=float(np.ptp(lights) / max(np.mean(lights), _DARKEST)),
        saturated_fraction=saturated / pixels,
        nan_fraction=broken / pixels,
        picture=picture,
    )


def _not_numbers(frame: npt.NDArray[Any]) -> int:
    return 0 if frame.dtype.kind != "f" else frame.size - int(np.count_nonzero(np.isfinite(frame)))


def _light(transmission: FloatArray) -> float:
    """Give the transmission beside the sample: at the edge of the detector that is brighter."""
    columns = max(1, round(_EDGE * transmission.shape[1]))
    return max(float(np.median(transmission[:, :columns])), float(np.median(transmission[:, -columns:])))


def _record(scan: Scan, source: Path, params: ScanParams) -> ScanRecord:
    return ScanRecord(
        file=source.name,
        layout=scan.layout,
        sample=scan.sample,
        started=scan.started,
        projections=len(scan.angles_deg),
        shape_yx=scan.shape_yx,
        first_angle_deg=float(scan.angles_deg[0]),
        last_angle_deg=float(scan.angles_deg[-1]),
        pixel_size_um=params.pixel_size_um or scan.pixel_size_um,
        energy_kev=scan.energy_kev,
        distance_mm=scan.distance_mm,
        exposure_s=scan.exposure_s,
        normalised=params.normalised,
    )


def _metrics(
    scan: Scan, record: ScanRecord, fields: Fields, sample: FrameSample, dead: int
) -> dict[str, float]:
    """Everything that is known; what is not is left out."""
    ids = scan.frame_ids
    gaps = 0 if ids is None else int(ids.max() - ids.min()) + 1 - len(ids)
    steps = np.abs(np.diff(scan.angles_deg))
    known: dict[str, float | None] = {
        "projections": len(scan.angles_deg),
        "height_px": scan.shape_yx[0],
        "width_px": scan.shape_yx[1],
        "angle_step_deg": float(np.median(steps)),
        "coverage_deg": coverage_deg(angular_weights(scan.angles_deg)),
        "flats": 0 if scan.flats is None else len(scan.flats),
        "darks": 0 if scan.darks is None else len(scan.darks),
        "flat_epochs": 0 if scan.flats is None else len(fields.at),
        "pixel_size_um": record.pixel_size_um,
        "exposure_s": scan.exposure_s,
        "energy_kev": scan.energy_kev,
        "transmission_mean": sample.transmission_mean,
        "transmission_min": sample.transmission_min,
        "flux_drift": sample.flux_drift,
        "dropped_frames": max(0, gaps) + scan.frames_in_file - len(scan.angles_deg),
        "dead_pixels": dead,
        "saturated_fraction": sample.saturated_fraction,
        "nan_fraction": sample.nan_fraction,
        "file_size_mb": scan.path.stat().st_size / 1e6,
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _flags(scan: Scan, params: ScanParams, metrics: dict[str, float], dead: int) -> list[Flag]:
    """Say what was done otherwise than a full scan would have it, and what a person should look at."""
    flags = []
    if scan.darks is None and not params.normalised:
        flags.append(Flag("no_darks", "There are no dark fields: none is taken off"))
    if "pixel_size_um" not in metrics:
        flags.append(Flag("no_pixel_size", "The size of a pixel is not known: absorption is in 1/px"))
    coverage = metrics["coverage_deg"]
    if coverage < COVERAGE_FLAG_DEG:
        flags.append(Flag("missing_wedge", f"The angles cover {coverage:.0f}° of half a turn"))
    dropped = int(metrics["dropped_frames"])
    if dropped:
        flags.append(Flag("dropped_frames", f"{dropped} frames are missing, or have no angle"))
    if metrics["flux_drift"] > DRIFT_FLAG:
        message = f"The light beside the sample changed by {100 * metrics['flux_drift']:.0f} %"
        flags.append(Flag("flux_drift", f"{message}, or there is no free space beside it"))
    if metrics["saturated_fraction"] > SATURATED_FLAG:
        part = 100 * metrics["saturated_fraction"]
        flags.append(Flag("saturated", f"{part:.2g} % of the pixels are saturated"))
    if metrics["nan_fraction"] > 0:
        part = 100 * metrics["nan_fraction"]
        flags.append(Flag("not_numbers", f"{part:.2g} % of the pixels are no numbers: taken as fully lit"))
    if dead > DEAD_FLAG * scan.shape_yx[0] * scan.shape_yx[1]:
        flags.append(Flag("dead_pixels", f"{dead} pixels see no light: taken as fully lit"))
    return flags
