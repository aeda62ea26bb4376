"""Series axis: a first look at a series, coarse shifts and the direction of its tilt axis."""

from tomofly.model import MapStage, Metric, Resources, StageParams
from tomofly.model.loading import LoadedOnCall


class SeriesAxisParams(StageParams):
    """Nothing to set: what is searched stands in series_alignment."""


STAGE = MapStage(
    name="series_axis",
    version="1",
    summary="Align the tilts of a series coarsely, and find its tilt axis",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tilt series",
    params=SeriesAxisParams,
    needs=("compose",),
    reads={"series_alignment": ("method", "axis_sigma_deg", "largest_shift")},
    metrics=(
        Metric("first_axis_deg", "deg", "Tilt axis at a first look, anticlockwise from the image's y axis"),
        Metric("first_axis_error_deg", "deg", "Its standard error", "low"),
        Metric("nominal_axis_deg", "deg", "Tilt axis as the microscope or the settings tell it"),
    ),
    resources=Resources(cores=2, memory_gb=2.0),
    run=LoadedOnCall("tomofly.stages.tilts.axis_run", "find_axis"),
)
