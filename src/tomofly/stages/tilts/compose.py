"""Compose: tilts brought together to a series, when its rule says that it is complete."""

from tomofly.model import GroupStage, ItemRef, Metric, Resources
from tomofly.model.loading import LoadedOnCall
from tomofly.stages.tilts.attributes import RESULT_ATTRIBUTES
from tomofly.stages.tilts.rules import ComposeParams, complete, provisional, series_of


def _series(item: ItemRef) -> str | None:
    return series_of(item.attributes)


STAGE = GroupStage(
    name="compose",
    version="2",
    summary="Bring tilts together to a series; leave out dark, blocked, shifted and retaken ones",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt",
    produces="tilt series",
    params=ComposeParams,
    needs=("tilt_image",),
    attributes=RESULT_ATTRIBUTES,
    metrics=(
        Metric("tilts", "", "Tilts that are used", "high"),
        Metric("excluded_tilts", "", "Tilts that are left out", "low"),
        Metric("lowest_tilt_deg", "deg", "Lowest nominal angle"),
        Metric("highest_tilt_deg", "deg", "Highest nominal angle"),
        Metric("total_dose_e_per_a2", "e⁻/Å²", "Dose of all exposures of the series"),
        Metric("provisional", "", "1 while the series is not complete", "low"),
    ),
    member_of=_series,
    complete=complete,
    partial=provisional,
    main=True,
    resources=Resources(cores=1, memory_gb=2.0),
    run=LoadedOnCall("tomofly.stages.tilts.compose_run", "compose_series"),
)
