"""Particles that were picked in tomograms, for the programs that go on with them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomofly.formats.mrc import MrcLayout
from tomofly.formats.relion_tomo import TomoParticle
from tomofly.formats.star import read_star
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord
from tomofly.services.exports.export import Draft
from tomofly.services.exports.series import ExportedSeries, is_done
from tomofly.services.exports.threshold import candidates_above
from tomofly.store.browse import BrowsedItem

CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
SCORE = "rlnAutopickFigureOfMerit"


@dataclass(frozen=True)
class Picks:
    """Positions (pick, 3) as (x, y, z) in Å from the volume's middle, index n // 2, and scores (pick,)."""

    xyz_angstrom: FloatArray
    score: FloatArray


def picks_of(draft: Draft, item: BrowsedItem, tomogram: MrcLayout | None) -> Picks:
    """Read what was picked in the tomogram of a series; nothing where that is not there, or not done.

    The file counts as RELION does, from half of each size: half a voxel from the middle where one is odd.
    """
    path = item.products.get(("tomogram_picks", "coordinates"))
    if path is None or tomogram is None or not is_done(item, "tomogram_picks"):
        return Picks(np.empty((0, 3)), np.empty(0))
    size = np.array([tomogram.shape_yx[1], tomogram.shape_yx[0], tomogram.sections])
    voxel = tomogram.pixel_size_angstrom or 1.0
    if (threshold := draft.options.threshold) is not None:
        kept = candidates_above(draft, item, "tomogram_picks", threshold)
        at = kept[["x_voxel", "y_voxel", "z_voxel"]].to_numpy(np.float64) - size // 2
        return Picks(at * voxel, kept["score"].to_numpy(np.float64))
    table = next(iter(read_star(draft.scope.folder / path).values()))
    if not isinstance(table, pd.DataFrame) or not len(table):
        return Picks(np.empty((0, 3)), np.empty(0))
    at = table[list(CENTRED)].to_numpy(np.float64) + (size / 2 - size // 2) * voxel
    return Picks(at, table[SCORE].to_numpy(np.float64))


def particles_of(draft: Draft, exported: ExportedSeries, record: TiltSeriesRecord) -> list[TomoParticle]:
    """Give the picks of a series as particles, in pixels of the record."""
    picks = picks_of(draft, exported.item, exported.tomogram)
    centred = picks.xyz_angstrom / record.pixel_size_angstrom
    return [
        TomoParticle(record.name, (float(x), float(y), float(z)), score=float(score))
        for (x, y, z), score in zip(centred, picks.score, strict=True)
    ]
