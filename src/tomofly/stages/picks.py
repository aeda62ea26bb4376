"""Picks: particles found without a reference, and where nothing may be picked."""

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import field_validator, model_validator

from tomofly.formats.mrc import read_image, write_image
from tomofly.formats.star import write_star
from tomofly.imaging.exclusion import Exclusion, exclusion_mask
from tomofly.imaging.extraction import whole_pixel
from tomofly.imaging.picking import (
    DEFAULT_KEEP_THRESHOLD,
    DEFAULT_THRESHOLD,
    Picks,
    diameter_range,
    find_particles,
    select_picks,
)
from tomofly.model import (
    Flag,
    ItemRef,
    MapStage,
    Metric,
    Outcome,
    Resources,
    Result,
    StageContext,
    StageParams,
    parameter,
)
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import draw_picks
from tomofly.stages.previews.micrograph import PickMarks

# What the picking says of itself, for people.
FLAG_WORDS = {
    "mostly_excluded": "More than half of the micrograph is contamination, carbon or gold",
    "everything_excluded": "All of the micrograph is contamination, carbon or gold: nothing was picked",
}


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


def pick_particles(item: ItemRef, params: PicksParams, ctx: StageContext) -> Outcome:
    """Pick the particles of one micrograph, the dose-weighted one where there is one."""
    motion = ctx.inputs["motion"]
    pixel_size = motion.metrics["micrograph_pixel_size_angstrom"]
    with blamed_on_input("Particles cannot be picked", "Look at the micrograph and at the settings of picks"):
        image, _ = read_image(best_micrograph(motion))
        image = np.asarray(image, dtype=np.float32)
        diameters = diameter_range(params.diameter_angstrom)
        exclusion = _exclusion(image, pixel_size, diameters, params)
        candidates = find_particles(
            image,
            pixel_size_angstrom=pixel_size,
            diameter_angstrom=diameters,
            minimum_distance_angstrom=params.minimum_distance_angstrom or None,
            exclusion=exclusion,
            threshold=params.threshold,
            keep_threshold=params.keep_threshold,
            inverted=params.inverted,
        )
        picks = select_picks(candidates, params.threshold)
    products = _write(candidates, picks, exclusion, pixel_size, ctx)
    marks = PickMarks(picks.position_yx_px, picks.diameter_angstrom / pixel_size, exclusion.mask)
    products["preview"] = ctx.new_file("_picks.webp")
    draw_picks(image, pixel_size, marks, products["preview"])
    ctx.log.info("%s: %d particles", item.key, len(picks))
    flags = [Flag(code, FLAG_WORDS.get(code, code)) for code in candidates.flags]
    if not len(picks) and not flags:
        flags.append(Flag("no_particles", "No particle reaches the threshold"))
    return Outcome(products=products, metrics=_metrics(candidates, picks, exclusion), flags=tuple(flags))


def best_micrograph(motion: Result) -> Path:
    """The dose-weighted micrograph where there is one, else the plain average."""
    return motion.products.get("dose_weighted", motion.products["average"])


def _exclusion(
    image: npt.NDArray[np.float32],
    pixel_size_angstrom: float,
    diameters: tuple[float, float],
    params: PicksParams,
) -> Exclusion:
    if not params.exclusion:
        return Exclusion(np.zeros((1, 1), np.bool_), max(image.shape), 0.0, 0.0, 0.0)
    return exclusion_mask(
        image,
        pixel_size_angstrom=pixel_size_angstrom,
        diameter_angstrom=float(np.sqrt(diameters[0] * diameters[1])),
        inverted=params.inverted,
    )


def _write(
    candidates: Picks, picks: Picks, exclusion: Exclusion, pixel_size_angstrom: float, ctx: StageContext
) -> dict[str, Path]:
    """The particles for RELION, all candidates with their scores as a table, and the mask."""
    products = {
        "coordinates": ctx.new_file("_picks.star"),
        "candidates": ctx.new_file("_candidates.csv"),
        "exclusion": ctx.new_file("_exclusion.mrc"),
    }
    write_star(products["coordinates"], {"": coordinate_table(picks)})
    table = pd.DataFrame(
        {
            "x_px": candidates.position_yx_px[:, 1],
            "y_px": candidates.position_yx_px[:, 0],
            "score": candidates.score,
            "diameter_angstrom": candidates.diameter_angstrom,
        }
    )
    table.to_csv(products["candidates"], index=False, float_format="%.7g")
    write_image(products["exclusion"], exclusion.mask.astype(np.int8), exclusion.scale * pixel_size_angstrom)
    return products


def coordinate_table(picks: Picks) -> pd.DataFrame:
    """Coordinates and scores under RELION's labels; (0, 0) is the centre of the first pixel for both.

    RELION cuts fractions off where it extracts, which would move particles by half a pixel on average, so
    the nearest whole pixels are given.
    """
    pixel = whole_pixel(picks.position_yx_px).astype(np.float64)
    return pd.DataFrame(
        {
            "rlnCoordinateX": pixel[:, 1],
            "rlnCoordinateY": pixel[:, 0],
            "rlnAutopickFigureOfMerit": picks.score.astype(np.float64),
        }
    )


def _metrics(candidates: Picks, picks: Picks, exclusion: Exclusion) -> dict[str, float]:
    known = {
        "particles": float(len(picks)),
        "candidates": float(len(candidates)),
        "excluded_fraction": exclusion.fraction,
        "contamination_fraction": exclusion.contamination_fraction,
        "carbon_fraction": exclusion.carbon_fraction,
        "gold_or_edge_fraction": exclusion.gold_or_edge_fraction,
    }
    if len(picks):
        known["mean_score"] = float(picks.score.mean())
        known["mean_diameter_angstrom"] = float(picks.diameter_angstrom.mean())
    return known


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
    run=pick_particles,
)
