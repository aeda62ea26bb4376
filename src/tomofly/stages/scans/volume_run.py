"""Volume, at work: slab after slab from counts to slices, the next one read while one is reconstructed."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from tomofly.formats.scan import Scan, ScanRows, open_rows, read_scan
from tomofly.formats.volume_file import VolumeHeader, new_volume
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.outliers import remove_zingers
from tomofly.imaging.xray.phase import phase_reach, retrieve_phase
from tomofly.imaging.xray.ring_measure import ring_strength
from tomofly.imaging.xray.ring_removal import sorted_away, wavelets_damped
from tomofly.imaging.xray.slice_quality import slice_quality
from tomofly.imaging.xray.volume import (
    ScanSize,
    Slab,
    absorbed,
    plan_slabs,
    reconstruct,
    transmitted,
)
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext, TomoflyError
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.scans.fields import FieldRows
from tomofly.stages.scans.pictures import Sections
from tomofly.stages.scans.record import ScanRecord, read_record
from tomofly.stages.scans.volume import VolumeParams
from tomofly.stages.transfer_run import require_source

FloatArray = npt.NDArray[np.float32]

GIGABYTE = 10**9
_MOST_HALO = 128
_LOOKED_AT = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class PhaseSettings:
    """What phase retrieval needs to know."""

    energy_kev: float
    distance_mm: float
    pixel_size_um: float
    alpha: float


@dataclass(frozen=True)
class VolumePlan:
    """How one scan is reconstructed."""

    scan: Scan
    record: ScanRecord
    centre: float
    rows: tuple[int, int]
    slabs: tuple[Slab, ...]
    phase: PhaseSettings | None
    threads: int

    @property
    def header(self) -> VolumeHeader:
        """What the volume is."""
        width = self.scan.shape_yx[1]
        made_by = {"centre_px": self.centre, "first_row": self.rows[0], "file": self.record.file}
        unit = "1/um" if self.record.pixel_size_um else "1/px"
        shape = (self.rows[1] - self.rows[0], width, width)
        return VolumeHeader(shape, self.record.pixel_size_um, unit, made_by)


def make_volume(item: ItemRef, params: VolumeParams, ctx: StageContext) -> Outcome:
    """Reconstruct one scan."""
    source = require_source(item)
    with blamed_on_input("The scan cannot be read", "Write it again"):
        scan = read_scan(source)
    plan = _plan(scan, params, ctx)
    products = {"volume": ctx.new_file(".h5"), "sections": ctx.new_file(".webp")}
    begin = time.monotonic()
    header = plan.header
    sections, looked_at = Sections(header.shape_zyx), _Looks(header.shape_zyx[0])
    with (
        blamed_on_input("The volume cannot be made", "Look at the scan and at the settings of volume"),
        new_volume(products["volume"], header) as volume,
    ):
        for slab, slices in _slabs(plan, params, ctx):
            first = slab.first - plan.rows[0]
            volume.write(first, slices)
            sections.take(first, slices)
            looked_at.take(first, slices)
            ctx.log.info("rows %d to %d of %d are done", slab.first, slab.last, plan.rows[1])
    size = " × ".join(str(n) for n in reversed(header.shape_zyx))
    voxel = f" of {header.voxel_um:.4g} µm" if header.voxel_um else ""
    sections.draw(header.voxel_um, products["sections"], f"{source.name}, {size} voxels{voxel}")
    metrics = _metrics(plan, looked_at) | {
        "seconds_per_slice": (time.monotonic() - begin) / header.shape_zyx[0]
    }
    return Outcome(products, metrics, tuple(_flags(plan)))


# The plan


def _plan(scan: Scan, params: VolumeParams, ctx: StageContext) -> VolumePlan:
    inputs = ctx.inputs
    record = read_record(inputs["scan"].products["record"])
    height, width = scan.shape_yx
    rows = (params.first_row, min(params.last_row or height, height))
    if rows[0] >= rows[1]:
        raise BadInput(
            f"The detector has {height} rows, volume.first_row is {params.first_row}", "Lower that setting"
        )
    phase = _phase(record, params)
    size = ScanSize(len(scan.angles_deg), width, scan.dtype.itemsize, scan.row_chunk)
    slabs, threads = _divided(rows, height, size, params, _halo(params, phase))
    centre = inputs["scan_centre"].metrics["centre_px"]
    return VolumePlan(scan, record, centre, rows, slabs, phase, threads)


def _divided(
    rows: tuple[int, int], height: int, size: ScanSize, params: VolumeParams, halo: int
) -> tuple[tuple[Slab, ...], int]:
    """Divide rows into slabs that fit, with fewer threads where each would need too much."""
    memory = int(params.memory_gb * GIGABYTE) or _usual_memory()
    threads = params.threads or os.cpu_count() or 1
    while True:
        try:
            slabs = plan_slabs(rows, height, size, memory, halo=halo, threads=threads, method=params.method)
        except ValueError as error:
            if threads == 1 or params.threads:
                raise TomoflyError(
                    f"The volume does not fit: {error}",
                    "Raise volume.memory_gb, with fewer workers (resources.workers) that share the memory",
                ) from error
            threads = max(1, threads // 2)
        else:
            return tuple(slabs), threads


def _usual_memory() -> int:
    """Give half of what a worker process may have by default, in bytes."""
    share = 0.8 * psutil.virtual_memory().total / (os.cpu_count() or 1)
    return int(0.5 * share)


def _phase(record: ScanRecord, params: VolumeParams) -> PhaseSettings | None:
    if not params.phase:
        return None
    energy = params.energy_kev or record.energy_kev
    distance = params.distance_mm or record.distance_mm
    if not energy or not distance or not record.pixel_size_um:
        raise BadInput(
            "Phase retrieval needs energy, distance and size of a pixel, which the file does not tell",
            "Set volume.energy_kev, volume.distance_mm and scan.pixel_size_um, or volume.phase=false",
        )
    return PhaseSettings(energy, distance, record.pixel_size_um, params.phase_alpha)


def _halo(params: VolumeParams, phase: PhaseSettings | None) -> int:
    """Give the rows around a slab that what is done to projections looks at."""
    around = 0 if phase is None else min(_MOST_HALO, phase_reach(**vars(phase)))
    return around + params.zinger_radius_px


# Slabs


def _slabs(plan: VolumePlan, params: VolumeParams, ctx: StageContext) -> Iterator[tuple[Slab, FloatArray]]:
    """Give reconstructed slabs; the counts of the next one are read meanwhile."""
    fields = FieldRows(ctx.inputs["scan"].products["fields"])
    with open_rows(plan.scan) as rows, ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(_counts, rows, plan.slabs[0])
        for number, slab in enumerate(plan.slabs):
            counts = waiting.result()
            if number + 1 < len(plan.slabs):
                waiting = reader.submit(_counts, rows, plan.slabs[number + 1])
            here = fields.read(slab.read_first, slab.read_last)
            absorption = _prepared(transmitted(counts, here, threads=plan.threads), slab, plan, params)
            del counts
            slices = reconstruct(
                absorption, plan.scan.angles_deg, plan.centre,
                method=params.method, filter_name=params.filter, threads=plan.threads,
            )  # fmt: skip
            if plan.record.pixel_size_um:
                slices /= np.float32(plan.record.pixel_size_um)
            yield slab, slices


def _counts(rows: ScanRows, slab: Slab) -> npt.NDArray[Any]:
    return rows.projections(slab.read_first, slab.read_last)


def _prepared(transmissions: FloatArray, slab: Slab, plan: VolumePlan, params: VolumeParams) -> FloatArray:
    """From transmission (angle, y, x) of all rows that were read to absorption of those of the slab."""
    phase = plan.phase

    def one(index: int) -> None:
        frame = transmissions[index]
        if params.zinger_radius_px:
            frame = remove_zingers(frame, params.zinger_radius_px, params.zinger_threshold)
        if phase is not None:
            frame = retrieve_phase(frame, **vars(phase))
        transmissions[index] = frame

    if params.zinger_radius_px or phase is not None:
        for_each(one, len(transmissions), plan.threads)
    inner = slice(slab.first - slab.read_first, slab.last - slab.read_first)
    absorption = absorbed(np.ascontiguousarray(transmissions[:, inner]), threads=plan.threads)
    if params.ring_removal == "sorting":
        window = min(params.ring_window_px, _odd(absorption.shape[2] // 2))
        sorted_away(absorption, window, threads=plan.threads)
    elif params.ring_removal == "wavelets":
        wavelets_damped(absorption, params.wavelet_levels, params.wavelet_sigma, threads=plan.threads)
    return absorption


def _odd(number: int) -> int:
    return max(3, number - 1 + number % 2)


# What it has become


class _Looks:
    """Slices of the volume that are measured: some, spread over it."""

    def __init__(self, depth: int) -> None:
        self._wanted = sorted({min(depth - 1, int(part * depth)) for part in _LOOKED_AT})
        self.slices: list[FloatArray] = []

    def take(self, first: int, slab: FloatArray) -> None:
        """Keep those that are in a slab."""
        self.slices += [slab[z - first].copy() for z in self._wanted if first <= z < first + len(slab)]


def _metrics(plan: VolumePlan, looked_at: _Looks) -> dict[str, float]:
    # Back to 1/px, so that scans of any pixel size, or of none, can be compared.
    scale = plan.record.pixel_size_um or 1.0
    quality = [slice_quality(image) for image in looked_at.slices]
    noise = scale * float(np.median([one.noise for one in quality]))
    mean = float(np.mean([image.mean() for image in looked_at.slices]))
    known = {
        "slices": float(plan.rows[1] - plan.rows[0]),
        "slabs": float(len(plan.slabs)),
        "mean_absorption": scale * mean,
        "noise": noise,
        "contrast": noise * float(np.median([one.signal_to_noise for one in quality])),
        "sharpness": float(np.median([one.sharpness for one in quality])),
        "rings": float(np.median([ring_strength(image) for image in looked_at.slices])),
    }
    if plan.record.pixel_size_um:
        known |= {"voxel_size_um": plan.record.pixel_size_um, "mean_absorption_per_um": mean}
    return known


def _flags(plan: VolumePlan) -> Iterator[Flag]:
    if plan.scan.packed and plan.scan.row_chunk >= plan.scan.shape_yx[0] and len(plan.slabs) > 1:
        yield Flag(
            "read_repeatedly",
            f"Frames are compressed whole, so the file was read {len(plan.slabs)} times: "
            "volume.memory_gb decides how often",
        )
    if plan.phase is not None and len(plan.slabs) > 1:
        reach = phase_reach(**vars(plan.phase))
        if reach > _MOST_HALO:
            message = f"Phase retrieval reaches {reach} rows beyond a slab, {_MOST_HALO} were there"
            yield Flag("phase_cut", message)
