"""CTF: defocus, astigmatism and their errors, fitted to the power spectrum of a micrograph."""

from pydantic import field_validator

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class CtfParams(StageParams):
    """Where Thon rings are looked for, and how finely."""

    defocus_range_angstrom: tuple[float, float] = parameter(
        (3000.0, 50000.0), "Smallest and largest underfocus to look for", unit="Å"
    )
    resolution_range_angstrom: tuple[float, float] = parameter(
        (30.0, 0.0), "Coarsest and finest resolution to fit; 0 goes as far as the rings do", unit="Å"
    )
    phase_shift_range_deg: tuple[float, float] | None = parameter(
        None, "Smallest and largest phase shift to look for; none: no phase plate", unit="deg"
    )
    box_px: int = parameter(
        512, "Side of the spectrum; doubled where the rings are too narrow for it", unit="px", ge=64, le=4096,
        advanced=True,
    )  # fmt: skip

    @field_validator("defocus_range_angstrom", "phase_shift_range_deg")
    @classmethod
    def _rising(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not 0 <= limits[0] < limits[1]:
            raise ValueError("a range rises, from 0 or above")
        return limits

    @field_validator("resolution_range_angstrom")
    @classmethod
    def _falling(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= limits[1] < limits[0]:
            raise ValueError("resolutions fall, such as 30,5, or 30,0 for as far as the rings go")
        return limits

    @field_validator("box_px")
    @classmethod
    def _even(cls, box_px: int) -> int:
        if box_px % 2:
            raise ValueError("the side of the spectrum is even")
        return box_px


STAGE = MapStage(
    name="ctf",
    version="1",
    summary="Fit defocus and astigmatism to the power spectrum",
    session_kinds=("spa",),
    track="preprocess",
    consumes="micrograph",
    produces="micrograph",
    params=CtfParams,
    needs=("motion",),
    reads={"microscope": ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast")},
    metrics=(
        Metric("defocus_angstrom", "Å", "Mean of U and V, underfocus positive"),
        Metric("defocus_u_angstrom", "Å", "Larger underfocus"),
        Metric("defocus_v_angstrom", "Å", "Smaller underfocus"),
        Metric("astigmatism_angstrom", "Å", "U - V", "low"),
        Metric("astigmatism_angle_deg", "deg", "Direction of U, from +x towards +y (rows downwards)"),
        Metric("phase_shift_deg", "deg", "Phase shift of the phase plate"),
        Metric("fit_quality", "", "Correlation of the spectrum with the fit", "high"),
        Metric("fit_resolution_angstrom", "Å", "Finest resolution to which the rings follow the fit", "low"),
        Metric(
            "aliasing_resolution_angstrom",
            "Å",
            "Beyond this the rings are too narrow for the spectrum",
            "low",
        ),
        Metric("ice_ring", "", "Power at 3.7 Å over its surroundings; 1 without crystalline ice", "low"),
        Metric("defocus_error_angstrom", "Å", "Standard error of the mean defocus", "low"),
        Metric("astigmatism_error_angstrom", "Å", "Standard error of U - V", "low"),
        Metric("angle_error_deg", "deg", "Standard error of the angle", "low"),
        Metric("phase_shift_error_deg", "deg", "Standard error of the phase shift", "low"),
        Metric("log_likelihood_gain", "", "Log likelihood of rings over none", "high"),
    ),
    previews=("preview", "plot"),
    resources=Resources(cores=1, memory_gb=1.0),
    run=LoadedOnCall("tomofly.stages.ctf_run", "fit_ctf"),
)
