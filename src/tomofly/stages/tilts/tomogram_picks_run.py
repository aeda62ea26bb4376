"""The picking of one tomogram, written for RELION, for spreadsheets and for looking."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomofly.formats.mrc import read_image
from tomofly.formats.star import write_star
from tomofly.imaging.tomogram_gold import FEWEST_VOXELS, find_gold
from tomofly.imaging.tomogram_picking import TomogramPicks, candidates_by_size
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import VolumeMarks, draw_sections
from tomofly.stages.tilts.tomogram_file import TomogramFile, read_tomogram_record
from tomofly.stages.tilts.tomogram_picks import TomogramPicksParams

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


def pick_in_tomogram(item: ItemRef, params: TomogramPicksParams, ctx: StageContext) -> Outcome:
    """Pick the particles of one tomogram; in a provisional one there is nothing to pick yet."""
    made = ctx.inputs["tomogram"].products
    record = read_tomogram_record(made["record"])
    if record.provisional:
        return Outcome(flags=(Flag("provisional", "The series is not complete: no picks yet"),))
    with blamed_on_input("Particles cannot be picked", "Look at tomogram_picks.diameter_angstrom"):
        pixels, _ = read_image(made["tomogram"])
        volume = np.asarray(pixels, dtype=np.float32)
        gold = _gold(volume, record, params, ctx)
        candidates = _candidates(volume, gold, record, params, ctx)
    particles = candidates.above(params.threshold or max(candidates.threshold, params.keep_threshold))
    products = _write(candidates, particles, record, ctx)
    products["preview"] = ctx.new_file("_picks.webp")
    _draw(volume, particles, record, params, products["preview"])
    ctx.log.info("%s: %d particles", item.key, len(particles))
    metrics = _metrics(candidates, particles, gold, record)
    return Outcome(products, metrics, tuple(_flags(particles, gold, record, params)))


def _gold(
    volume: Volume, record: TomogramFile, params: TomogramPicksParams, ctx: StageContext
) -> FloatArray | None:
    """Give the voxel indices of gold beads (bead, 3); None where they are not looked for."""
    diameter = params.gold_diameter_angstrom
    if not diameter or diameter < FEWEST_VOXELS * record.voxel_size_angstrom:
        return None
    return find_gold(volume, record.voxel_size_angstrom, diameter, threads=ctx.threads)


def _candidates(
    volume: Volume,
    gold: FloatArray | None,
    record: TomogramFile,
    params: TomogramPicksParams,
    ctx: StageContext,
) -> TomogramPicks:
    return candidates_by_size(
        volume,
        record.voxel_size_angstrom,
        params.diameter_angstrom,
        slab_z=record.slab_z() if params.slab else None,
        gold_zyx=gold,
        gold_diameter_angstrom=params.gold_diameter_angstrom,
        distance_angstrom=params.minimum_distance_angstrom or None,
        lowest=params.keep_threshold,
        dark=not params.inverted,
        threads=ctx.threads,
    )


def _write(
    candidates: TomogramPicks, particles: TomogramPicks, record: TomogramFile, ctx: StageContext
) -> dict[str, Path]:
    """Write the particles for RELION, and all candidates with their scores: the threshold can be moved."""
    products = {"coordinates": ctx.new_file("_picks.star"), "candidates": ctx.new_file("_candidates.csv")}
    write_star(products["coordinates"], {"particles": coordinate_table(particles, record)})
    columns = {f"{axis}_voxel": candidates.zyx[:, 2 - number] for number, axis in enumerate("xyz")}
    table = pd.DataFrame({**columns, "score": candidates.score})
    table.to_csv(products["candidates"], index=False, float_format="%.7g")
    return products


def coordinate_table(particles: TomogramPicks, record: TomogramFile) -> pd.DataFrame:
    """Give centres and scores under RELION 5's labels: centres in Å from half of each size."""
    centred = (particles.zyx - np.array(record.size_zyx) / 2) * record.voxel_size_angstrom
    columns = {f"rlnCenteredCoordinate{axis}Angst": centred[:, 2 - n] for n, axis in enumerate("XYZ")}
    name = Path(record.name).name
    return pd.DataFrame(
        {"rlnTomoName": [name] * len(particles), **columns, "rlnAutopickFigureOfMerit": particles.score}
    )


def _draw(
    volume: Volume, particles: TomogramPicks, record: TomogramFile, params: TomogramPicksParams, path: Path
) -> None:
    voxel = record.voxel_size_angstrom
    marks = VolumeMarks(particles.zyx, params.diameter_angstrom / voxel)
    diameter = f"{params.diameter_angstrom / 10:g} nm"
    found = f"{len(particles)} particles of {diameter}, circled where the sections cut them"
    draw_sections(volume, voxel, path, f"{Path(record.name).name}, {found}", marks)


def _metrics(
    candidates: TomogramPicks, particles: TomogramPicks, gold: FloatArray | None, record: TomogramFile
) -> dict[str, float]:
    _, height, width = record.size_zyx
    area_um2 = height * width * (record.voxel_size_angstrom / 1e4) ** 2
    known = {
        "particles": float(len(particles)),
        "candidates": float(len(candidates)),
        "score_threshold": float(particles.threshold),
        "particles_per_um2": len(particles) / area_um2,
    }
    if gold is not None:
        known["gold_beads"] = float(len(gold))
    if len(particles):
        known["mean_score"] = float(particles.score.mean())
    return known


def _flags(
    particles: TomogramPicks, gold: FloatArray | None, record: TomogramFile, params: TomogramPicksParams
) -> list[Flag]:
    """Say what was done otherwise than asked."""
    flags = []
    if params.slab and record.slab_z() is None:
        message = "The specimen's surfaces are not known: particles were looked for in the whole volume"
        flags.append(Flag("no_slab", message))
    if gold is None and params.gold_diameter_angstrom:
        message = f"Voxels of {record.voxel_size_angstrom:.3g} Å are too coarse to look for gold"
        flags.append(Flag("gold_not_looked_for", message))
    if not len(particles):
        flags.append(Flag("no_particles", "No particle reaches the threshold"))
    return flags
