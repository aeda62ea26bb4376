"""A tomography beamline with known truth: physics and EPICS servers of its own."""

from tomofly.simulate.beamline.scan import ScanPlan, write_scan
from tomofly.simulate.beamline.settings import BeamlineConfig
from tomofly.simulate.beamline.truth import (
    BeamlineTruth,
    scan_truth_beside,
    true_slice,
    true_volume,
)

__all__ = [
    "BeamlineConfig",
    "BeamlineTruth",
    "ScanPlan",
    "scan_truth_beside",
    "true_slice",
    "true_volume",
    "write_scan",
]
