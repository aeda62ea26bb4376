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
    ctf_correction: Literal["flip", "wiener", "none"] = parameter(
        "flip",
        "Correct tilts for the CTF in strips along the tilt axis: phases alone, amplitudes too, or not",
    )
    dose_weighting: bool = parameter(True, "Weight tilts by the dose before them")
    erase_gold_angstrom: float = parameter(
        0.0, "Erase beads of this diameter; 0: leave them in", unit="Å", ge=0, le=1000
    )
    halves: bool = parameter(False, "Also make the tomograms of even and of odd frames")
    float16: bool = parameter(False, "Write volumes as half floats (MRC mode 12)")


STAGE = MapStage(
    name="tomogram",
    version="3",
    summary="Reconstruct the tomogram, each tilt corrected for its CTF, weighted by dose and angle",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tomogram",
    params=TomogramParams,
    needs=("compose", "series_alignment", "series_ctf"),
    reads={
        "microscope": (
            "voltage_kv",
            "pre_exposure_e_per_a2",
            "spherical_aberration_mm",
            "amplitude_contrast",
        ),
        "series_ctf": ("hand",),
    },
    metrics=(
        Metric("voxel_size_angstrom", "Å", "Size of a voxel"),
        Metric("height_angstrom", "Å", "Height of the volume"),
        Metric(
            "contrast", "", "Standard deviation in the specimen's slab over that above and below it", "high"
        ),
        Metric("ctf_corrected", "", "1 where the tilts were corrected for the CTF, else 0", "high"),
        Metric(
            "half_resolution_angstrom",
            "Å",
            "Where the tomograms of even and odd frames agree to 0.143 within the specimen",
            "low",
        ),
    ),
    previews=("sections", "slices", "tilts"),
    resources=Resources(cores=2, memory_gb=5.0),
    run=LoadedOnCall("tomofly.stages.tilts.tomogram_run", "make_tomogram"),
)
