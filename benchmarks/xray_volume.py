"""Slices of X-ray scans: time and error of gridding and direct back-projection beside ASTRA's on the CPU.

Slices of 1024² from 900 projections of a phantom of ellipses whose line integrals are known. All run on the
same data, one after the other; times are wall and processor seconds for a slice, and the load is told beside
them. Errors are root-mean-square differences from the phantom within the field of view. ``--scan`` takes a
scan file of so many rows through all steps of a session, within a memory that is a fraction of it.

    python benchmarks/xray_volume.py
    python benchmarks/xray_volume.py --scan 256
"""

import argparse
import json
import logging
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astra
import h5py
import numpy as np

from tomofly.imaging.xray.volume import Method, reconstruct
from tomofly.model import ItemRef, Result, StageContext
from tomofly.stages.scans.centre import ScanCentreParams
from tomofly.stages.scans.centre_run import find_centre
from tomofly.stages.scans.scan import ScanParams
from tomofly.stages.scans.scan_run import take_scan
from tomofly.stages.scans.volume import VolumeParams
from tomofly.stages.scans.volume_run import make_volume

# Middle (x, y), half axes, angle in degrees, and what is added to the absorption within: parts of the radius.
ELLIPSES = (
    (0.0, 0.0, 0.69, 0.92, 0, 1.0), (0.0, -0.018, 0.6624, 0.874, 0, -0.8), (0.22, 0.0, 0.11, 0.31, -18, -0.2),
    (-0.22, 0.0, 0.16, 0.41, 18, -0.2), (0.0, 0.35, 0.21, 0.25, 0, 0.1), (0.0, 0.1, 0.046, 0.046, 0, 0.1),
    (0.0, -0.1, 0.046, 0.046, 0, 0.1), (-0.08, -0.605, 0.046, 0.023, 0, 0.1),
    (0.0, -0.605, 0.023, 0.023, 0, 0.1), (0.06, -0.605, 0.023, 0.046, 0, 0.1),
)  # fmt: skip


def phantom(width: int, middle: float, finer: int = 8) -> np.ndarray:
    """Give the phantom (y, x) about a pixel, after Shepp and Logan (1974), each pixel a mean over points."""
    points = ((np.arange(width * finer) + 0.5) / finer - 0.5 - middle) / (width / 2)
    y, x = points[:, None], points[None, :]
    image = np.zeros((width * finer, width * finer), np.float32)
    for cx, cy, a, b, degrees, value in ELLIPSES:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
        image += np.float32(value) * ((u / a) ** 2 + (v / b) ** 2 <= 1)
    return image.reshape(width, finer, width, finer).mean(axis=(1, 3))


def sinogram(angles: np.ndarray, width: int, centre: float, finer: int = 4) -> np.ndarray:
    """Give line integrals (angle, s) in pixels, each the mean over points of a detector pixel."""
    radius = width / 2
    s = ((np.arange(width * finer) + 0.5) / finer - 0.5 - centre) / radius
    total = np.zeros((len(angles), width * finer))
    for cx, cy, a, b, degrees, value in ELLIPSES:
        # A point lies at x cos - y sin; across an ellipse turned by phi, at that of theta + phi.
        turned = angles + np.deg2rad(degrees)
        extent = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        middle = cx * np.cos(angles) - cy * np.sin(angles)
        inside = np.maximum(extent[:, None] - (s[None] - middle[:, None]) ** 2, 0)
        total += value * 2 * a * b * np.sqrt(inside) / extent[:, None]
    return (radius * total.reshape(len(angles), width, finer).mean(axis=2)).astype(np.float32)


def timed(work: Callable[[], Any], slices: int, repeats: int) -> tuple[Any, dict[str, float]]:
    """Run some work several times; give its result, and the shortest times for a slice."""
    walls, processors = [], []
    result = None
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        walls.append((time.perf_counter() - wall) / slices)
        processors.append((time.process_time() - processor) / slices)
    return result, {
        "wall_s": min(walls),
        "processor_s": min(processors),
        "median_wall_s": float(np.median(walls)),
    }


def astra_slice(data: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Reconstruct one slice by ASTRA's FBP on the CPU, as its users do."""
    width = data.shape[1]
    volume, turned = (
        astra.create_vol_geom(width, width),
        astra.create_proj_geom("parallel", 1.0, width, angles),
    )
    projector = astra.create_projector("linear", turned, volume)
    ids = astra.data2d.create("-sino", turned, data), astra.data2d.create("-vol", volume)
    config = astra.astra_dict("FBP")
    config.update({"ProjectorId": projector, "ProjectionDataId": ids[0], "ReconstructionDataId": ids[1]})
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm)
    image = astra.data2d.get(ids[1])
    astra.algorithm.delete(algorithm)
    astra.data2d.delete(ids)
    return image


def errors(image: np.ndarray, truth: np.ndarray) -> float:
    """Root-mean-square difference within the field of view."""
    n = len(truth)
    y, x = np.ogrid[:n, :n]
    inside = (y - n // 2) ** 2 + (x - n // 2) ** 2 < (0.98 * n / 2) ** 2
    return float(np.sqrt(np.mean((image - truth)[inside] ** 2)))


def compare(width: int, count: int, slices: int, threads: int) -> dict[str, Any]:
    """Time the methods and measure their errors, on the same data."""
    angles = np.arange(count) * np.pi / count
    # ASTRA's axis lies in the middle of the detector, between two pixels where their number is even.
    middle = (width - 1) / 2
    data = sinogram(angles, width, middle)
    stack = np.ascontiguousarray(np.repeat(data[:, None], slices, axis=1))
    truth = phantom(width, width // 2)
    astra_image, astra_times = timed(lambda: astra_slice(data, angles), 1, 2)
    found: dict[str, Any] = {"astra": {**astra_times, "rmse": errors(astra_image, phantom(width, middle))}}
    # The kernels are compiled by a small volume first.
    for method in ("gridding", "direct"):
        compiled: Method = "gridding" if method == "gridding" else "direct"
        reconstruct(stack[:30, :2, :64], np.rad2deg(angles[:30]), 32.0, method=compiled)
        many = stack if method == "gridding" else stack[:, : min(64, slices)]

        def run(many: np.ndarray = many, method: Method = compiled) -> np.ndarray:
            return reconstruct(many, np.rad2deg(angles), middle, method=method, threads=threads)

        images, times = timed(run, many.shape[1], 3 if method == "gridding" else 1)
        found[method] = {
            **times,
            "rmse": errors(images[0], truth),
            "times_faster_than_astra": astra_times["wall_s"] / times["wall_s"],
            "times_faster_by_processor_time": astra_times["processor_s"] / times["processor_s"],
        }
    return found


def scan_file(path: Path, width: int, count: int, rows: int) -> None:
    """Write a Data Exchange file of rows that are alike, frame after frame."""
    angles = np.arange(count) * np.pi / count
    absorbed = sinogram(angles, width, width / 2 - 7.3) / width
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", (count, rows, width), np.uint16)
        for n in range(count):
            frame = 100 + 30000 * np.exp(-absorbed[n])
            data[n] = frame + rng.normal(0, 50, (rows, width))
        file["exchange/data_white"] = np.full((4, rows, width), 30100, np.uint16)
        file["exchange/data_dark"] = np.full((4, rows, width), 100, np.uint16)
        file["exchange/theta"] = np.rad2deg(angles)


def whole_scan(width: int, count: int, rows: int, memory_gb: float, threads: int) -> dict[str, Any]:
    """Take a scan in, find its axis and reconstruct it, as a session does; give times and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        scan_file(path, width, count, rows)
        item, inputs, times = ItemRef("scan", "scan", path), {}, {}
        log = logging.getLogger("benchmark")
        steps = (
            ("scan", take_scan, ScanParams()),
            ("scan_centre", find_centre, ScanCentreParams()),
            ("volume", make_volume, VolumeParams(memory_gb=memory_gb, threads=threads)),
        )
        for name, run, params in steps:
            work = Path(folder) / name
            work.mkdir()
            context = StageContext(name, "scan", work, work, {}, dict(inputs), log, threads=threads)
            begin, processor = time.perf_counter(), time.process_time()
            outcome = run(item, params, context)
            times[name] = {
                "wall_s": time.perf_counter() - begin,
                "processor_s": time.process_time() - processor,
            }
            inputs[name] = Result("", outcome.products, outcome.metrics)
        return {
            "rows": rows, "file_gb": path.stat().st_size / 1e9, "memory_gb": memory_gb,
            "volume_gb": rows * width * width * 4 / 1e9, "steps": times,
            "centre_error_px": inputs["scan_centre"].metrics["centre_px"] - (width / 2 - 7.3),
            "slabs": inputs["volume"].metrics["slabs"],
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--angles", type=int, default=900)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--scan", type=int, default=0, help="rows of a scan file that is reconstructed instead"
    )
    parser.add_argument("--memory-gb", type=float, default=1.5)
    options = parser.parse_args()
    shape = {"width": options.width, "angles": options.angles, "threads": options.threads}
    if options.scan:
        found = whole_scan(options.width, options.angles, options.scan, options.memory_gb, options.threads)
    else:
        found = compare(options.width, options.angles, options.slices, options.threads)
    print(json.dumps({**shape, "load": os.getloadavg()[0], **found}, indent=1))


if __name__ == "__main__":
    main()
