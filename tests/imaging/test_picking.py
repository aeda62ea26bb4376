"""What is picked is what is there, whatever the particle, the ice and the density."""

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.picking_scenes import Scene, expose
from tomofly.imaging.matching import match_picks
from tomofly.imaging.picking import Picks, find_particles, select_picks

PIXEL = 2.5
DIAMETER = 125.0


def found_in(scene: Scene, **how):
    image, truth, bad = expose(scene)
    settings_ = {"pixel_size_angstrom": scene.pixel_angstrom, "diameter_angstrom": scene.diameter_angstrom}
    return select_picks(find_particles(image, **(settings_ | how))), truth, bad


def f1_of(scene: Scene, **how) -> float:
    picks, truth, _ = found_in(scene, **how)
    return match_picks(picks.position_yx_px, truth, scene.diameter_angstrom / scene.pixel_angstrom / 4).f1


@pytest.mark.parametrize("kind", ["shell", "ball", "lobes"])
@pytest.mark.parametrize("count", [12, 60, 120])
def test_particles_are_found_whatever_their_shape_and_density(kind, count):
    assert f1_of(Scene(kind=kind, count=count, seed=count)) >= 0.95


@pytest.mark.parametrize("defocus_angstrom", [9000.0, 18000.0, 32000.0])
def test_particles_are_found_at_any_usual_defocus(defocus_angstrom):
    assert f1_of(Scene(kind="ball", count=80, seed=2, defocus_angstrom=defocus_angstrom)) >= 0.95


def test_positions_are_the_centres_in_unbinned_pixels():
    picks, truth, _ = found_in(Scene(kind="shell", count=60, seed=4))
    matching = match_picks(picks.position_yx_px, truth, 12)
    offset = picks.position_yx_px[matching.pairs[:, 0]] - truth[matching.pairs[:, 1]]
    assert np.abs(offset.mean(axis=0)).max() < 0.3
    assert np.sqrt((matching.distance_px**2).mean()) < 1.5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_empty_micrograph_yields_next_to_nothing(seed):
    assert len(found_in(Scene(count=0, seed=seed))[0]) <= 3


def test_scores_of_a_sparse_and_a_crowded_micrograph_compare():
    typical = [np.median(found_in(Scene(kind="ball", count=n, seed=1))[0].score) for n in (12, 60, 120)]
    assert max(typical) < 2.5 * min(typical)


def test_bright_particles_are_found_when_asked_for():
    image, truth, _ = expose(Scene(kind="ball", count=40, seed=6))
    how = {"pixel_size_angstrom": PIXEL, "diameter_angstrom": DIAMETER}
    bright = find_particles(2 * image.mean() - image, inverted=True, **how)
    assert match_picks(select_picks(bright).position_yx_px, truth, 12).f1 >= 0.95


def test_grey_level_and_scale_of_the_image_do_not_matter():
    image, _, _ = expose(Scene(kind="shell", count=40, seed=6))
    how = {"pixel_size_angstrom": PIXEL, "diameter_angstrom": DIAMETER}
    one, other = find_particles(image, **how), find_particles(0.01 * image - 40, **how)
    assert match_picks(select_picks(one).position_yx_px, select_picks(other).position_yx_px, 1).f1 > 0.97


def test_a_range_of_diameters_finds_both_sizes_and_tells_them_apart():
    scene = Scene(kind="ball", count=40, seed=8, diameters=(90.0, 170.0), diameter_angstrom=170.0)
    picks, truth, _ = found_in(scene, diameter_angstrom=(80.0, 180.0))
    matching = match_picks(picks.position_yx_px, truth, 11)
    assert matching.f1 >= 0.9
    large = matching.pairs[:, 1] % 2 == 1
    measured = picks.diameter_angstrom[matching.pairs[:, 0]]
    assert np.median(measured[large]) > 1.3 * np.median(measured[~large])
    assert measured.min() >= 80.0 - 1e-3
    assert measured.max() <= 180.0 + 1e-3


def test_nothing_is_picked_under_a_given_mask_at_any_binning():
    image, _, _ = expose(Scene(kind="shell", count=80, seed=9))
    mask = np.zeros((41, 19), dtype=bool)
    mask[:, :9] = True
    picks = find_particles(image, pixel_size_angstrom=PIXEL, diameter_angstrom=DIAMETER, exclusion=mask)
    assert len(picks) > 10
    assert picks.position_yx_px[:, 1].min() > image.shape[1] * 9 / 19 - 1
    assert picks.excluded_fraction == pytest.approx(9 / 19, abs=0.01)


def test_a_wholly_excluded_micrograph_is_flagged():
    image, _, _ = expose(Scene(count=5))
    mask = np.ones((13, 17), dtype=bool)
    picks = find_particles(image, pixel_size_angstrom=PIXEL, diameter_angstrom=DIAMETER, exclusion=mask)
    assert len(picks) == 0
    assert picks.flags == ("everything_excluded",)


@pytest.mark.parametrize(
    ("image", "how", "says"),
    [
        (np.full((300, 310), np.nan, np.float32), {}, "not finite"),
        (np.full((300, 310), 7, np.float32), {}, "constant"),
        (np.random.default_rng(0).random((40, 310), np.float32), {}, "too small"),
        (np.random.default_rng(0).random((300, 310), np.float32), {"diameter_angstrom": 900.0}, "too small"),
        (
            np.random.default_rng(0).random((300, 310), np.float32),
            {"diameter_angstrom": (90.0, 50.0)},
            "range",
        ),
        (np.random.default_rng(0).random((300, 310), np.float32), {"diameter_angstrom": 5.0}, "at least 4"),
        (np.random.default_rng(0).random((300, 310), np.float32), {"pixel_size_angstrom": 0.0}, "pixel size"),
        (np.random.default_rng(0).random((300, 310), np.float32), {"keep_threshold": 9.0}, "keep_threshold"),
        (np.random.default_rng(0).random((3, 300, 310), np.float32), {}, "two axes"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_clear_words(image, how, says):
    with pytest.raises(ValueError, match=says):
        find_particles(image, **({"pixel_size_angstrom": 2.0, "diameter_angstrom": 90.0} | how))


def test_a_micrograph_with_half_its_rows_dead_is_still_searched():
    image, truth, _ = expose(Scene(kind="shell", count=80, seed=9))
    image = image.copy()
    image[:400] = 0
    picks = select_picks(find_particles(image, pixel_size_angstrom=PIXEL, diameter_angstrom=DIAMETER))
    alive = truth[truth[:, 0] > 440]
    assert match_picks(picks.position_yx_px, alive, 12).recall > 0.9
    assert picks.position_yx_px[:, 0].min() > 395


points = st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(3, 20)), max_size=40)


def candidates(rows: list[tuple[float, float, float]]) -> Picks:
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    diameter = np.full(len(table), DIAMETER, np.float32)
    return Picks(table[:, :2], table[:, 2].astype(np.float32), diameter, 0.0, 4.0, 3.0, 0.0)


@given(points, st.floats(3, 20), st.floats(3, 20), st.floats(0, 200))
@settings(max_examples=150, deadline=None)
def test_a_lower_threshold_keeps_every_pick_of_a_higher_one(rows, one, other, distance):
    picks = candidates(rows)
    few = select_picks(picks, max(one, other), distance)
    many = select_picks(picks, min(one, other), distance)
    assert {tuple(p) for p in few.position_yx_px} <= {tuple(p) for p in many.position_yx_px}


@given(points, st.floats(1, 200))
@settings(max_examples=100, deadline=None)
def test_no_two_selected_picks_are_nearer_than_the_minimum_distance(rows, distance):
    position = select_picks(candidates(rows), 3.0, distance).position_yx_px
    apart = np.linalg.norm(position[:, None] - position[None], axis=2) + 1e9 * np.eye(len(position))
    assert not len(position) or apart.min() >= distance * (1 - 1e-6)


def test_a_threshold_below_that_of_the_candidates_is_refused():
    with pytest.raises(ValueError, match="run again"):
        select_picks(candidates([(1.0, 2.0, 5.0)]), 2.0)


@given(points, points)
@settings(max_examples=100, deadline=None)
def test_matching_is_one_to_one_and_within_the_radius(one, other):
    found, truth = np.array(one).reshape(-1, 3)[:, :2], np.array(other).reshape(-1, 3)[:, :2]
    matching = match_picks(found, truth, 50.0)
    assert len(set(matching.pairs[:, 0])) == len(set(matching.pairs[:, 1])) == len(matching.pairs)
    assert (matching.distance_px <= 50.0).all()
    assert 0.0 <= matching.f1 <= 1.0


def test_matching_finds_the_most_pairs_where_greed_would_not():
    # the nearest pair, 1 with 0, would leave the other two alone
    matching = match_picks([[0, 0], [0, 10]], [[0, 9], [0, 18]], 9.5)
    assert len(matching.pairs) == 2


@pytest.mark.real_data
def test_hand_picked_apoferritin_is_found(real_data: Path):
    scores = []
    for path in sorted((real_data / "spa_apoferritin").glob("*.mrc")):
        image = mrcfile.read(path).astype(np.float32)
        hand = pd.read_csv(path.with_name(f"{path.stem}_picks.csv"))[["y_px", "x_px"]].to_numpy()
        picks = select_picks(find_particles(image, pixel_size_angstrom=1.5, diameter_angstrom=125.0))
        scores.append(match_picks(picks.position_yx_px, hand, 125 / 1.5 / 4).f1)
    assert len(scores) == 3
    assert np.mean(scores) >= 0.9


@pytest.mark.real_data
def test_real_contamination_is_left_alone_and_the_rest_is_picked(real_data: Path):
    folder = real_data / "spa_carbon"
    image = mrcfile.read(folder / "Ucsf_stack_1142_DW.mrc").astype(np.float32)
    bad = mrcfile.read(folder / "Ucsf_stack_1142_DW_mask.mrc") > 0.5
    # lengths are in pixels here: the file says 1 Å, and the file's RELION picks are 20 px apart at the least
    picks = select_picks(find_particles(image, pixel_size_angstrom=1.0, diameter_angstrom=20.0))
    y, x = np.round(picks.position_yx_px).astype(int).T
    assert bad[y, x].mean() <= 0.05
    assert (~bad[y, x]).sum() >= 25
