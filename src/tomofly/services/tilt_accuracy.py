"""How near the results on tilt series are to the truth that a simulator wrote beside their tilts.

Only this module opens those files, and only after the work is done: the processing never reads them. What
nobody can know is taken out first: a movement of the whole specimen, which moves all tilts together.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

from tomofly.formats.star import read_star
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.services.accuracy import TRUTH_SUFFIX, PickScore, match_picks
from tomofly.stages.tilts.files import (
    AlignmentFile,
    CtfFile,
    SeriesFile,
    read_alignment,
    read_ctf,
    read_series,
)
from tomofly.store import browse
from tomofly.store.browse import BrowsedItem

FloatArray = npt.NDArray[np.float64]

PICKS = ("tomogram_picks", "coordinates")
"""Stage and product; positions in it are rlnCenteredCoordinate[XYZ]Angst."""


@dataclass(frozen=True)
class Matched:
    """A series' tilts that are in its stack, with what is true of each: arrays with one entry per tilt.

    ``geometry`` is the true one, its shifts in Å. ``defocus_angstrom`` (tilt,) is at the axis.
    """

    kept: npt.NDArray[np.int64]
    geometry: TiltGeometry
    defocus_angstrom: FloatArray


def series_truth_of(series: BrowsedItem, sources: Iterable[str]) -> dict[str, Any] | None:
    """Give the truth about a series that lies beside its tilts, if there is one."""
    name = Path(series.key).name
    for folder in dict.fromkeys(Path(source).parent for source in sources if source):
        path = folder / f"{name}{TRUTH_SUFFIX}"
        if path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def measure_tilt_accuracy(
    connection: Connection, folder: Path, series: Iterable[BrowsedItem]
) -> list[dict[str, Any]]:
    """Compare the series of a session in ``folder`` with the truth; nothing where none is simulated.

    What was made of some tilts only, while others are awaited, is left out.
    """
    compared = []
    for item in (item for item in series if not item.provisional):
        truth = series_truth_of(item, browse.member_sources(connection, item.id))
        if truth is not None:
            compared.append(measure_series(folder, item, truth))
    return compared


def measure_series(folder: Path, series: BrowsedItem, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Compare one series in the session's ``folder`` with the truth: numbers by name, those that there are.

    Names that begin with ``true_`` are of the truth; ``_error`` is measured minus true.
    """
    told: dict[str, Any] = {"series": series.key}
    metrics = series.metrics
    _compare(
        told, "tilt_offset_deg", metrics.get(("series_alignment", "tilt_offset_deg")), truth["pre_tilt_deg"]
    )
    thickness = metrics.get(("series_alignment", "thickness_nm"))
    _compare(told, "thickness_nm", thickness, truth["thickness_angstrom"] / 10)
    paths = {stage: _product(folder, series, stage, name) for stage, name in PRODUCTS}
    if paths["compose"] is None or paths["series_alignment"] is None:
        return told
    composed, alignment = read_series(paths["compose"]), read_alignment(paths["series_alignment"])
    matched = match_tilts(composed, truth)
    if len(matched.kept) < 3 or len(alignment.tilt_angle_deg) != len(composed.used):
        return told
    axis = float(np.median(alignment.axis_angle_deg))
    _compare(told, "axis_angle_deg", axis, float(np.median(matched.geometry.axis_angle_deg)), turn=360.0)
    error, moved = shift_errors(alignment, matched)
    told["shift_rms_angstrom"] = float(np.sqrt(np.mean(np.sum(error**2, axis=1))))
    if paths["series_ctf"] is not None:
        _compare_ctf(told, read_ctf(paths["series_ctf"]), matched, moved, truth["hand"])
    picks = series.products.get(PICKS)
    if picks is not None:
        _compare_picks(told, read_picks(folder / picks) + moved, truth, composed)
    return told


PRODUCTS = (("compose", "series"), ("series_alignment", "alignment"), ("series_ctf", "ctf"))


def _product(folder: Path, series: BrowsedItem, stage: str, name: str) -> Path | None:
    path = series.products.get((stage, name))
    return None if path is None else folder / path


def _compare(
    told: dict[str, Any], name: str, measured: float | None, true: float, turn: float | None = None
) -> None:
    """Note a number, what it should be, and the difference; ``turn``: after which it comes round again."""
    told[f"true_{name}"] = true
    if measured is not None:
        error = measured - true
        told[name] = measured
        told[f"{name}_error"] = error if turn is None else (error + turn / 2) % turn - turn / 2


def match_tilts(composed: SeriesFile, truth: Mapping[str, Any]) -> Matched:
    """Find the truth of each tilt in the stack by the name of its file, or by its section."""
    by_name = {Path(tilt["file"]).stem: tilt for tilt in truth["tilts"]}
    found = [
        by_name.get(Path(view.key).name) if view.section is None else truth["tilts"][view.section]
        for view in composed.used
    ]
    kept = [place for place, tilt in enumerate(found) if tilt is not None]
    tilts = [tilt for tilt in found if tilt is not None]
    size = truth["pixel_size_angstrom"]
    geometry = TiltGeometry(
        np.array([tilt["tilt_angle_deg"] for tilt in tilts]),
        np.array([tilt["axis_angle_deg"] for tilt in tilts]),
        np.array([tilt["shift_yx_px"] for tilt in tilts]).reshape(-1, 2) * size,
        truth["x_tilt_deg"],
    )
    optics = [tilt["optics"] for tilt in tilts]
    defocus = np.array([(o["defocus_u_angstrom"] + o["defocus_v_angstrom"]) / 2 for o in optics])
    return Matched(np.array(kept, dtype=np.int64), geometry, defocus)


def shift_errors(alignment: AlignmentFile, matched: Matched) -> tuple[FloatArray, FloatArray]:
    """Give the errors (tilt, 2) as (y, x) in Å that no movement of the specimen explains, and that movement.

    The movement (x, y, z) in Å is where the measured origin lies in the true specimen.
    """
    shifts = np.stack([alignment.shift_y_px, alignment.shift_x_px], axis=1) * alignment.pixel_size_angstrom
    error = shifts[matched.kept] - matched.geometry.shift_yx_px
    # of a point: a movement of the origin turns its sign
    seen_yx = -matched.geometry.rotations()[:, 1::-1, :]
    design = seen_yx.reshape(-1, 3)
    moved = np.linalg.lstsq(design, error.ravel())[0]
    return error - (design @ moved).reshape(-1, 2), np.asarray(moved)


def _compare_ctf(told: dict[str, Any], ctf: CtfFile, matched: Matched, moved: FloatArray, hand: int) -> None:
    mean = (np.array(ctf.defocus_u_angstrom) + np.array(ctf.defocus_v_angstrom)) / 2
    depth = matched.geometry.rotations()[:, 2, :] @ moved
    error = mean[matched.kept] - matched.defocus_angstrom - hand * depth
    known = np.isfinite(error)
    if known.any():
        told["defocus_error_median_angstrom"] = float(np.median(np.abs(error[known])))
    least = int(np.argmin(np.abs(matched.geometry.tilt_angle_deg)))
    told["true_defocus_at_zero_angstrom"] = float(matched.defocus_angstrom[least])
    if np.isfinite(mean[matched.kept[least]]):
        told["defocus_at_zero_angstrom"] = float(mean[matched.kept[least]])
    told["hand"] = "undecided" if not ctf.hand else "right" if ctf.hand == hand else "wrong"


def read_picks(path: Path) -> FloatArray:
    """Read picks (pick, 3) as centred (x, y, z) in Å."""
    table = next(iter(read_star(path).values()))
    if not isinstance(table, pd.DataFrame):
        return np.zeros((0, 3))
    return table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy(np.float64)


def _compare_picks(
    told: dict[str, Any], picks_xyz: FloatArray, truth: Mapping[str, Any], composed: SeriesFile
) -> None:
    size = composed.full_pixel_size_angstrom
    rows, columns = composed.full_shape_yx
    score = score_tomogram_picks(picks_xyz, truth["particles"], (columns * size / 2, rows * size / 2))
    told |= {"picks": len(picks_xyz), "picks_f1": score.f1}


def score_tomogram_picks(
    picks_xyz: FloatArray, particles: Sequence[Mapping[str, Any]], half_field_xy: tuple[float, float]
) -> PickScore:
    """Match picks (pick, 3), centred (x, y, z) in Å, with the true centres, one to one, within half a radius.

    Particles that reach out of the field need not be found, and finding them is no fault.
    """
    inside = _within(picks_xyz, half_field_xy, 0.0)
    if not particles:
        return PickScore(0, 0, int(inside.sum()))
    centres = np.array([particle["xyz_angstrom"] for particle in particles], np.float64)
    radius = np.array([particle["diameter_angstrom"] for particle in particles]) / 2
    required = _within(centres, half_field_xy, radius)
    matched, alone = match_picks(picks_xyz, centres, radius / 2)
    found = int(np.count_nonzero(required[matched]))
    free = _within(picks_xyz, half_field_xy, float(radius.max()))
    return PickScore(found, int(required.sum()) - found, int(np.count_nonzero(free[alone])))


def _within(
    xyz: FloatArray, half_field_xy: tuple[float, float], margin: float | FloatArray
) -> npt.NDArray[np.bool_]:
    """Say which points (n, 3) lie in the field, at least ``margin`` from its edges."""
    reach = np.asarray(half_field_xy) - np.asarray(margin).reshape(-1, 1)
    return np.asarray((np.abs(xyz[:, :2]) <= reach).all(axis=1))


SPREADS = {
    "axis_angle_deg_error": "axis_error_median_deg",
    "tilt_offset_deg_error": "tilt_offset_error_median_deg",
    "thickness_nm_error": "thickness_error_median_nm",
    "shift_rms_angstrom": "shift_rms_median_angstrom",
    "defocus_error_median_angstrom": "defocus_error_median_angstrom",
    "picks_f1": "picks_f1_median",
}


def summed_up(series: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sum up the comparisons of single series: medians of the sizes of their errors, and of the hands."""
    known: dict[str, float] = {"series": float(len(series))}
    for name, title in SPREADS.items():
        values = [abs(one[name]) for one in series if name in one]
        if values:
            known[title] = float(np.median(values))
    decided = [one["hand"] for one in series if one.get("hand") in ("right", "wrong")]
    if decided:
        known["hands_right"] = decided.count("right") / len(decided)
    return known
