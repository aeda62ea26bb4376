"""Scan: what an X-ray scan file holds, and how good its light and its frames are."""

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class ScanParams(StageParams):
    """What a scan must be to be taken in, and what its file does not tell."""

    normalised: bool = parameter(
        False, "The projections are transmissions already: no flat and dark fields are needed"
    )
    minimum_projections: int = parameter(8, "Refuse scans with fewer projections", ge=2, le=1000000)
    pixel_size_um: float = parameter(
        0.0, "Size of a pixel at the sample; 0 takes what the file says", unit="µm", ge=0, le=1000
    )
    sample_frames: int = parameter(
        16, "Projections looked at for light, noise and broken pixels", ge=2, le=1000, advanced=True
    )


STAGE = MapStage(
    name="scan",
    version="1",
    summary="Read what the scan file says, average its dark and flat fields, and check its light",
    session_kinds=("xct",),
    track="scan",
    consumes="scan",
    produces="scan",
    params=ScanParams,
    metrics=(
        Metric("projections", "", "Projections that are used", "high"),
        Metric("height_px", "px", "Rows of a projection"),
        Metric("width_px", "px", "Columns of a projection"),
        Metric("angle_step_deg", "deg", "Usual step from one angle to the next"),
        Metric("coverage_deg", "deg", "How much of half a turn the angles cover", "high"),
        Metric("flats", "", "Flat fields"),
        Metric("darks", "", "Dark fields"),
        Metric("flat_epochs", "", "Times at which flat fields were taken"),
        Metric("pixel_size_um", "µm", "Size of a pixel at the sample"),
        Metric("exposure_s", "s", "Exposure of a projection"),
        Metric("energy_kev", "keV", "Energy of the X-rays"),
        Metric("transmission_mean", "", "Mean transmission of the projections looked at"),
        Metric("transmission_min", "", "Transmission that 1 in 1000 pixels is below", "high"),
        Metric("flux_drift", "", "Change of the light beside the sample during the scan, as a part", "low"),
        Metric("dropped_frames", "", "Frames missing in the count of the camera, or without an angle", "low"),
        Metric("dead_pixels", "", "Pixels whose flat field is not above the dark field", "low"),
        Metric("saturated_fraction", "", "Part of the pixels that hold the largest number", "low"),
        Metric("nan_fraction", "", "Part of the pixels that are no numbers", "low"),
        Metric("file_size_mb", "MB", "Size of the file"),
    ),
    previews=("projection",),
    resources=Resources(cores=1, memory_gb=2.0),
    run=LoadedOnCall("tomofly.stages.scans.scan_run", "take_scan"),
)  # fmt: skip
