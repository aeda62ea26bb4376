"""How right and how fast tilt-series alignment is, beside torch-tiltxcorr on the same images.

    python benchmarks/tilt_alignment.py [--series 6] [--threads 2] [--peer-python PATH]

Simulated series of 41 tilts (±60°, 3 e⁻/Å² per tilt, 10 Å pixels, 400 × 416), tracking errors to 40 pixels,
the reported axis 8° off. Errors are root mean squares over tilts and both axes together, after a movement of
the whole specimen is taken out. The peer runs in the environment of ``--peer-python``, once with the axis as
reported and once with the true one, which it does not search. ``processor_s`` is what all threads used;
``preview_s`` that of a preview's alignment of the same tilts. BLAS is kept to one thread, as in a session.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt

from tilt_scoring import unexplained
from tomofly.imaging.tilt_alignment import align_tilt_series
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series

FloatArray = npt.NDArray[np.float64]
PIXEL_ANGSTROM = 10.0
# Direction of the axis, its reported error, pre-tilt, x-tilt, thickness and deformation of each series.
CASES = (
    {"axis_angle_deg": 84.0, "axis_error_deg": 8.0},
    {"axis_angle_deg": -12.0, "axis_error_deg": -8.0, "pre_tilt_deg": 9.0, "x_tilt_deg": 2.0},
    {"axis_angle_deg": 175.0, "axis_error_deg": 8.0, "pre_tilt_deg": -5.0, "thickness_angstrom": 2500.0},
    {"axis_angle_deg": 84.0, "axis_error_deg": -8.0, "thickness_angstrom": 800.0, "particles_per_um2": 150.0},
    {"axis_angle_deg": 40.0, "axis_error_deg": 8.0, "pre_tilt_deg": 12.0, "deformation_angstrom": 10.0},
    {"axis_angle_deg": -96.0, "axis_error_deg": 8.0, "pre_tilt_deg": 3.0, "branch_jump_angstrom": 400.0},
)
PEER = """
import sys, time, numpy, torch, torch_tiltxcorr
torch.set_num_threads(int(sys.argv[4]))
given = numpy.load(sys.argv[1])
images = torch.as_tensor(given["images"], dtype=torch.float32)
tilts = torch.as_tensor(given["tilts"], dtype=torch.float32)
begun = time.perf_counter()
shifts = torch_tiltxcorr.tiltxcorr(images, tilts, float(sys.argv[3]), 10.0, 40.0)
numpy.savez(sys.argv[2], shifts=shifts.numpy(), wall=time.perf_counter() - begun)
"""


@dataclass(frozen=True)
class Score:
    """Errors of one program on one series; NaN where it does not measure the quantity."""

    program: str
    series: int
    wall_s: float
    shift_error_px: float
    axis_error_deg: float = np.nan
    pre_tilt_error_deg: float = np.nan
    x_tilt_error_deg: float = np.nan
    z_score: float = np.nan
    residual_angstrom: float = np.nan
    leave_one_out_angstrom: float = np.nan
    processor_s: float = np.nan
    preview_s: float = np.nan
    flags: str = ""


def simulated(number: int, threads: int) -> SimulatedSeries:
    config = TiltSeriesConfig.model_validate(
        {"detector_yx_px": (400, 416), "tracking_error_angstrom": 400.0, "seed": number + 1, **CASES[number]}
    )
    return simulate_tilt_series(config, threads=threads).by_angle()


def rms(error_yx: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(error_yx**2, axis=1))))


def own(number: int, series: SimulatedSeries, threads: int) -> Score:
    given = (series.images, series.nominal_tilt_deg, series.nominal_axis_deg)
    begun = time.process_time()
    align_tilt_series(*given, pixel_size_angstrom=PIXEL_ANGSTROM, coarse=True, threads=threads)
    preview = time.process_time() - begun
    begun, started = time.process_time(), time.perf_counter()
    found = align_tilt_series(*given, pixel_size_angstrom=PIXEL_ANGSTROM, threads=threads)
    wall, processor = time.perf_counter() - started, time.process_time() - begun
    error = unexplained(series, found.geometry.shift_yx_px)
    return Score(
        "tomofly",
        number,
        wall,
        rms(error),
        found.axis_angle_deg - float(series.axis_angle_deg[0]),
        found.tilt_offset_deg - series.pre_tilt_deg,
        found.geometry.x_tilt_deg - series.x_tilt_deg,
        float(np.sqrt(np.mean((error / found.shift_uncertainty_yx_px) ** 2))),
        float(np.nanmedian(found.residual_angstrom)),
        found.leave_one_out_angstrom,
        processor,
        preview,
        ", ".join(found.flags),
    )


def peer(
    number: int, series: SimulatedSeries, python: Path, axis_deg: float, threads: int
) -> tuple[float, float]:
    """Time and error of the peer; of the two senses of a shift the better one is counted."""
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.npz", Path(folder) / "answer.npz"
        np.savez(given, images=series.images, tilts=series.nominal_tilt_deg)
        subprocess.run([python, "-c", PEER, given, answer, str(axis_deg), str(threads)], check=True)
        with np.load(answer) as found:
            shifts, wall = np.asarray(found["shifts"], dtype=np.float64), float(found["wall"])
    return wall, min(rms(unexplained(series, sign * shifts)) for sign in (1, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=len(CASES), choices=range(1, len(CASES) + 1))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", type=Path, help="Python that has torch-tiltxcorr")
    options = parser.parse_args()
    if options.peer_python is None:
        print("no --peer-python: torch-tiltxcorr is skipped")
    for number in range(options.series):
        series = simulated(number, options.threads)
        scores = [own(number, series, options.threads)]
        if options.peer_python is not None:
            true = float(series.axis_angle_deg[0])
            for name, axis in (("reported", series.nominal_axis_deg), ("true", true)):
                wall, error = peer(number, series, options.peer_python, axis, options.threads)
                scores.append(Score(f"torch-tiltxcorr, {name} axis", number, wall, error))
        for score in scores:
            print(json.dumps(asdict(score)), flush=True)


if __name__ == "__main__":
    main()
