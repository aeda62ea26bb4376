"""Session axis: the tilt axis that the series of a session have shown so far."""

from tomofly.model import FoldStage, Metric, Resources, StageParams
from tomofly.model.loading import LoadedOnCall


class SessionAxisParams(StageParams):
    """Nothing to set."""


STAGE = FoldStage(
    name="session_axis",
    version="1",
    summary="Keep the median tilt axis of the session's series, where later ones begin to search",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tilt axis",
    params=SessionAxisParams,
    needs=("series_axis",),
    every=3,
    metrics=(
        Metric(
            "session_axis_deg", "deg", "Median tilt axis of the series that share the commonest nominal one"
        ),
        Metric("session_axis_spread_deg", "deg", "Median distance of single series from it", "low"),
        Metric("session_axis_series", "", "Series that tell it", "high"),
    ),
    resources=Resources(cores=1, memory_gb=0.5),
    run=LoadedOnCall("tomofly.stages.tilts.axis_session_run", "gather_axes"),
)
