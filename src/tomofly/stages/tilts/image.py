"""Tilt image: one tilt made ready for its series as soon as it arrives."""

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class TiltImageParams(StageParams):
    """How tilts are made ready."""

    pixel_size_angstrom: float = parameter(
        10.0, "Pixel size at which series are aligned and tomograms made", unit="Å", gt=0, le=200
    )
    ctf_resolution_range_angstrom: tuple[float, float] = parameter(
        (40.0, 5.0), "Coarsest and finest detail that the CTF of the series is fitted to", unit="Å"
    )
    ctf_tile_angstrom: float = parameter(
        700.0, "Side of the tiles whose spectra the CTF of the series is fitted to", unit="Å", gt=50, le=5000,
        advanced=True,
    )  # fmt: skip


STAGE = MapStage(
    name="tilt_image",
    version="2",
    summary="Make a tilt ready for its series: reduced image, tile spectra, dark and blocked areas",
    session_kinds=("tomo",),
    track="preprocess",
    consumes="tilt",
    produces="tilt",
    params=TiltImageParams,
    needs=("tilt_motion",),
    metrics=(
        Metric("tilt_pixel_size_angstrom", "Å", "Pixel size of the reduced image"),
        Metric("full_pixel_size_angstrom", "Å", "Pixel size of the full image"),
        Metric("mean_counts", "", "Mean of the image, in the detector's counts", "high"),
        Metric("blocked_fraction", "", "Part of the field that is blocked, as by a grid bar", "low"),
        Metric("sharpness", "", "Contrast between neighbouring areas over the squared mean", "high"),
    ),
    resources=Resources(cores=1, memory_gb=2.0),
    run=LoadedOnCall("tomofly.stages.tilts.image_run", "prepare_tilt"),
)
