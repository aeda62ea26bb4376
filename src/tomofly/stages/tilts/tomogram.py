"""Tomogram: the reconstructed volume of an aligned series."""

from typing import Literal

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class TomogramParams(StageParams):
    """How tomograms are made."""

    method: Literal["wbp", "sirt"] = parameter("wbp", "Weighted back-projection, or SIRT")
    filtering: Literal["exact", "ramp", "sirt-like"] = parameter(
        "exact",
        "Filter of back-projection: for the angles that there are, a ramp, or one that looks like SIRT",
    )
    iterations: int = parameter(
        15, "Iterations of SIRT, or those that a SIRT-like filter is like", ge=1, le=500
    )
    binning: float = parameter(1.0, "Voxels so many times the pixels of tilt_image", ge=1, le=32)
    thickness_angstrom: float = parameter(
        0.0,
        "Height of the volume; 0 takes that of the specimen with room around it",
        unit="Å",
        ge=0,
        le=20000,
    )
    dose_weighting: bool = parameter(True, "Weight tilts by the dose before them")
    erase_gold_angstrom: float = parameter(
        0.0, "Erase beads of this diameter; 0: leave them in", unit="Å", ge=0, le=1000
    )
    halves: bool = parameter(False, "Also make the tomograms of even and of odd frames")
    float16: bool = parameter(False, "Write volumes as half floats (MRC mode 12)")


STAGE = MapStage(
    name="tomogram",
    version="1",
    summary="Reconstruct the tomogram, each tilt weighted by its dose and angle",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tomogram",
    params=TomogramParams,
    needs=("compose", "series_alignment"),
    reads={"microscope": ("voltage_kv", "pre_exposure_e_per_a2")},
    metrics=(
        Metric("voxel_size_angstrom", "Å", "Size of a voxel"),
        Metric("height_angstrom", "Å", "Height of the volume"),
        Metric(
            "contrast", "", "Standard deviation in the specimen's slab over that above and below it", "high"
        ),
    ),
    previews=("sections", "slices", "tilts"),
    resources=Resources(cores=2, memory_gb=5.0),
    run=LoadedOnCall("tomofly.stages.tilts.tomogram_run", "make_tomogram"),
)
