"""Extract: the particles cut out of their micrograph, normalised as RELION expects."""

from pydantic import field_validator

from tomofly.model import MapStage, Metric, Resources, SwitchableParams, parameter
from tomofly.model.loading import LoadedOnCall


class ExtractParams(SwitchableParams):
    """How large the boxes are, and what is done to them."""

    enabled: bool = parameter(False, "Run this stage", affects_result=False)
    box_px: int = parameter(
        0, "Side of a box in the micrograph's pixels, even; 0 takes 1.5 diameters", unit="px", ge=0, le=8192
    )
    binning: float = parameter(1.0, "Fourier cropping of the boxes; 2 halves the size", ge=1, le=64)
    normalise: bool = parameter(True, "Bring the background to mean 0 and standard deviation 1")
    background_diameter_angstrom: float = parameter(
        0.0, "Background is what lies outside this circle; 0 takes 1.15 diameters", unit="Å", ge=0, le=100000
    )
    invert: bool = parameter(True, "Make dark particles bright, as RELION expects")

    @field_validator("box_px")
    @classmethod
    def _even(cls, box_px: int) -> int:
        if box_px % 2:
            raise ValueError("the side of a box is even, as RELION and its like need it")
        return box_px


STAGE = MapStage(
    name="extract",
    version="1",
    summary="Cut the particles out, normalised as RELION expects",
    session_kinds=("spa",),
    track="preprocess",
    consumes="micrograph",
    produces="micrograph",
    params=ExtractParams,
    needs=("motion", "ctf", "picks"),
    reads={
        "microscope": ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast"),
        "picks": ("diameter_angstrom",),
    },
    metrics=(
        Metric("extracted", "", "Particles cut out", "high"),
        Metric("left_out_at_edge", "", "Particles too near to the edge for their box", "low"),
        Metric("box_size_px", "px", "Side of a box as written"),
        Metric("box_pixel_size_angstrom", "Å", "Pixel size of the boxes"),
    ),
    resources=Resources(cores=1, memory_gb=1.0),
    run=LoadedOnCall("tomofly.stages.extract_run", "extract_particles"),
)
