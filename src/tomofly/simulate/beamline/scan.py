"""A whole scan with known truth, written to one file without any EPICS."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.detector import Counts, Detector, Exposure
from tomofly.simulate.beamline.patterns import pattern_angles
from tomofly.simulate.beamline.phantom import Phantom, make_phantom
from tomofly.simulate.beamline.projection import View, absorption
from tomofly.simulate.beamline.scan_files import NewScan, new_data_exchange, new_nxtomo
from tomofly.simulate.beamline.settings import BeamlineConfig, PatternName
from tomofly.simulate.beamline.truth import AngleRule, BeamlineTruth, beamline_truth, truth_path

PARTIAL_SUFFIX = ".partial"
ScanFormat = Literal["dx", "nxtomo"]
MAKERS = {"dx": new_data_exchange, "nxtomo": new_nxtomo}


@dataclass(frozen=True)
class ScanPlan:
    """What a scan takes: darks, then flats, then the projections at `rate_hz`."""

    projections: int = 180
    flats: int = 20
    darks: int = 20
    span_deg: float = 180.0
    start_deg: float = 0.0
    rate_hz: float = 50.0
    pattern: PatternName = "continuous"

    @property
    def angles_deg(self) -> NDArray[np.float64]:
        """Angle (projection,) at mid exposure."""
        return pattern_angles(self.pattern, self.projections, self.span_deg, self.start_deg)


def wobbled_centre(config: BeamlineConfig, angle_rad: float, lens: int = 0) -> float:
    """Rotation centre in unbinned pixels at an angle: the axis moves across twice a turn."""
    away = config.wobble_px * config.magnifications[lens] * np.sin(2 * angle_rad + 0.7)
    return config.centre_of_lens(lens) + float(away)


def write_scan(
    config: BeamlineConfig,
    path: Path,
    plan: ScanPlan | None = None,
    *,
    file_format: ScanFormat = "dx",
    started_at: float | None = None,
) -> BeamlineTruth:
    """Write a Data Exchange or NXtomo scan, which appears whole, and its truth beside it; return the truth.

    The sample's time is 0 at the first projection; darks and flats are taken before. Raises OSError.
    """
    plan = plan or ScanPlan()
    phantom = make_phantom(config)
    truth = _scan_truth(config, phantom, plan, time.time() if started_at is None else started_at)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with MAKERS[file_format](partial, truth, plan.darks, plan.flats) as scan:
            _fill(scan, truth, plan)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    truth.write(truth_path(path))
    return truth


def _scan_truth(config: BeamlineConfig, phantom: Phantom, plan: ScanPlan, started_at: float) -> BeamlineTruth:
    angles = plan.angles_deg
    steady = plan.pattern in ("continuous", "none", "back-and-forth")
    rule = AngleRule(
        pattern=plan.pattern,
        start_deg=plan.start_deg,
        span_deg=plan.span_deg,
        velocity_deg_s=plan.span_deg / max(plan.projections, 1) * plan.rate_hz if steady else None,
    )
    centres = [wobbled_centre(config, float(angle)) for angle in np.deg2rad(angles)]
    more = {
        "angles_deg": angles.tolist(),
        "times_s": (np.arange(plan.projections) / plan.rate_hz).tolist(),
        "columns_px": centres,
    }
    return beamline_truth(config, phantom, started_at, rule).model_copy(update=more)


def _fill(scan: NewScan, truth: BeamlineTruth, plan: ScanPlan) -> None:
    """Take the frames in their order."""
    config = truth.config
    height, width = config.detector_yx_px
    detector = Detector(config, 0, (0, 0, height, width))
    period = 1 / plan.rate_hz
    before = plan.darks + plan.flats

    def shot(number: int, image: NDArray[np.float32] | None, shutter: float) -> Counts:
        moment = (number - before) * period
        return detector.expose(image, Exposure(config.exposure_s, 1, shutter, moment, number))

    for number in range(plan.darks):
        scan.add_dark(number, shot(number, None, 0.0))
    for number in range(plan.flats):
        scan.add_flat(number, shot(plan.darks + number, None, 1.0))
    for number, (angle, moment) in enumerate(zip(truth.angles_deg, truth.times_s, strict=True)):
        view = View(
            (height, width), float(np.deg2rad(angle)), config.pixel_of_lens(0), truth.columns_px[number],
            truth.middle_row_px,
        )  # fmt: skip
        image = absorption(truth.phantom, view, moment)
        scan.add_projection(number, shot(before + number, image, 1.0))
