"""Picks: particles found without a reference, and where nothing may be picked."""

from typing import Self

from pydantic import field_validator, model_validator

from tomofly.imaging.particle_size import DEFAULT_KEEP_THRESHOLD, DEFAULT_THRESHOLD, diameter_range
from tomofly.model import LoadedOnCall, MapStage, Metric, Resources, StageParams, parameter


class PicksParams(StageParams):
    """What a particle is taken to be."""

    diameter_angstrom: float | tuple[float, float] = parameter(
        150.0, "Particle diameter, or the smallest and the largest", unit="Å"
    )
    threshold: float = parameter(
        DEFAULT_THRESHOLD, "Score from which a candidate counts as a particle", ge=0, le=1000
    )
    keep_threshold: float = parameter(
        DEFAULT_KEEP_THRESHOLD,
        "Score from which candidates are kept in the table",
        gt=0,
        le=1000,
        advanced=True,
    )
    minimum_distance_angstrom: float = parameter(
        0.0,
        "Least distance of two particles; 0 takes 5/8 of the largest diameter, at most 9/10 of the smallest",
        unit="Å",
        ge=0,
        le=100000,
    )
    exclusion: bool = parameter(True, "Leave out contamination, carbon and gold")
    inverted: bool = parameter(False, "Particles are bright on dark")

    @field_validator("diameter_angstrom")
    @classmethod
    def _size_or_range(cls, diameter: float | tuple[float, float]) -> float | tuple[float, float]:
        diameter_range(diameter)
        return diameter

    @model_validator(mode="after")
    def _candidates_are_kept(self) -> Self:
        if self.threshold < self.keep_threshold:
            raise ValueError(
                f"threshold={self.threshold:g} lies below keep_threshold={self.keep_threshold:g}: "
                "lower the latter, too"
            )
        return self


STAGE = MapStage(
    name="picks",
    version="2",
    summary="Find particles without a reference, after masking what no particle can lie on",
    session_kinds=("spa",),
    track="preprocess",
    consumes="micrograph",
    produces="micrograph",
    params=PicksParams,
    needs=("motion",),
    metrics=(
        Metric("particles", "", "Particles at or above the threshold", "high"),
        Metric("candidates", "", "Candidates kept with their scores"),
        Metric("mean_score", "", "Mean score of the particles", "high"),
        Metric("mean_diameter_angstrom", "Å", "Mean of the diameters that fit the particles best"),
        Metric("excluded_fraction", "", "Part of the micrograph where nothing was picked", "low"),
        Metric("contamination_fraction", "", "Its part for contamination", "low"),
        Metric("carbon_fraction", "", "Its part for carbon", "low"),
        Metric("gold_or_edge_fraction", "", "Its part for gold and dead borders", "low"),
    ),
    previews=("preview",),
    resources=Resources(cores=1, memory_gb=1.0),
    run=LoadedOnCall("tomofly.stages.picks_run", "pick_particles"),
)
