"""Volume: the reconstruction of a whole scan."""

from typing import Literal, Self

from pydantic import model_validator

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall

FilterChoice = Literal["ramp", "shepp_logan", "hann", "hamming", "cosine", "parzen", "butterworth"]


class VolumeParams(StageParams):
    """How volumes are made."""

    method: Literal["gridding", "direct"] = parameter(
        "gridding", "Filtered back-projection through Fourier space, or pixel by pixel"
    )
    filter: FilterChoice = parameter("ramp", "Filter of back-projection; all but the ramp smooth")
    ring_removal: Literal["sorting", "wavelets", "none"] = parameter(
        "sorting", "Take out stripes of sinograms: after Vo et al. (2018), Münch et al. (2009), or not"
    )
    ring_window_px: int = parameter(
        21, "Width over which sorting compares columns; odd", unit="px", ge=3, le=501
    )
    wavelet_levels: int = parameter(5, "Levels of the wavelet decomposition", ge=1, le=12, advanced=True)
    wavelet_sigma: float = parameter(
        2.0, "Width of the notch in wavelets, in frequencies", gt=0, le=1000, advanced=True
    )
    zinger_radius_px: Literal[0, 2, 3, 4] = parameter(
        0, "Replace pixels far off the median within this radius; 0: leave them", unit="px"
    )
    zinger_threshold: float = parameter(0.5, "How far off, as a part of that median", gt=0, lt=1)
    phase: bool = parameter(False, "Retrieve the phase before the logarithm, after Paganin et al. (2002)")
    phase_alpha: float = parameter(1000.0, "Ratio δ/β of the sample", gt=0, le=1e7)
    energy_kev: float = parameter(0.0, "Energy; 0 takes what the file says", unit="keV", ge=0, le=1000)
    distance_mm: float = parameter(
        0.0, "Distance from sample to detector; 0 takes what the file says", unit="mm", ge=0, le=100000
    )
    first_row: int = parameter(0, "First row of the detector that is reconstructed", unit="px", ge=0)
    last_row: int = parameter(0, "Row at which it ends, itself left out; 0: all", unit="px", ge=0)
    memory_gb: float = parameter(
        0.0, "Memory that a reconstruction may take, whatever the size of the scan; 0 takes half of what a "
        "worker process has where there is one for each core", unit="GB", ge=0, affects_result=False,
    )  # fmt: skip
    threads: int = parameter(
        0,
        "Threads of a reconstruction; 0 takes as many as cores and memory allow",
        ge=0,
        le=1024,
        affects_result=False,
    )

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.ring_window_px % 2 == 0:
            raise ValueError("ring_window_px must be odd")
        if self.last_row and self.last_row <= self.first_row:
            raise ValueError("last_row must be greater than first_row, or 0 for all")
        return self


STAGE = MapStage(
    name="volume",
    version="1",
    summary="Reconstruct the whole scan, slab by slab within a given memory",
    session_kinds=("xct",),
    track="volume",
    consumes="scan",
    produces="volume",
    params=VolumeParams,
    needs=("scan", "scan_centre"),
    metrics=(
        Metric("slices", "", "Slices of the volume"),
        Metric("voxel_size_um", "µm", "Size of a voxel"),
        Metric("mean_absorption", "1/px", "Mean of the slices looked at"),
        Metric("mean_absorption_per_um", "1/µm", "The same, where the size of a pixel is known"),
        Metric("contrast", "1/px", "Standard deviation of the slices looked at, without noise"),
        Metric("noise", "1/px", "Noise of the slices looked at", "low"),
        Metric("sharpness", "", "Part of the variation that a blur by a pixel would lose", "high"),
        Metric("rings", "", "Strength of rings; 1 is that of chance", "low"),
        Metric("slabs", "", "Parts in which it was made, for the memory that was allowed"),
        Metric("seconds_per_slice", "s", "Time that a slice took, reading and writing included", "low"),
    ),
    previews=("sections",),
    resources=Resources(cores=1, memory_gb=4.0),
    run=LoadedOnCall("tomofly.stages.scans.volume_run", "make_volume"),
)
