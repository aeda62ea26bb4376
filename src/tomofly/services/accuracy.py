"""How near the results are to the truth that a simulator wrote beside its movies.

Only this module opens those files, and only after the work is done: the processing never reads them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from tomofly.formats.star import read_star
from tomofly.store.browse import BrowsedItem

FloatArray = npt.NDArray[np.float64]

TRUTH_SUFFIX = ".truth.json"
LOOK_FOR_TRUTH = 10
"""Items after which a session without any truth is taken for a real one."""


def truth_of(item: BrowsedItem) -> Path | None:
    """Give the file beside an item's source that tells the truth about it, if there is one."""
    if not item.source:
        return None
    source = Path(item.source)
    path = source.with_name(f"{source.stem}{TRUTH_SUFFIX}")
    return path if path.is_file() else None


@dataclass(frozen=True)
class PickScore:
    """Picks against true positions: how many were found, missed, and invented."""

    found: int
    missed: int
    invented: int

    @property
    def precision(self) -> float:
        """Share of the picks that are particles."""
        return self.found / max(1, self.found + self.invented)

    @property
    def recall(self) -> float:
        """Share of the particles that were picked."""
        return self.found / max(1, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(1, 2 * self.found + self.missed + self.invented)


@dataclass
class _Errors:
    """Errors of all micrographs together."""

    shift_px: list[float] = field(default_factory=list)
    local_px: list[float] = field(default_factory=list)
    defocus_angstrom: list[float] = field(default_factory=list)
    angle_deg: list[float] = field(default_factory=list)
    found: int = 0
    missed: int = 0
    invented: int = 0
    micrographs: int = 0


def measure_accuracy(folder: Path, items: Iterable[BrowsedItem]) -> dict[str, float] | None:
    """Compare the results of a session in ``folder`` with the truth; None where nothing is simulated.

    Shifts in pixels of the frames, RMS over axes, frames and micrographs after each path's mean has been
    taken away; defocus in Å; a pick is right within half a radius of a true centre.
    """
    errors = _Errors()
    for number, item in enumerate(items):
        path = truth_of(item)
        if path is None and not errors.micrographs and number >= LOOK_FOR_TRUTH:
            return None
        if path is not None:
            _compare(folder, item, json.loads(path.read_text(encoding="utf-8")), errors)
    return _summary(errors) if errors.micrographs else None


def _compare(folder: Path, item: BrowsedItem, truth: Mapping[str, Any], errors: _Errors) -> None:
    errors.micrographs += 1
    shifts = item.products.get(("motion", "shifts"))
    if shifts is not None:
        _compare_motion(read_star(folder / shifts), truth, errors)
    _compare_ctf(item, truth["optics"], errors)
    picks = item.products.get(("picks", "coordinates"))
    if picks is not None:
        table = next(iter(read_star(folder / picks).values()))
        pixel_size = item.metrics["motion", "micrograph_pixel_size_angstrom"]
        if isinstance(table, pd.DataFrame):
            found = table[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy(np.float64)
            score = score_picks(found * pixel_size / truth["pixel_size_angstrom"], truth)
            errors.found += score.found
            errors.missed += score.missed
            errors.invented += score.invented


def _compare_motion(blocks: Mapping[str, Any], truth: Mapping[str, Any], errors: _Errors) -> None:
    table = blocks["global_shift"]
    measured = table[["rlnMicrographShiftY", "rlnMicrographShiftX"]].to_numpy(np.float64)
    true = np.asarray(truth["mean_shift_yx_px"], np.float64)
    if len(measured) != len(true) or len(true) < 2:
        return
    errors.shift_px.append(mean_square(measured - true))
    field_shift = measured[:, None, None] + _local_shift(blocks, truth)
    errors.local_px.append(mean_square(field_shift - np.asarray(truth["local_shift_yx_px"], np.float64)))


def _local_shift(blocks: Mapping[str, Any], truth: Mapping[str, Any]) -> FloatArray:
    """Evaluate RELION's model of local motion where the truth is known: (frame, grid y, grid x, 2)."""
    frames = len(truth["local_shift_yx_px"])
    y, x, t = (np.asarray(truth[n], np.float64) for n in ("grid_y_px", "grid_x_px", "mean_shift_yx_px"))
    if "local_motion_model" not in blocks:
        return np.zeros((frames, len(y), len(x), 2))
    height, width = truth["frame_yx_px"]
    yy, xx = np.meshgrid((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5, indexing="ij")
    space = np.stack([np.ones_like(xx), xx, xx**2, yy, yy**2, xx * yy])
    time = np.stack([np.arange(len(t), dtype=np.float64) ** power for power in (1, 2, 3)])
    x_then_y = blocks["local_motion_model"]["rlnMotionModelCoeff"].to_numpy(np.float64).reshape(2, 6, 3)
    return np.asarray(np.einsum("asp,syx,pt->tyxa", x_then_y[::-1], space, time), np.float64)


def mean_square(error: FloatArray) -> float:
    """Mean square of errors (frame, ..., 2) after the mean over the frames is taken away."""
    return float(np.mean((error - error.mean(axis=0)) ** 2))


def _compare_ctf(item: BrowsedItem, optics: Mapping[str, float], errors: _Errors) -> None:
    u, v = (item.metrics.get(("ctf", f"defocus_{axis}_angstrom")) for axis in "uv")
    if u is None or v is None:
        return
    true_u, true_v = optics["defocus_u_angstrom"], optics["defocus_v_angstrom"]
    errors.defocus_angstrom.append(abs((u + v) / 2 - (true_u + true_v) / 2))
    angle = item.metrics.get(("ctf", "astigmatism_angle_deg"))
    if angle is not None and true_u - true_v >= 200:
        turn = (angle - optics["astigmatism_angle_deg"]) % 180
        errors.angle_deg.append(min(turn, 180 - turn))


def score_picks(picks_yx_px: FloatArray, truth: Mapping[str, Any]) -> PickScore:
    """Match picks (n, 2), in pixels of the frames, with the true centres, one to one.

    Particles cut by the edge, on carbon or on contamination need not be found, and finding them is no fault.
    Nor is a pick near the edge: particles whose centre lies outside show there, but are not in the truth.
    """
    particles = truth["particles"]
    if not particles:
        return PickScore(0, 0, len(picks_yx_px))
    centres = np.array([[p["y_px"], p["x_px"]] for p in particles], np.float64)
    radius = np.array([p["diameter_angstrom"] for p in particles]) / truth["pixel_size_angstrom"] / 2
    required = _is_free(centres, radius, truth)
    matched, alone = match_picks(picks_yx_px, centres, radius / 2)
    found = int(np.count_nonzero(required[matched]))
    invented = int(np.count_nonzero(_edge_distance(picks_yx_px[alone], truth) >= np.max(radius)))
    return PickScore(found, int(required.sum()) - found, invented)


def match_picks(
    picks: FloatArray, centres: FloatArray, reach: FloatArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match picks (n, axis) one to one with centres (m, axis) that are within ``reach`` (m,) of them.

    Gives the indices of the centres that were found, and of the picks that found none.
    """
    distance = cdist(picks, centres)
    near = distance <= reach
    pick, centre = linear_sum_assignment(np.where(near, distance, 1e6))
    matched = near[pick, centre]
    return centre[matched], np.setdiff1d(np.arange(len(picks)), pick[matched])


def _edge_distance(position_yx_px: FloatArray, truth: Mapping[str, Any]) -> FloatArray:
    """Distance to the nearest edge of the field, (n,)."""
    last = np.asarray(truth["frame_yx_px"], np.float64) - 1
    return np.asarray(np.minimum(position_yx_px, last - position_yx_px).min(axis=1), np.float64)


def _is_free(centres: FloatArray, radius: FloatArray, truth: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Say which particles lie whole in the field, and on nothing but ice."""
    y, x = centres.T
    free = _edge_distance(centres, truth) >= radius
    if truth["carbon"] is not None:
        hole = truth["carbon"]
        free &= np.hypot(y - hole["centre_y_px"], x - hole["centre_x_px"]) + radius < hole["radius_px"]
    for disc in truth["discs"]:
        free &= np.hypot(y - disc["y_px"], x - disc["x_px"]) > disc["radius_px"] + radius
    return np.asarray(free, np.bool_)


def _summary(errors: _Errors) -> dict[str, float]:
    known: dict[str, float] = {"micrographs": float(errors.micrographs)}
    for name, squares in (("shift_rms_px", errors.shift_px), ("local_shift_rms_px", errors.local_px)):
        if squares:
            known[name] = float(np.sqrt(np.mean(squares)))
    if errors.defocus_angstrom:
        middle, high = np.percentile(errors.defocus_angstrom, [50, 95])
        known["defocus_error_median_angstrom"] = float(middle)
        known["defocus_error_p95_angstrom"] = float(high)
    if errors.angle_deg:
        known["astigmatism_angle_error_median_deg"] = float(np.median(errors.angle_deg))
    if errors.found + errors.missed + errors.invented:
        score = PickScore(errors.found, errors.missed, errors.invented)
        known |= {
            "picks_precision": score.precision, "picks_recall": score.recall, "picks_f1": score.f1,
        }  # fmt: skip
    return known
