"""Gain references and defective pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.imaging.defects import find_defects, plan_repair, repair_defects, unaligned_sum
from tomofly.imaging.gain import ORIENTATIONS, multiplicative_gain, orient_gain, score_gain_orientations


def test_rotation_is_clockwise_with_row_zero_on_top_then_flip():
    gain = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    np.testing.assert_array_equal(orient_gain(gain, 1), [[4, 1], [5, 2], [6, 3]])
    np.testing.assert_array_equal(orient_gain(gain, 0, 1), [[4, 5, 6], [1, 2, 3]])
    np.testing.assert_array_equal(orient_gain(gain, 0, 2), [[3, 2, 1], [6, 5, 4]])
    np.testing.assert_array_equal(orient_gain(gain, 1, 2), [[1, 4], [2, 5], [3, 6]])


def test_eight_orientations_are_all_there_are():
    gain = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    seen = {orient_gain(gain, r, f).tobytes() for r, f in ORIENTATIONS}
    assert len(seen) == 8
    assert {orient_gain(gain, r, f).tobytes() for r in range(4) for f in range(3)} == seen


@given(rotation=st.sampled_from(range(4)), flip=st.sampled_from([0, 2]))
def test_data_tell_the_orientation(rotation, flip):
    rng = np.random.default_rng(7)
    gain = np.exp(rng.normal(0, 0.05, (83, 97))).astype(np.float32)
    upright = orient_gain(gain, rotation, flip)
    mean_frame = rng.poisson(40 / upright) / 40.0
    best, second = score_gain_orientations(mean_frame, gain)[:2]
    assert (best.rotation, best.flip) == (rotation, flip)
    assert best.z_score > 20
    assert abs(second.z_score) < 5
    assert best.flatness < second.flatness


def test_unrelated_gain_fits_in_no_orientation():
    rng = np.random.default_rng(8)
    scores = score_gain_orientations(rng.poisson(40, (90, 90)) / 40.0, np.exp(rng.normal(0, 0.05, (90, 90))))
    assert len(scores) == 8
    assert max(abs(score.z_score) for score in scores) < 5


def test_gain_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="no orientation"):
        score_gain_orientations(np.ones((10, 12)), np.ones((10, 13)))


def test_divisor_gain_becomes_a_factor_and_dead_pixels_stay_marked():
    divisor = np.array([[2.0, 0.0], [1.0, np.nan]])
    factor = multiplicative_gain(divisor, is_divisor=True)
    assert factor[0, 1] == 0
    assert factor[1, 1] == 0
    assert factor[1, 0] / factor[0, 0] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no positive"):
        multiplicative_gain(np.zeros((3, 3)))


def test_hot_and_dead_pixels_are_found_and_nothing_else():
    rng = np.random.default_rng(0)
    total = rng.poisson(40.0, (150, 190)).astype(np.float32)
    total[:, 95:] *= 0.6
    hot, dead = (20, 30), (77, 140)
    total[hot], total[dead] = 400, 0
    found = find_defects(total)
    assert found[hot]
    assert found[dead]
    assert found.sum() <= 4


@pytest.mark.parametrize("electrons", [0.15, 0.4, 0.65, 1.2, 3.0, 8.0])
@pytest.mark.parametrize("unit", [1.0, 27.5])
def test_pixels_that_few_electrons_missed_are_no_defects(electrons, unit):
    rng = np.random.default_rng(9)
    total = (unit * rng.poisson(electrons, (330, 410))).astype(np.float32)
    total[:, 200:] *= 0.5
    total[40, 50] = 60 * unit
    found = find_defects(total)
    assert found[40, 50]
    assert found.sum() <= 4


def test_pixels_without_gain_are_defects():
    gain = np.ones((30, 40))
    gain[3, 4] = 0
    gain[5, 6] = np.nan
    found = find_defects(np.full((30, 40), 10.0), gain=gain)
    assert set(zip(*np.nonzero(found), strict=True)) == {(3, 4), (5, 6)}


def test_repair_takes_values_from_good_neighbours():
    rng = np.random.default_rng(1)
    frame = rng.uniform(10, 20, (40, 50)).astype(np.float32)
    defects = np.zeros((40, 50), bool)
    defects[12, :] = defects[:20, 33] = defects[0, 0] = True
    broken = np.where(defects, np.float32(1e6), frame)
    repaired = broken.copy()
    repair_defects(repaired, plan_repair(defects))
    np.testing.assert_array_equal(repaired[~defects], frame[~defects])
    for y, x in np.argwhere(defects):
        around = frame[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        assert repaired[y, x] in around


def test_repair_differs_between_frames_so_that_its_noise_averages():
    frame = np.random.default_rng(2).uniform(0, 1, (20, 20)).astype(np.float32)
    defects = np.zeros((20, 20), bool)
    defects[10, 10] = True
    plan = plan_repair(defects)
    values = set()
    for index in range(16):
        copy = frame.copy()
        repair_defects(copy, plan, index)
        values.add(float(copy[10, 10]))
    assert len(values) > 6


def test_detector_without_a_good_pixel_is_refused():
    with pytest.raises(ValueError, match="every pixel"):
        plan_repair(np.ones((5, 6), bool))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_unaligned_sum_is_the_sum_times_the_gain(dtype):
    rng = np.random.default_rng(3)
    frames = rng.poisson(2.0, (5, 21, 34)).astype(dtype)
    gain = rng.uniform(0.5, 1.5, (21, 34)).astype(np.float32)
    np.testing.assert_array_equal(unaligned_sum(frames), frames.sum(axis=0))
    np.testing.assert_allclose(unaligned_sum(frames, gain), frames.sum(axis=0) * gain, rtol=1e-6)


def test_defect_column_and_cluster_are_found_whole():
    total = np.random.default_rng(4).poisson(40.0, (140, 160)).astype(np.float32)
    expected = np.zeros(total.shape, bool)
    expected[:, 50] = expected[60:62, 90:92] = True
    total[expected] = 300
    np.testing.assert_array_equal(find_defects(total, n_sigma=7), expected)
