"""How right and how fast the alignment of a tilt series by gold beads is.

    python benchmarks/tilt_fiducials.py [--cases dozen,deformed] [--unknown-size] [--threads 2]

Simulated series of 41 tilts (±60°, 3 e⁻/Å² per tilt, 10 Å pixels, 400 × 416), tracking errors to 40 pixels,
beads on both surfaces. Shift errors are root mean squares over tilts and both axes together, after a
movement of the whole specimen is taken out. Where the specimen deforms, it has no one shift: "deformed" tells
how far the beads' is from that of the middle of the field.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilt_scoring import unexplained
from tomofly.imaging.tilt_fiducials import align_by_fiducials
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series

FloatArray = npt.NDArray[np.float64]
PIXEL_ANGSTROM = 10.0
CASES: dict[str, dict[str, Any]] = {
    "dozen": {
        "gold_beads": 12, "axis_angle_deg": 84.0, "axis_error_deg": 8.0, "pre_tilt_deg": 9.0, "seed": 1,
    },
    "thick": {
        "gold_beads": 30, "axis_angle_deg": -12.0, "axis_error_deg": -8.0, "thickness_angstrom": 2500.0,
        "x_tilt_deg": 2.0, "seed": 2,
    },
    "small": {
        "gold_beads": 8, "gold_diameter_angstrom": 60.0, "axis_angle_deg": 175.0, "axis_error_deg": 3.0,
        "vesicle_radius_angstrom": 500.0, "seed": 3,
    },
    "deformed": {
        "gold_beads": 15, "gold_diameter_angstrom": 150.0, "axis_angle_deg": 40.0, "axis_error_deg": -3.0,
        "pre_tilt_deg": -5.0, "deformation_angstrom": 20.0, "branch_jump_angstrom": 400.0, "seed": 4,
    },
    "few": {"gold_beads": 5, "axis_angle_deg": -96.0, "axis_error_deg": 5.0, "seed": 5},
    "crowded": {"gold_beads": 80, "axis_angle_deg": 130.0, "axis_error_deg": -8.0, "seed": 6},
    "tiny": {"gold_beads": 20, "gold_diameter_angstrom": 50.0, "axis_angle_deg": 84.0, "seed": 7},
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """Errors on one series; ``z_score``: of the shifts over their errors; lengths in pixels unless named."""

    case: str
    beads: int
    wall_s: float
    processor_s: float
    shift_error_px: float
    axis_error_deg: float
    pre_tilt_error_deg: float
    x_tilt_error_deg: float
    z_score: float
    residual_angstrom: float
    leave_one_out_angstrom: float
    tilts_used: int
    flags: str


def simulated(case: str, threads: int) -> SimulatedSeries:
    settings = {"detector_yx_px": (400, 416), "tracking_error_angstrom": 400.0}
    config = TiltSeriesConfig.model_validate(settings | CASES[case])
    return simulate_tilt_series(config, threads=threads).by_angle()


def score(case: str, series: SimulatedSeries, known: bool, threads: int) -> Score:
    begun, begun_processor = time.perf_counter(), time.process_time()
    found = align_by_fiducials(
        series.images,
        series.nominal_tilt_deg,
        series.nominal_axis_deg,
        pixel_size_angstrom=PIXEL_ANGSTROM,
        bead_diameter_angstrom=series.config.gold_diameter_angstrom if known else 0.0,
        threads=threads,
    )
    wall, processor = time.perf_counter() - begun, time.process_time() - begun_processor
    error = unexplained(series, found.geometry.shift_yx_px)
    return Score(
        case=case,
        beads=series.config.gold_beads,
        wall_s=round(wall, 1),
        processor_s=round(processor, 1),
        shift_error_px=round(float(np.sqrt(np.mean(np.sum(error**2, axis=1)))), 3),
        axis_error_deg=round(found.axis_angle_deg - float(series.axis_angle_deg[0]), 3),
        pre_tilt_error_deg=round(found.tilt_offset_deg - series.pre_tilt_deg, 2),
        x_tilt_error_deg=round(found.geometry.x_tilt_deg - series.x_tilt_deg, 2),
        z_score=round(float(np.sqrt(np.nanmean((error / found.shift_uncertainty_yx_px) ** 2))), 2),
        residual_angstrom=round(float(np.nanmedian(found.residual_angstrom)), 2),
        leave_one_out_angstrom=round(found.leave_one_out_angstrom, 2),
        tilts_used=int(found.used.sum()),
        flags=", ".join(found.flags),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help="which, separated by commas")
    parser.add_argument("--unknown-size", action="store_true", help="do not tell the diameter of the beads")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for case in options.cases.split(","):
        found = score(case, simulated(case, options.threads), not options.unknown_size, options.threads)
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
