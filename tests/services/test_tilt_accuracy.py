"""Tilt series against the truth: a movement of the whole specimen is no error, everything else is."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.formats.star import write_star
from tomofly.services.tilt_accuracy import (
    PICKS,
    match_tilts,
    measure_series,
    score_tomogram_picks,
    series_truth_of,
    shift_errors,
    summed_up,
)
from tomofly.stages.tilts.files import AlignmentFile, CtfFile, SeriesFile, View
from tomofly.store.browse import BrowsedItem

PIXEL, BINNED = 2.5, 10.0
TILTS = np.array([0.0, 7.0, -7.0, 14.0, -14.0])
SHIFTS_YX_PX = np.array([[3.0, -1.0], [0.5, 4.0], [-2.0, 2.5], [1.0, 1.0], [6.0, -3.0]])


def particle(x: float, y: float, z: float) -> dict[str, Any]:
    return {"xyz_angstrom": (x, y, z), "diameter_angstrom": 200.0}


def truth(**more: Any) -> dict[str, Any]:
    optics = {"defocus_u_angstrom": 40300.0, "defocus_v_angstrom": 39700.0}
    tilts = [
        {
            "file": f"TS_1_{n:03d}.mrc", "tilt_angle_deg": angle + 4.0, "axis_angle_deg": 85.0,
            "shift_yx_px": SHIFTS_YX_PX[n].tolist(), "optics": optics,
        }
        for n, angle in enumerate(TILTS)
    ]  # fmt: skip
    return {
        "tilts": tilts, "pixel_size_angstrom": PIXEL, "x_tilt_deg": 2.0, "pre_tilt_deg": 4.0, "hand": -1,
        "thickness_angstrom": 1500.0, **more,
        "particles": [particle(100, -900, 50), particle(-700, 300, -200)],
    }  # fmt: skip


def composed() -> SeriesFile:
    """The stack in the order of angles; one exposure is left out."""
    order = np.argsort(TILTS)
    views = [View(key=f"in/TS_1_{n:03d}", section=None, tilt_angle_deg=TILTS[n], order=int(n)) for n in order]
    views.append(
        View(key="in/TS_1_009", section=None, tilt_angle_deg=21.0, order=9, excluded="dark", reason="dark")
    )
    return SeriesFile(
        name="TS_1", views=tuple(views), axis_angle_deg=85.0, axis_source="mdoc", pixel_size_angstrom=BINNED,
        full_pixel_size_angstrom=PIXEL, shape_yx=(250, 200), full_shape_yx=(1000, 800),
    )  # fmt: skip


def alignment(moved_xyz: np.ndarray, error_yx_angstrom: np.ndarray | float = 0.0) -> AlignmentFile:
    """The true shifts as seen from another origin of the specimen, in binned pixels, and errors."""
    record, facts = composed(), truth()
    geometry = match_tilts(record, facts).geometry
    seen_uv = np.einsum("tij,j->ti", geometry.rotations(), moved_xyz)[:, :2]
    shifts = (geometry.shift_yx_px - seen_uv[:, ::-1] + error_yx_angstrom) / BINNED
    count = len(shifts)
    return AlignmentFile(
        method="patches", tilt_angle_deg=tuple(record.tilt_angle_deg), axis_angle_deg=(84.5,) * count,
        shift_y_px=tuple(shifts[:, 0]), shift_x_px=tuple(shifts[:, 1]), shift_error_px=(0.1,) * count,
        residual_angstrom=(1.0,) * count, aligned=(True,) * count, x_tilt_deg=2.0, tilt_offset_deg=4.0,
        pixel_size_angstrom=BINNED,
    )  # fmt: skip


coordinate = st.floats(-500, 500)


@given(st.tuples(coordinate, coordinate, coordinate))
def test_a_movement_of_the_specimen_is_found_and_no_error(moved: tuple[float, float, float]) -> None:
    error, found = shift_errors(alignment(np.array(moved)), match_tilts(composed(), truth()))
    assert np.abs(error).max() < 1e-6
    assert found == pytest.approx(np.array(moved), abs=1e-5)


def test_an_error_of_one_tilt_remains_one() -> None:
    errors = np.zeros((5, 2))
    errors[4] = (9.0, -4.0)
    left, _ = shift_errors(alignment(np.zeros(3), errors), match_tilts(composed(), truth()))
    assert np.abs(left[4]).max() > 1.0


def item(folder: Path, moved: np.ndarray) -> BrowsedItem:
    """A series whose results are right, seen from another origin."""
    composed().write(folder / "series.json")
    record = alignment(moved)
    record.write(folder / "alignment.json")
    depth = match_tilts(composed(), truth()).geometry.rotations()[:, 2] @ moved
    defocus = tuple(40000.0 - depth + 25.0)
    ctf = CtfFile(
        defocus_u_angstrom=defocus, defocus_v_angstrom=defocus, astigmatism_angle_deg=(0.0,) * 5,
        defocus_error_angstrom=(1.0,) * 5, fit_resolution_angstrom=(20.0,) * 5, hand=1, hand_verdict="",
    )  # fmt: skip
    ctf.write(folder / "ctf.json")
    picks = np.array([p["xyz_angstrom"] for p in truth()["particles"]]) - moved
    columns = {f"rlnCenteredCoordinate{axis}Angst": picks[:, n] for n, axis in enumerate("XYZ")}
    write_star(folder / "picks.star", {"particles": pd.DataFrame(columns)})
    products = {
        ("compose", "series"): "series.json", ("series_alignment", "alignment"): "alignment.json",
        ("series_ctf", "ctf"): "ctf.json", PICKS: "picks.star",
    }  # fmt: skip
    metrics = {("series_alignment", "tilt_offset_deg"): 4.5, ("series_alignment", "thickness_nm"): 141.0}
    return BrowsedItem(
        1, "in/TS_1", "tilt series", "", {}, None, 0.0, True, "", "", metrics=metrics, products=products
    )


def test_a_series_is_compared_whatever_origin_it_has(tmp_path: Path) -> None:
    told = measure_series(tmp_path, item(tmp_path, np.array([40.0, -30.0, 120.0])), truth())
    assert told["axis_angle_deg_error"] == pytest.approx(-0.5)
    assert told["tilt_offset_deg_error"] == pytest.approx(0.5)
    assert (told["true_thickness_nm"], told["thickness_nm_error"]) == (150.0, pytest.approx(-9.0))
    assert told["shift_rms_angstrom"] == pytest.approx(0.0, abs=1e-6)
    assert told["defocus_error_median_angstrom"] == pytest.approx(25.0, abs=1e-6)
    assert (told["hand"], told["picks"], told["picks_f1"]) == ("wrong", 2, 1.0)
    assert summed_up([told, {**told, "hand": "right"}])["hands_right"] == 0.5


def test_what_is_not_there_is_not_compared(tmp_path: Path) -> None:
    bare = BrowsedItem(1, "TS_1", "tilt series", "", {}, None, 0.0, True, "", "")
    told = measure_series(tmp_path, bare, truth())
    assert told == {"series": "TS_1", "true_tilt_offset_deg": 4.0, "true_thickness_nm": 150.0}
    assert summed_up([told]) == {"series": 1.0}
    assert series_truth_of(bare, [str(tmp_path / "a.mrc")]) is None
    (tmp_path / "TS_1.truth.json").write_text("{}")
    assert series_truth_of(bare, [str(tmp_path / "a.mrc")]) == {}


def test_picks_are_matched_one_to_one_and_the_edge_is_forgiven() -> None:
    particles = [particle(0, 0, 0), particle(390, 0, 0), particle(0, 400, 100)]
    field = (400.0, 600.0)
    picks = np.array([[10.0, 0, 0], [-10.0, 0, 0], [0, 400, 60], [399.0, 0, 0]])
    score = score_tomogram_picks(picks, particles, field)
    assert (score.found, score.missed, score.invented) == (2, 0, 1)
    swapped = score_tomogram_picks(picks[:, [1, 0, 2]], particles, field)
    assert swapped.found == 1
