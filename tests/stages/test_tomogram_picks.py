"""Picks in the tomogram of a simulated series: right ones, none in gold or outside of the specimen."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from tests.stages.tilt_series_bench import SeriesBench, simulated
from tomofly.formats.star import read_star
from tomofly.model import Outcome, Settings, TomoflyError
from tomofly.simulate.tilt_series import SimulatedSeries
from tomofly.stages.tilts import tomogram, tomogram_picks
from tomofly.stages.tilts.tomogram_file import read_tomogram_record

DIAMETER = 250.0


@pytest.fixture(scope="module")
def series() -> SimulatedSeries:
    """A slab of particles as large as ribosomes, with gold on its surfaces."""
    return simulated(detector_yx_px=(300, 272), gold_beads=6, tilt_step_deg=4.0, seed=4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, series: SimulatedSeries) -> SeriesBench:
    """A bench whose tomogram is made."""
    made = SeriesBench(tmp_path_factory.mktemp("picks"), series, thickness_angstrom=series.thickness_angstrom)
    made.run(tomogram.STAGE)
    return made


def _picked(outcome: Outcome) -> np.ndarray:
    """Give the picks (pick, 3) as centred (x, y, z) in Å."""
    table = read_star(outcome.products["coordinates"])["particles"]
    assert isinstance(table, pd.DataFrame)
    return table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy(float)


def f1_of(picked: np.ndarray, truth: np.ndarray, half_field_xy: np.ndarray) -> float:
    """Match picks with true centres one to one, within half a radius; those at the sides do not count."""
    distance = cdist(picked, truth)
    rows, columns = linear_sum_assignment(np.minimum(distance, 1e4))
    near = distance[rows, columns] <= DIAMETER / 4
    rows, columns = rows[near], columns[near]
    required = (np.abs(truth[:, :2]) <= half_field_xy - DIAMETER / 2).all(axis=1)
    found = np.count_nonzero(required[columns])
    wrong = len(picked) - len(rows)
    return float(2 * found / (2 * found + np.count_nonzero(required) - found + wrong))


def _half_field(bench: SeriesBench) -> np.ndarray:
    record = read_tomogram_record(bench.results["tomogram"].products["record"])
    return np.array(record.size_zyx)[:0:-1] * record.voxel_size_angstrom / 2


def test_particles_are_found_where_they_are_and_gold_is_not(
    bench: SeriesBench, series: SimulatedSeries
) -> None:
    outcome = bench.run(tomogram_picks.STAGE)
    picked = _picked(outcome)
    assert f1_of(picked, series.particle_xyz_angstrom, _half_field(bench)) >= 0.9
    assert outcome.metrics["particles"] == len(picked) and outcome.flags == ()
    inside = (np.abs(series.gold_xyz_angstrom[:, :2]) < _half_field(bench)).all(axis=1)
    assert outcome.metrics["gold_beads"] == inside.sum() >= 2
    assert np.abs(picked[:, 2]).max() <= series.thickness_angstrom / 2


def test_gold_is_left_out_even_where_the_whole_volume_is_searched(
    bench: SeriesBench, series: SimulatedSeries
) -> None:
    careful = bench.run(tomogram_picks.STAGE, "careful", slab=False)
    careless = bench.run(tomogram_picks.STAGE, "careless", slab=False, gold_diameter_angstrom=0)
    assert cdist(_picked(careful), series.gold_xyz_angstrom).min() > (DIAMETER + 100) / 2 - 10
    assert cdist(_picked(careless), series.gold_xyz_angstrom).min() < 60


def test_the_table_of_candidates_lets_the_threshold_move(bench: SeriesBench) -> None:
    outcome = bench.run(tomogram_picks.STAGE, "own", keep_threshold=4)
    table = pd.read_csv(outcome.products["candidates"])
    assert list(table) == ["x_voxel", "y_voxel", "z_voxel", "score"]
    assert len(table) == outcome.metrics["candidates"] > outcome.metrics["particles"]
    assert table["score"].min() >= 4 and table["score"].is_monotonic_decreasing
    threshold = outcome.metrics["score_threshold"]
    assert (table["score"] >= threshold).sum() == outcome.metrics["particles"]
    moved = bench.run(tomogram_picks.STAGE, "moved", threshold=threshold + 4)
    assert moved.metrics["score_threshold"] == pytest.approx(threshold + 4)
    assert moved.metrics["particles"] == (table["score"] >= threshold + 4).sum()


def test_coordinates_and_table_speak_of_the_same_places(bench: SeriesBench) -> None:
    outcome = bench.run(tomogram_picks.STAGE, "same")
    size = np.array(read_tomogram_record(bench.results["tomogram"].products["record"]).size_zyx)
    table = pd.read_csv(outcome.products["candidates"]).head(5)
    centred = (table[["x_voxel", "y_voxel", "z_voxel"]].to_numpy() - size[::-1] / 2) * 10.0
    np.testing.assert_allclose(_picked(outcome)[:5], centred, atol=0.01)


def test_picks_keep_their_distance(bench: SeriesBench) -> None:
    picked = _picked(bench.run(tomogram_picks.STAGE, "far", minimum_distance_angstrom=600))
    apart = cdist(picked, picked)[~np.eye(len(picked), dtype=bool)]
    assert apart.min() >= 580


def test_what_could_not_be_done_is_flagged(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series)
    bench.run(tomogram.STAGE, binning=4, thickness_angstrom=2400)
    outcome = bench.run(tomogram_picks.STAGE)
    assert [flag.code for flag in outcome.flags] == ["no_slab", "gold_not_looked_for"]
    outcome = bench.run(tomogram_picks.STAGE, threshold=500, gold_diameter_angstrom=0, slab=False)
    assert [flag.code for flag in outcome.flags] == ["no_particles"]
    assert not len(_picked(outcome)) and outcome.products["preview"].is_file()


def test_nothing_is_picked_in_a_preview(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, provisional=True, has_ctf=False)
    bench.run(tomogram.STAGE, thickness_angstrom=2000)
    outcome = bench.run(tomogram_picks.STAGE)
    assert [flag.code for flag in outcome.flags] == ["provisional"] and not outcome.products


def test_a_threshold_below_what_is_kept_is_refused() -> None:
    settings = Settings.validate("tomo", {"tomogram_picks": tomogram_picks.TomogramPicksParams}, {})
    with pytest.raises(TomoflyError, match=r"tomogram_picks cannot be .*keep_threshold=3"):
        settings.changed(["tomogram_picks.threshold=2.5"])
