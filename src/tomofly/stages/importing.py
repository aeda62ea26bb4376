"""Import: whether a movie is what the settings say, and what is known of how it was taken."""

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall
from tomofly.stages.sections import GAIN_FIELDS


class ImportParams(StageParams):
    """What a movie must be to be taken in."""

    minimum_side_px: int = parameter(128, "Refuse movies with a shorter side", unit="px", ge=16, le=65536)
    minimum_frames: int = parameter(1, "Refuse movies with fewer frames", ge=1, le=100000)
    expected_size_px: tuple[int, int] | None = parameter(
        None, "Refuse movies of any other height and width; none accepts all", unit="px"
    )
    sample_frames: int = parameter(
        3, "Frames to look at for blank, saturated or broken pixels", ge=1, le=100, advanced=True
    )
    test_gain_orientation: bool = parameter(
        True, "Say which orientation of the gain reference fits the frames; it is never changed by itself"
    )


STAGE = MapStage(
    name="import",
    version="1",
    summary="Check the movie against the settings and collect what is known of it",
    session_kinds=("spa", "tomo"),
    track="preprocess",
    consumes="movie",
    produces="movie",
    params=ImportParams,
    needs=("transfer",),
    follows_source=True,
    reads={
        "microscope": ("pixel_size_angstrom", "voltage_kv", "dose_per_frame_e_per_a2"),
        "gain": GAIN_FIELDS,
    },
    metrics=(
        Metric("frames", "", "Frames in the file"),
        Metric("height_px", "px", "Rows of a frame"),
        Metric("width_px", "px", "Columns of a frame"),
        Metric("file_size_mb", "MB", "Size of the file"),
        Metric("recorded_pixel_size_angstrom", "Å", "Pixel size that the file's header says"),
        Metric(
            "dose_per_frame_e_per_a2", "e⁻/Å²", "Dose per recorded frame, from the settings or the metadata"
        ),
        Metric("total_dose_e_per_a2", "e⁻/Å²", "Dose of the whole movie"),
        Metric("mean_counts", "", "Mean of a pixel in one frame", "high"),
        Metric("zero_fraction", "", "Part of the pixels of a frame that are zero", "low"),
        Metric("saturated_fraction", "", "Part of the pixels that hold the largest possible number", "low"),
        Metric(
            "gain_correlation", "", "Correlation of the raw frames with the gain reference as set", "high"
        ),
        Metric("gain_z_score", "", "The same in standard deviations of chance", "high"),
        Metric("stage_x_um", "µm", "Stage position x"),
        Metric("stage_y_um", "µm", "Stage position y"),
        Metric("stage_z_um", "µm", "Stage position z"),
        Metric("tilt_deg", "deg", "Stage tilt"),
        Metric("beam_shift_x", "", "Beam shift x in the microscope's units"),
        Metric("beam_shift_y", "", "Beam shift y in the microscope's units"),
        Metric(
            "applied_defocus_angstrom", "Å", "Defocus that the microscope was set to, underfocus positive"
        ),
        Metric("acquired_unix_s", "s", "When the movie was taken, seconds since 1970 UTC"),
    ),
    resources=Resources(cores=1, memory_gb=1.0),
    run=LoadedOnCall("tomofly.stages.importing_run", "import_movie"),
)
