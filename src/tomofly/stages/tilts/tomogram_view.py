"""Tomogram view: a tomogram filtered for the eye, and for nothing else."""

from typing import Literal

from tomofly.model import MapStage, Resources, parameter
from tomofly.model.loading import LoadedOnCall
from tomofly.model.parameters import SwitchableParams


class TomogramViewParams(SwitchableParams):
    """How tomograms are filtered for viewing."""

    method: Literal["deconvolution", "halves"] = parameter(
        "deconvolution",
        "Undo the CTF's loss of contrast, or keep what the tomograms of even and odd frames agree on",
    )
    strength: float = parameter(
        1.0, "How much contrast deconvolution gives back; more also raises noise", ge=0, le=3
    )
    falloff: float = parameter(
        1.0, "How soon deconvolution takes detail for noise; more is smoother", ge=0.1, le=5
    )
    float16: bool = parameter(False, "Write volumes as half floats (MRC mode 12)")


STAGE = MapStage(
    name="tomogram_view",
    version="1",
    summary="Filter the tomogram for viewing only: not for measuring, picking or averaging",
    session_kinds=("tomo",),
    track="series",
    consumes="tomogram",
    produces="tomogram",
    params=TomogramViewParams,
    needs=("tomogram",),
    reads={"microscope": ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast")},
    previews=("sections", "slices"),
    resources=Resources(cores=2, memory_gb=5.0),
    run=LoadedOnCall("tomofly.stages.tilts.tomogram_view_run", "filter_tomogram"),
)
