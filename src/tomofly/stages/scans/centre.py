"""Scan centre: where the rotation axis projects onto the detector."""

from typing import Literal

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class ScanCentreParams(StageParams):
    """How the rotation axis is found."""

    method: Literal["auto", "sinogram", "pairs", "fixed"] = parameter(
        "auto", "By sinograms and their mirror images, by opposite projections, by the clearer, or as set"
    )
    centre_px: float = parameter(
        0.0, "Column of the axis with 'fixed', and where to look first otherwise; 0: not known", unit="px",
        ge=0, le=100000,
    )  # fmt: skip
    search_px: float = parameter(
        0.0, "Look so far to either side of centre_px (or of the middle); 0: everywhere", unit="px", ge=0,
        le=100000,
    )  # fmt: skip
    rows: int = parameter(5, "Rows of the detector whose sinograms are looked at", ge=1, le=64)


STAGE = MapStage(
    name="scan_centre",
    version="1",
    summary="Find the rotation axis, and say how certain it is",
    session_kinds=("xct",),
    track="scan",
    consumes="scan",
    produces="scan",
    params=ScanCentreParams,
    needs=("scan",),
    metrics=(
        Metric("centre_px", "px", "Column of the rotation axis; 0 is the middle of the first"),
        Metric("certainty", "", "How deep the minimum is that shows the axis: 0 nothing, 1 no doubt", "high"),
        Metric("spread_px", "px", "How far single sinograms differ", "low"),
        Metric("pairs_centre_px", "px", "Column of the axis as opposite projections show it"),
        Metric("pairs_likeness", "", "Correlation of opposite projections", "high"),
    ),
    resources=Resources(cores=1, memory_gb=2.0),
    run=LoadedOnCall("tomofly.stages.scans.centre_run", "find_centre"),
)
