"""Motion: the frames of a movie aligned, weighted by dose and added up to a micrograph."""

from typing import Literal

from pydantic import field_validator

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall
from tomofly.stages.sections import GAIN_FIELDS


class MotionParams(StageParams):
    """How frames are aligned and added up."""

    patches: tuple[int, int] = parameter(
        (5, 5), "Patches for local motion, down and across; 1,1 aligns whole frames only"
    )
    binning: float = parameter(1.0, "Fourier cropping of the micrograph; 2 halves the size", ge=1, le=16)
    first_frame: int = parameter(1, "First frame to use", ge=1, le=100000)
    last_frame: int = parameter(0, "Last frame to use; 0 takes all", ge=0, le=100000)
    group: int = parameter(
        1, "Average so many neighbouring frames for the global alignment (very low dose)", ge=1, le=100
    )
    dose_weighting: bool = parameter(True, "Also write the micrograph weighted by dose")
    even_odd: bool = parameter(False, "Also write the sums of even and of odd frames")
    max_shift_angstrom: float = parameter(100.0, "Largest shift to look for", unit="Å", gt=0, le=10000)
    bfactor_angstrom2: float = parameter(
        50.0, "Restraint on high frequencies in the alignment", unit="Å²", ge=0, le=10000, advanced=True
    )
    iterations: int = parameter(10, "Most rounds of alignment", ge=1, le=100, advanced=True)
    defect_sigma: float = parameter(
        6.0, "Mend pixels that stand out of the unaligned sum by so many standard deviations; 0: none",
        ge=0, le=100, advanced=True,
    )  # fmt: skip
    float16: bool = parameter(False, "Write micrographs as half floats (MRC mode 12)")
    eer_fractions: int = parameter(40, "EER: fractions to make of a movie", ge=1, le=2000)
    eer_upsampling: Literal[1, 2, 4] = parameter(1, "EER: pixels per detector pixel and axis")

    @field_validator("patches")
    @classmethod
    def _none_or_enough(cls, patches: tuple[int, int]) -> tuple[int, int]:
        if patches != (1, 1) and min(patches) < 3:
            raise ValueError("patches are 1,1 for none, or at least 3 each way")
        return patches


STAGE = MapStage(
    name="motion",
    version="2",
    summary="Align the frames, weight them by dose and add them up",
    session_kinds=("spa",),
    track="preprocess",
    consumes="movie",
    produces="micrograph",
    params=MotionParams,
    needs=("transfer", "import"),
    reads={
        "microscope": ("pixel_size_angstrom", "voltage_kv", "pre_exposure_e_per_a2"),
        "gain": GAIN_FIELDS,
    },
    metrics=(
        Metric("total_motion_angstrom", "Å", "Length of the path of the whole field", "low"),
        Metric("early_motion_angstrom", "Å", "Its part before a dose of 4 e⁻/Å²", "low"),
        Metric("late_motion_angstrom", "Å", "Its part after that", "low"),
        Metric("local_motion_angstrom", "Å", "Largest local motion over field and frames", "low"),
        Metric("uncertainty_angstrom", "Å", "Standard deviation of a frame's shift", "low"),
        Metric("fit_residual_angstrom", "Å", "What the smooth model leaves of the patches' motion", "low"),
        Metric("leave_one_out_residual_angstrom", "Å", "The same for patches that it has not seen", "low"),
        Metric("frames_used", "", "Frames, or EER fractions, that were added up"),
        Metric("dose_used_e_per_a2", "e⁻/Å²", "Dose of the frames that were added up"),
        Metric("micrograph_pixel_size_angstrom", "Å", "Pixel size of the micrograph"),
        Metric("defect_pixels", "px", "Pixels of the detector that were mended", "low"),
    ),
    previews=("preview", "drift"),
    resources=Resources(cores=1, memory_gb=3.0),
    run=LoadedOnCall("tomofly.stages.motion_run", "correct_motion"),
)
