"""Tomogram picks: particles of a known size, found without a reference."""

from typing import Self

from pydantic import model_validator

from tomofly.model import MapStage, Metric, Resources, parameter
from tomofly.model.loading import LoadedOnCall
from tomofly.model.parameters import SwitchableParams


class TomogramPicksParams(SwitchableParams):
    """What a particle is taken to be."""

    diameter_angstrom: float = parameter(250.0, "Particle diameter", unit="Å", gt=0, le=5000)
    threshold: float = parameter(
        0.0,
        "Score from which a candidate counts as a particle; 0 takes that which parts them from noise",
        ge=0,
        le=1000,
    )
    keep_threshold: float = parameter(
        3.0, "Score from which candidates are kept in the table", ge=2, le=1000, advanced=True
    )
    minimum_distance_angstrom: float = parameter(
        0.0, "Least distance of two particles; 0 takes 4/5 of the diameter", unit="Å", ge=0, le=100000
    )
    slab: bool = parameter(True, "Leave out what lies outside of the specimen, where its surfaces were found")
    gold_diameter_angstrom: float = parameter(
        100.0, "Leave out gold beads of this diameter and what touches them; 0: look for none",
        unit="Å", ge=0, le=1000,
    )  # fmt: skip
    inverted: bool = parameter(False, "Particles are bright on dark")

    @model_validator(mode="after")
    def _candidates_are_kept(self) -> Self:
        if 0 < self.threshold < self.keep_threshold:
            raise ValueError(
                f"threshold={self.threshold:g} lies below keep_threshold={self.keep_threshold:g}: "
                "lower the latter, too"
            )
        return self


STAGE = MapStage(
    name="tomogram_picks",
    version="1",
    summary="Find particles of a size in the specimen's slab of the tomogram, away from gold",
    session_kinds=("tomo",),
    track="series",
    consumes="tomogram",
    produces="tomogram",
    params=TomogramPicksParams,
    needs=("tomogram",),
    metrics=(
        Metric("particles", "", "Particles at or above the threshold", "high"),
        Metric("candidates", "", "Candidates kept with their scores"),
        Metric("score_threshold", "", "Score from which candidates count as particles, in noise deviations"),
        Metric("mean_score", "", "Mean score of the particles", "high"),
        Metric("particles_per_um2", "1/µm²", "Particles for each µm² of the field"),
        Metric("gold_beads", "", "Gold beads that were found and kept away from"),
    ),
    previews=("preview",),
    resources=Resources(cores=2, memory_gb=4.0),
    run=LoadedOnCall("tomofly.stages.tilts.tomogram_picks_run", "pick_in_tomogram"),
)
