"""Stages run on one item as the engine runs them, and the microscope whose movie they get."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomofly.model import (
    ItemRef,
    MapStage,
    Outcome,
    Result,
    StageContext,
    StageParams,
)
from tomofly.simulate import SpaMicroscope

MICROSCOPE = SpaMicroscope(
    seed=3,
    detector_yx_px=(640, 576),
    frames=8,
    pixel_size_angstrom=2.1,
    dose_per_frame_e_per_a2=4.0,
    carbon_edge_fraction=0.0,
    contamination_fraction=0.0,
    defocus_range_angstrom=(15000.0, 20000.0),
    gain_variation=0.08,
)


@dataclass
class Bench:
    """Runs stages one after another on one item, in a folder of its own."""

    folder: Path
    movie: Path
    shared: Mapping[str, StageParams]
    key: str = "grid 1/movie_00000"
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        beside = self.movie.with_name(self.movie.name.replace("_Fractions.mrc", ".xml"))
        products = {"movie": self.movie} | ({"xml": beside} if beside.suffix == ".xml" else {})
        self.results["transfer"] = Result("transfer", products)

    def run(self, stage: MapStage, **params: Any) -> Outcome:
        """Run a stage with some parameters, and keep its result for those that need it."""
        work = self.folder / stage.name
        work.mkdir(parents=True, exist_ok=True)
        context = StageContext(
            stage=stage.name,
            key=self.key,
            work=work,
            partial=self.folder,
            shared={name: self.shared[name] for name in stage.reads},
            inputs={name: self.results[name] for name in stage.needs},
            log=logging.getLogger("test"),
        )
        item = ItemRef(self.key, "movie", self.movie, "1:1")
        validated = stage.params.model_validate(params)
        outcome = stage.run(item, validated, context)
        self.shared = {**self.shared, stage.name: validated}
        require_lawful(stage, outcome, work)
        self.results[stage.name] = Result(stage.name, outcome.products, outcome.metrics, outcome.flags)
        return outcome


def require_lawful(stage: MapStage, outcome: Outcome, work: Path) -> None:
    """What holds for each outcome: declared metrics, finite numbers, products that exist in their folder."""
    declared = {metric.name for metric in stage.metrics}
    assert set(outcome.metrics) <= declared
    assert all(isinstance(value, float) and abs(value) < float("inf") for value in outcome.metrics.values())
    for product in outcome.products.values():
        assert product.is_file()
        assert product.stat().st_size > 0
        assert product.is_relative_to(work)
    assert all(flag.code and flag.message and "_" not in flag.message[:1] for flag in outcome.flags)
