"""Series alignment: where each tilt was taken from, and where the specimen lies."""

from typing import Literal

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class SeriesAlignmentParams(StageParams):
    """How series are aligned."""

    method: Literal["patches", "fiducials", "imported", "nominal"] = parameter(
        "patches", "By the specimen itself, by gold beads, by another program, or as the stage was set"
    )
    bead_diameter_angstrom: float = parameter(
        0.0, "Diameter of the gold beads (method fiducials); 0: measured", unit="Å", ge=0, le=1000
    )
    local: bool = parameter(
        False, "Follow local movement that grows with the exposures, and undo it in the tomogram (patches)"
    )
    axis_sigma_deg: float = parameter(
        3.0,
        "How far the tilt axis may be off its nominal direction (standard deviation)",
        unit="deg",
        gt=0,
        le=45,
    )
    largest_shift: float = parameter(
        0.3, "Largest shift to look for, as a part of the field", gt=0, le=0.5, advanced=True
    )
    level: bool = parameter(True, "Turn the specimen so that it lies flat in the volume")
    import_folder: str = parameter("", "Folder with <series>.aln, or <series>.xf and .tlt (method imported)")


STAGE = MapStage(
    name="series_alignment",
    version="2",
    summary="Align the tilts of a series, find its axis, and level the specimen",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tilt series",
    params=SeriesAlignmentParams,
    needs=("compose", "series_axis"),
    follows=("session_axis",),
    metrics=(
        Metric(
            "residual_angstrom",
            "Å",
            "Median distance of patches or beads from where the geometry has them",
            "low",
        ),
        Metric(
            "leave_one_out_angstrom", "Å", "The same for views that the geometry was fitted without", "low"
        ),
        Metric("shift_error_angstrom", "Å", "Median standard error of a tilt's shift", "low"),
        Metric("largest_shift_angstrom", "Å", "Largest shift of a tilt", "low"),
        Metric("axis_angle_deg", "deg", "Tilt axis, anticlockwise from the image's y axis"),
        Metric("axis_error_deg", "deg", "Standard error of the tilt axis", "low"),
        Metric(
            "axis_deviation_deg", "deg", "Distance of the tilt axis from the session's rounded median", "low"
        ),
        Metric("tilt_offset_deg", "deg", "Angle by which the specimen was inclined about the axis"),
        Metric("tilt_offset_error_deg", "deg", "Its standard error", "low"),
        Metric("x_tilt_deg", "deg", "Angle by which it was inclined along the axis"),
        Metric("thickness_nm", "nm", "Thickness of the specimen", "low"),
        Metric("thickness_error_nm", "nm", "Its standard error", "low"),
        Metric(
            "local_movement_angstrom", "Å", "Median local movement between first and last exposure", "low"
        ),
        Metric("unaligned_tilts", "", "Tilts that could not be aligned", "low"),
        Metric("ncc_0", "", "Correlation of neighbouring tilts near 0°", "high"),
        Metric("ncc_20", "", "Correlation of neighbouring tilts near 20°", "high"),
        Metric("ncc_40", "", "Correlation of neighbouring tilts near 40°", "high"),
        Metric("ncc_60", "", "Correlation of neighbouring tilts near 60°", "high"),
    ),
    previews=("shifts", "residuals"),
    resources=Resources(cores=2, memory_gb=3.0),
    run=LoadedOnCall("tomofly.stages.tilts.alignment_run", "align_series"),
)
