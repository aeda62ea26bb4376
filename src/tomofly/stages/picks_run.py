"""The picking of one micrograph, written for RELION, for spreadsheets and for looking."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomofly.formats.mrc import read_image, write_image
from tomofly.formats.star import write_star
from tomofly.imaging.exclusion import Exclusion, exclusion_mask
from tomofly.imaging.extraction import whole_pixel
from tomofly.imaging.particle_size import diameter_range
from tomofly.imaging.picking import Picks, find_particles, select_picks
from tomofly.model import Flag, ItemRef, Outcome, Result, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.picks import PicksParams
from tomofly.stages.previews import draw_picks
from tomofly.stages.previews.micrograph import PickMarks

# What the picking says of itself, for people.
FLAG_WORDS = {
    "mostly_excluded": "More than half of the micrograph is contamination, carbon or gold",
    "everything_excluded": "All of the micrograph is contamination, carbon or gold: nothing was picked",
}


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
    write_star(products["coordinates"], {"": coordinate_table(picks.position_yx_px, picks.score)})
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


def coordinate_table(position_yx_px: npt.ArrayLike, score: npt.ArrayLike) -> pd.DataFrame:
    """Coordinates (pick, 2) and scores (pick,) under RELION's labels.

    For both, (0, 0) is the centre of the first pixel. RELION cuts fractions off where it extracts, which
    would move particles by half a pixel on average, so the nearest whole pixels are given.
    """
    pixel = whole_pixel(np.asarray(position_yx_px, np.float64)).astype(np.float64)
    return pd.DataFrame(
        {
            "rlnCoordinateX": pixel[:, 1],
            "rlnCoordinateY": pixel[:, 0],
            "rlnAutopickFigureOfMerit": np.asarray(score, np.float64),
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
