"""Series CTF: the defocus of each tilt, fitted to all tilts of a series together."""

from typing import Literal

from pydantic import field_validator

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class SeriesCtfParams(StageParams):
    """How the CTF of a series is fitted."""

    defocus_range_angstrom: tuple[float, float] = parameter(
        (5000.0, 80000.0), "Underfocus to search, from and to", unit="Å"
    )
    resolution_range_angstrom: tuple[float, float] = parameter(
        (40.0, 5.0), "Coarsest and finest detail that is fitted", unit="Å"
    )
    use_target_defocus: bool = parameter(
        True, "Let the microscope's target defocus decide what the spectra leave open"
    )
    hand: Literal[-1, 0, 1] = parameter(
        0, "Whether the defocus grows (1) or falls (-1) with height; 0: as the spectra say"
    )

    @field_validator("defocus_range_angstrom")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 < limits[0] < limits[1]:
            raise ValueError("a defocus range rises from above 0, such as 5000,80000")
        return limits


STAGE = MapStage(
    name="series_ctf",
    version="3",
    summary="Fit defocus, astigmatism and hand to the spectra of all tilts together",
    session_kinds=("tomo",),
    track="series",
    consumes="tilt series",
    produces="tilt series",
    params=SeriesCtfParams,
    needs=("compose", "series_alignment"),
    reads={"microscope": ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast")},
    metrics=(
        Metric("defocus_at_zero_angstrom", "Å", "Defocus of the least tilted view, underfocus positive"),
        Metric("defocus_error_median_angstrom", "Å", "Median standard error of a tilt's defocus", "low"),
        Metric("series_astigmatism_angstrom", "Å", "U - V", "low"),
        Metric("series_astigmatism_error_angstrom", "Å", "Standard error of U - V", "low"),
        Metric("series_astigmatism_angle_deg", "deg", "Direction of U, from +x towards +y"),
        Metric("resolution_low_tilt_angstrom", "Å", "Fit resolution below 30° of tilt, median", "low"),
        Metric("resolution_high_tilt_angstrom", "Å", "Fit resolution from 30° of tilt, median", "low"),
        Metric(
            "hand", "", "1 where the defocus grows with height, -1 where it falls; 0: the spectra do not tell"
        ),
        Metric("hand_certainty", "", "Probability of the likelier hand by the spectra", "high"),
        Metric(
            "hand_deviations", "", "Evidence for that hand over its standard error among the tilts", "high"
        ),
        Metric("depth_scale", "", "Change of the defocus across the tilts over that which their angles make"),
        Metric("depth_scale_error", "", "Standard error of that", "low"),
        Metric(
            "tilts_without_rings", "", "Tilts whose defocus is that of their neighbours, or not known", "low"
        ),
    ),
    previews=("defocus", "rings"),
    resources=Resources(cores=2, memory_gb=3.0),
    run=LoadedOnCall("tomofly.stages.tilts.ctf_run", "fit_series_ctf"),
)
