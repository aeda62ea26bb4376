"""The axis found from opposite projections; live rings; sharpness and noise."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tests.imaging.xray.ellipses import draw, project
from tomofly.imaging.xray.filters import filter_rows
from tomofly.imaging.xray.live_rings import RunningStripes
from tomofly.imaging.xray.normalisation import absorption, make_reference
from tomofly.imaging.xray.rotation_centre import CentreEstimate, agreed_centre, centre_from_pair
from tomofly.imaging.xray.slice_quality import slice_quality


@settings(max_examples=20, deadline=None)
@given(st.floats(43, 70), st.floats(0, 360), st.booleans(), st.integers(0, 99))
def test_the_centre_is_found_to_a_tenth_of_a_pixel(
    centre: float, angle: float, ramp: bool, seed: int
) -> None:
    pair = project([angle, angle + 180], 12, 113, centre)
    pair += 0.01 * np.random.default_rng(seed).normal(size=pair.shape)
    one, other = filter_rows(pair.astype(np.float32)) if ramp else pair.astype(np.float32)
    found = centre_from_pair(one, other)
    assert found.centre == pytest.approx(centre, abs=0.1)
    assert found.certain


def test_what_does_not_match_is_not_certain() -> None:
    random = np.random.default_rng(3)
    one, other = random.normal(size=(2, 40, 200)).astype(np.float32)
    assert not centre_from_pair(one, other).certain
    with pytest.raises(ValueError, match="differ in shape"):
        centre_from_pair(one, other[:, 1:])


def test_estimates_agree_on_their_median() -> None:
    estimates = [CentreEstimate(50 + off, 0.1, 0.9) for off in (-0.1, 0, 0.1, 30)]
    agreed = agreed_centre(estimates)
    assert agreed.centre == pytest.approx(50.05)
    assert agreed.sigma_px < 0.2


@pytest.mark.real_data
def test_the_centre_of_real_scans(real_data: Path) -> None:
    with h5py.File(real_data / "xct_aps_tooth" / "tooth.h5") as file:
        group = file["exchange"]
        reference = make_reference(group["data_dark"][:].mean(axis=0), group["data_white"][:].mean(axis=0))
        pair = [absorption(group["data"][index], reference) for index in (0, -1)]
    assert centre_from_pair(*pair).centre == pytest.approx(296, abs=0.5)
    folder = real_data / "xct_dls_24737"
    fields = [tifffile.imread(folder / f"{name}_00001.tiff") for name in ("dark", "flat")]
    frames = sorted((folder / "tiffs").glob("raw_*.tiff"))
    pair = [absorption(tifffile.imread(frames[index]), make_reference(*fields)) for index in (0, -1)]
    found = centre_from_pair(*pair)
    assert found.centre == pytest.approx(85.5, abs=0.5)
    assert found.certain


def test_stripes_that_all_projections_share_are_taken_off() -> None:
    angles = np.arange(120) * 1.5
    clean = project(angles, 6, 101, 47.3).astype(np.float32)
    stripes = np.zeros(101, np.float32)
    stripes[[20, 45, 46, 70]] = [0.05, -0.04, 0.06, 0.08]
    rings = RunningStripes()
    for image in clean:
        rings.add(image + stripes)
    left = rings.corrected(clean[0] + stripes) - clean[0]
    assert np.abs(left[:, [20, 45, 46, 70]]).mean() < 0.25 * np.abs(stripes[[20, 45, 46, 70]]).mean()
    assert np.abs(left).mean() < 0.004
    small = np.ones((3, 9), np.float32)
    assert np.array_equal(rings.corrected(small), small)


def test_noise_and_sharpness_tell_what_they_are_named_for() -> None:
    random = np.random.default_rng(0)
    truth = draw(5, 141).astype(np.float32)
    noisy = truth + 0.002 * random.normal(size=truth.shape).astype(np.float32)
    assert slice_quality(noisy).noise == pytest.approx(0.002, rel=0.05)
    assert slice_quality(noisy).signal_to_noise > 2
    blurred = gaussian_filter(truth, 2)
    assert slice_quality(blurred).sharpness < 0.6 * slice_quality(truth).sharpness
    more = slice_quality(noisy).sharpness
    assert more == pytest.approx(slice_quality(truth).sharpness, rel=0.3)


def test_empty_and_broken_slices_have_no_quality() -> None:
    for image in (np.zeros((40, 50)), np.ones((3, 4)), np.full((20, 20), np.nan)):
        quality = slice_quality(image.astype(np.float32))
        assert quality.noise == quality.sharpness == 0
