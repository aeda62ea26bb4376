"""Tilt motion: the motion stage for one tilt, whose few electrons seldom tell of local motion."""

from dataclasses import replace

from tomofly.model import Catalog, Settings, parameter
from tomofly.model.loading import LoadedOnCall
from tomofly.stages import motion
from tomofly.stages.motion import MotionParams


class TiltMotionParams(MotionParams):
    """How the frames of a tilt are aligned and added up."""

    patches: tuple[int, int] = parameter(
        (1, 1), "Patches for local motion, down and across; 1,1 aligns whole frames only"
    )
    dose_weighting: bool = parameter(
        False, "Also write each tilt weighted by the dose of its frames; the series is weighted in any case"
    )
    even_odd: bool = parameter(True, "Also write the sums of even and of odd frames, for half tomograms")


def new_catalog(settings: Settings) -> Catalog:
    """Make the catalogue of a session's tilts."""
    from tomofly.stages.tilts.catalog import TiltCatalog
    from tomofly.stages.tilts.rules import ComposeParams

    return TiltCatalog(settings.section("compose", ComposeParams))


STAGE = replace(
    motion.STAGE,
    name="tilt_motion",
    summary="Align the frames of a tilt and add them up",
    session_kinds=("tomo",),
    consumes="movie",
    produces="tilt",
    params=TiltMotionParams,
    attributes=("views",),
    run=LoadedOnCall("tomofly.stages.tilts.motion_run", "correct_tilt_motion"),
    catalog=new_catalog,
)
