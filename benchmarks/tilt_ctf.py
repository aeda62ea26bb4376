"""How right and how fast the CTF of a tilt series is.

    python benchmarks/tilt_ctf.py [--cases field,thick] [--seeds 2] [--range 60] [--threads 2]

Simulated series at 3 e⁻/Å² per tilt (every 3°, dose-symmetric), of both hands, 2 to 5 µm of underfocus and
100 to 200 nm of ice, whose focus scatters by 80 nm from tilt to tilt; the target defocus is not given. The
geometry is the true one, or with ``--geometry-error`` off by more than an alignment leaves: 1 pixel, 0.3° of
the axis, 1° of the tilts. A line per series, and what they say together as the last one. A series of
1024 × 960 pixels takes a minute to simulate. No peer: those that fit tilt series need a GPU.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_ctf import TiltCtf, fit_tilt_ctf
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series

FloatArray = npt.NDArray[np.float64]
WRONG_ANGSTROM = 1000.0
HIGH_TILT_DEG = 30.0
# The field of view is 0.4 µm, in "wide" 0.6 µm and in "small" 0.2 µm; "fine" has the pixels of a higher
# magnification, "poor" half the dose, faint rings and thick ice.
CASES: dict[str, dict[str, Any]] = {
    "shallow": {"defocus_angstrom": 20000.0, "thickness_angstrom": 1000.0},
    "field": {"defocus_angstrom": 35000.0, "thickness_angstrom": 1500.0},
    "deep": {"defocus_angstrom": 50000.0, "thickness_angstrom": 1500.0},
    "thick": {"defocus_angstrom": 35000.0, "thickness_angstrom": 2000.0},
    "lamella": {"defocus_angstrom": 40000.0, "thickness_angstrom": 1700.0, "pre_tilt_deg": 10.0},
    "wide": {"defocus_angstrom": 30000.0, "thickness_angstrom": 1500.0, "detector_yx_px": (1536, 1440)},
    "fine": {
        "defocus_angstrom": 30000.0,
        "thickness_angstrom": 1500.0,
        "detector_yx_px": (2048, 1920),
        "pixel_size_angstrom": 2.0,
    },
    "small": {"defocus_angstrom": 35000.0, "thickness_angstrom": 1500.0, "detector_yx_px": (512, 480)},
    "poor": {
        "defocus_angstrom": 45000.0,
        "thickness_angstrom": 2500.0,
        "dose_per_tilt_e_per_a2": 1.5,
        "ice_noise": 0.5,
        "envelope_b_factor_angstrom2": 400.0,
    },
}


@dataclass(frozen=True)
class Score:
    """Errors on one series, lengths in Å; ``wrong``: tilts off by more than 1000 Å."""

    case: str
    seed: int
    true_hand: int
    hand: str
    certainty: float
    median_angstrom: float
    median_low_angstrom: float
    median_high_angstrom: float
    wrong: int
    unknown: int
    z_score: float
    astigmatism_angstrom: float
    resolution_low_angstrom: float
    resolution_high_angstrom: float
    spectra_per_tilt_s: float
    fit_s: float
    fit_processor_s: float
    flags: str


def simulated(case: str, seed: int, hand: int, range_deg: float, threads: int) -> SimulatedSeries:
    """The series; its axis is another one in each."""
    settings = {
        "detector_yx_px": (1024, 960), "pixel_size_angstrom": 4.0, "seed": seed, "hand": hand,
        "tilt_range_deg": (-range_deg, range_deg), "axis_angle_deg": (84.0, -12.0, 175.0, 40.0)[seed % 4],
        "astigmatism_angstrom": 400.0, "structures": ("two_lobes",),
    }  # fmt: skip
    config = TiltSeriesConfig.model_validate(settings | CASES[case])
    return simulate_tilt_series(config, threads=threads).by_angle()


def geometry_of(series: SimulatedSeries, error: bool) -> TiltGeometry:
    """The true geometry, or one as an alignment leaves it."""
    true = TiltGeometry(
        series.tilt_angle_deg, series.axis_angle_deg, series.shift_yx_px, x_tilt_deg=series.x_tilt_deg
    )
    if not error:
        return true
    random = np.random.default_rng(series.config.seed)
    return replace(
        true,
        tilt_angle_deg=true.tilt_angle_deg + 1.0,
        axis_angle_deg=true.axis_angle_deg + 0.3,
        shift_yx_px=true.shift_yx_px + random.normal(0, 1, true.shift_yx_px.shape),
    )


def fitted(series: SimulatedSeries, spectra: list[TileSpectra], error: bool, threads: int) -> TiltCtf:
    """The fit to spectra that are ready."""
    config = series.config
    return fit_tilt_ctf(
        spectra,
        geometry_of(series, error),
        voltage_kv=config.voltage_kv,
        spherical_aberration_mm=config.spherical_aberration_mm,
        amplitude_contrast=config.amplitude_contrast,
        threads=threads,
    )


def score(case: str, series: SimulatedSeries, error: bool, threads: int) -> Score:
    begun = time.perf_counter()
    spectra = [
        tile_spectra(image, pixel_size_angstrom=series.pixel_size_angstrom, threads=threads)
        for image in series.images
    ]
    ready, ready_processor = time.perf_counter(), time.process_time()
    ctf = fitted(series, spectra, error, threads)
    fit_s, processor_s = time.perf_counter() - ready, time.process_time() - ready_processor
    off = np.abs(ctf.defocus_angstrom - series.defocus_angstrom)
    high = np.abs(series.tilt_angle_deg) >= HIGH_TILT_DEG
    unknown = sum("no_thon_rings" in flags for flags in ctf.tilt_flags)
    evidence = ctf.hand_evidence
    return Score(
        case=case,
        seed=series.config.seed,
        true_hand=series.hand,
        hand="undecided" if evidence.verdict == "undecided" else f"{evidence.likelier:+d}",
        certainty=round(evidence.certainty, 4),
        median_angstrom=round(float(np.median(off)), 1),
        median_low_angstrom=round(float(np.median(off[~high])), 1),
        median_high_angstrom=round(float(np.median(off[high])), 1),
        wrong=int((off > WRONG_ANGSTROM).sum()),
        unknown=unknown,
        z_score=round(float(np.sqrt(np.mean((off / ctf.defocus_error_angstrom) ** 2))), 2),
        astigmatism_angstrom=round(ctf.astigmatism_angstrom, 0),
        resolution_low_angstrom=_median(ctf.fit_resolution_angstrom[~high]),
        resolution_high_angstrom=_median(ctf.fit_resolution_angstrom[high]),
        spectra_per_tilt_s=round((ready - begun) / len(spectra), 3),
        fit_s=round(fit_s, 2),
        fit_processor_s=round(processor_s, 2),
        flags=", ".join(ctf.flags),
    )


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 1) if known.size else float("nan")


def summed(scores: list[Score]) -> dict[str, float]:
    """What the series say together."""
    right = [one.hand == f"{one.true_hand:+d}" for one in scores]
    undecided = [one.hand == "undecided" for one in scores]
    return {
        "series": len(scores),
        "median_of_medians_angstrom": float(np.median([one.median_angstrom for one in scores])),
        "worst_median_angstrom": max(one.median_angstrom for one in scores),
        "hand_right": sum(right),
        "hand_undecided": sum(undecided),
        "hand_wrong": len(scores) - sum(right) - sum(undecided),
        "tilts_wrong": sum(one.wrong for one in scores),
        "longest_fit_s": max(one.fit_s for one in scores),
        "most_fit_processor_s": max(one.fit_processor_s for one in scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help="which, separated by commas")
    parser.add_argument("--seeds", type=int, default=2, help="series of each case")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--range", type=float, default=60.0, help="highest tilt, degrees")
    parser.add_argument("--geometry-error", action="store_true", help="with the errors of an alignment")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    scores = []
    for number, case in enumerate(options.cases.split(",")):
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            hand = 1 if (number + seed) % 2 else -1
            series = simulated(case, seed, hand, options.range, options.threads)
            scores.append(score(case, series, options.geometry_error, options.threads))
            print(json.dumps(asdict(scores[-1])), flush=True)
    print(json.dumps(summed(scores)))


if __name__ == "__main__":
    main()
