"""How fast and how right CTF estimation is, on simulated micrographs with known defocus.

    python benchmarks/ctf_accuracy.py [--count 120] [--json FILE]

Two kinds of micrographs of 2048 × 2048 pixels, defocus 0.5–3.5 µm, astigmatism 0–600 Å: "typical", with
40 e⁻/Å² and a B factor of 60 Å²; "poor", with 15 e⁻/Å² and 250 Å². One of 4096 × 4096 pixels for the time.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf_estimate import CtfEstimate, estimate_ctf
from tomofly.simulate import SpaMicroscope, expose
from tomofly.simulate.truth import OpticsTruth

PIXEL_SIZE_ANGSTROM = 1.0
FRAMES = 4
KINDS = {"typical": (40.0, 60.0), "poor": (15.0, 250.0)}
LEAST_ASTIGMATISM_FOR_ANGLE_ANGSTROM = 200.0


@dataclass(frozen=True)
class Error:
    """Estimate minus truth of one micrograph; Å and degrees."""

    defocus_angstrom: float
    defocus_error_angstrom: float
    astigmatism_angstrom: float
    true_astigmatism_angstrom: float
    angle_deg: float
    angle_error_deg: float
    fit_resolution_angstrom: float
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Errors of one kind of micrograph."""

    count: int
    median_defocus_error_angstrom: float
    p95_defocus_error_angstrom: float
    wrong_by_500_angstrom: float
    bias_angstrom: float
    z_score_std: float
    median_angle_error_deg: float
    angle_within_3_deg: float
    angle_z_score_std: float
    median_fit_resolution_angstrom: float


def microscope(kind: str, size: int, seed: int) -> SpaMicroscope:
    """A microscope whose frames need no alignment and no gain: only the CTF is at stake."""
    dose, b_factor = KINDS[kind]
    return SpaMicroscope(
        seed=seed,
        detector_yx_px=(size, size),
        frames=FRAMES,
        pixel_size_angstrom=PIXEL_SIZE_ANGSTROM,
        dtype="uint16",
        gain_variation=0,
        hot_pixel_fraction=0,
        dead_pixel_fraction=0,
        dose_per_frame_e_per_a2=dose / FRAMES,
        dose_step_e_per_a2=dose / FRAMES,
        defocus_range_angstrom=(5000, 35000),
        astigmatism_range_angstrom=(0, 600),
        envelope_b_factor_angstrom2=b_factor,
        drift_rms_angstrom_per_frame=0,
        early_drift_angstrom=0,
        beam_induced_angstrom=0,
    )


def micrograph(settings: SpaMicroscope, index: int) -> tuple[npt.NDArray[np.float32], OpticsTruth]:
    """The sum of the frames (y, x) and its true optics."""
    exposure = expose(settings, index)
    return exposure.frames.sum(axis=0, dtype=np.float32), exposure.truth.optics


def estimate(image: npt.NDArray[np.float32], truth: OpticsTruth, threads: int = 1) -> CtfEstimate:
    """Estimate with the microscope's settings and the defaults for everything else."""
    return estimate_ctf(
        image,
        pixel_size_angstrom=PIXEL_SIZE_ANGSTROM,
        voltage_kv=truth.voltage_kv,
        spherical_aberration_mm=truth.spherical_aberration_mm,
        amplitude_contrast=truth.amplitude_contrast,
        threads=threads,
    )


def compare(found: CtfEstimate, truth: OpticsTruth) -> Error:
    """Estimate minus truth."""
    mean = 0.5 * (truth.defocus_u_angstrom + truth.defocus_v_angstrom)
    astigmatism = truth.defocus_u_angstrom - truth.defocus_v_angstrom
    return Error(
        defocus_angstrom=found.defocus_angstrom - mean,
        defocus_error_angstrom=found.defocus_error_angstrom,
        astigmatism_angstrom=found.astigmatism_angstrom - astigmatism,
        true_astigmatism_angstrom=astigmatism,
        angle_deg=(found.astigmatism_angle_deg - truth.astigmatism_angle_deg + 90) % 180 - 90,
        angle_error_deg=found.angle_error_deg,
        fit_resolution_angstrom=found.fit_resolution_angstrom or float("nan"),
        flags=found.flags,
    )


def summarise(errors: list[Error]) -> Summary:
    """The figures of the table."""
    defocus = np.array([error.defocus_angstrom for error in errors])
    claimed = np.array([error.defocus_error_angstrom for error in errors])
    right = np.abs(defocus) < 500
    turned = [e for e in errors if e.true_astigmatism_angstrom >= LEAST_ASTIGMATISM_FOR_ANGLE_ANGSTROM]
    angle = np.array([error.angle_deg for error in turned])
    angle_claimed = np.array([error.angle_error_deg for error in turned])
    return Summary(
        count=len(errors),
        median_defocus_error_angstrom=float(np.median(np.abs(defocus))),
        p95_defocus_error_angstrom=float(np.percentile(np.abs(defocus), 95)),
        wrong_by_500_angstrom=float(np.mean(~right)),
        bias_angstrom=float(np.mean(defocus[right])),
        z_score_std=float(np.std(defocus[right] / claimed[right])),
        median_angle_error_deg=float(np.median(np.abs(angle))),
        angle_within_3_deg=float(np.mean(np.abs(angle) <= 3)),
        angle_z_score_std=float(np.std(angle / angle_claimed)),
        median_fit_resolution_angstrom=float(np.nanmedian([e.fit_resolution_angstrom for e in errors])),
    )


def accuracy(kind: str, count: int, size: int, seed: int) -> Summary:
    """Simulate and estimate `count` micrographs."""
    settings = microscope(kind, size, seed)
    errors = []
    for index in range(count):
        image, truth = micrograph(settings, index)
        errors.append(compare(estimate(image, truth), truth))
    return summarise(errors)


def seconds(size: int, seed: int, threads: int, repeats: int = 5) -> dict[str, float]:
    """Shortest wall and processor time of one estimate on micrographs of low and of high defocus."""
    result = {}
    for name, defocus in (("1.5 µm", 15000.0), ("3.5 µm", 35000.0)):
        settings = microscope("typical", size, seed)
        settings = settings.model_copy(update={"defocus_range_angstrom": (defocus, defocus)})
        image, truth = micrograph(settings, 0)
        wall, processor = [], []
        for _ in range(repeats):
            wall_start, processor_start = time.perf_counter(), time.process_time()
            estimate(image, truth, threads)
            wall.append(time.perf_counter() - wall_start)
            processor.append(time.process_time() - processor_start)
        result[f"{name}, wall"] = min(wall)
        result[f"{name}, processor"] = min(processor)
    return result


def main() -> None:
    """Run everything, print a table, write JSON where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=120, help="micrographs of each kind")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--size", type=int, default=2048, help="side of the micrographs for accuracy, pixels")
    parser.add_argument("--timed-size", type=int, default=4096, help="side of the micrograph for the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    times = {
        f"{threads} thread{'s' * (threads > 1)}": seconds(arguments.timed_size, arguments.seed, threads)
        for threads in (1, 2)
    }
    print(f"seconds for {arguments.timed_size}²:")
    for threads, values in times.items():
        print(f"  {threads}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
    summaries = {}
    for kind in arguments.kinds:
        summaries[kind] = asdict(accuracy(kind, arguments.count, arguments.size, arguments.seed))
    print(f"\n{'':32s}" + "".join(f"{kind:>10s}" for kind in summaries))
    for name in next(iter(summaries.values())):
        print(f"{name:32s}" + "".join(f"{summary[name]:10.3g}" for summary in summaries.values()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"seconds": times, "accuracy": summaries}, indent=1))


if __name__ == "__main__":
    main()
