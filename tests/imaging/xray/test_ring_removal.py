"""Rings go, and what is no ring stays."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from tests.imaging.xray.discs import SCENE, project
from tomofly.imaging.xray.ring_removal import _daubechies, _median_along_rows, sorted_away, wavelets_damped

FloatArray = npt.NDArray[np.float32]
ANGLES = np.arange(180) * np.pi / 180
WIDTH = 131

METHODS: dict[str, Callable[[FloatArray], None]] = {
    "sorting": lambda sinograms: sorted_away(sinograms, 9),
    "wavelets": lambda sinograms: wavelets_damped(sinograms, 4, 2.0),
}


def _clean() -> FloatArray:
    rows = [project(SCENE, ANGLES, WIDTH, 65.3), project(SCENE[:2], ANGLES, WIDTH, 61.0)]
    # Soft edges, as a specimen has at the pixel size of a detector that resolves it.
    soft: FloatArray = ndimage.gaussian_filter(np.stack(rows, axis=1), (3, 0, 4))
    return np.ascontiguousarray(soft)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


@pytest.mark.parametrize("method", METHODS)
def test_stripes_are_taken_out_and_the_rest_is_left(method: str) -> None:
    clean = _clean()
    stripes = np.zeros((2, WIDTH), np.float32)
    stripes[:, [20, 47, 48, 66, 90]] = [0.08, -0.05, 0.04, 0.06, -0.08]
    striped = clean + stripes
    METHODS[method](striped)
    assert _rms(striped - clean) < 0.65 * _rms(np.broadcast_to(stripes, clean.shape))
    untouched = clean.copy()
    METHODS[method](untouched)
    assert _rms(untouched - clean) < 0.03 * _rms(clean)


def test_a_stripe_that_is_there_for_a_part_of_the_angles_only_is_weakened_too() -> None:
    clean = _clean()
    striped = clean.copy()
    striped[40:140, :, 52] += 0.08
    difference = _rms(striped - clean)
    sorted_away(striped, 9)
    assert _rms(striped - clean) < 0.9 * difference


def test_slices_do_not_mix_and_threads_change_nothing() -> None:
    both = _clean() + np.random.default_rng(1).normal(0, 0.01, (180, 2, WIDTH)).astype(np.float32)
    for method in (sorted_away, wavelets_damped):
        arguments = (9,) if method is sorted_away else (3, 1.5)
        alone, together = both[:, 1:].copy(), both.copy()
        method(alone, *arguments)
        method(together, *arguments, threads=2)
        assert np.array_equal(alone[:, 0], together[:, 1])


def test_the_median_is_that_of_scipy() -> None:
    rows = np.random.default_rng(2).integers(0, 30, (7, 53)).astype(np.float32)
    for window in (3, 9, 21):
        expected = ndimage.median_filter(rows, (1, window), mode="nearest")
        assert np.array_equal(_median_along_rows(rows, window), expected)


@pytest.mark.parametrize("moments", [1, 2, 5, 8])
def test_wavelet_filters_are_orthogonal_to_their_own_shifts(moments: int) -> None:
    taps = _daubechies(moments)
    products = np.correlate(taps, taps, "full")[len(taps) - 1 :: 2]
    assert products[0] == pytest.approx(1) and np.allclose(products[1:], 0, atol=1e-9)


def test_the_known_filter_of_two_moments() -> None:
    root = np.sqrt(3)
    known = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    assert np.allclose(_daubechies(2), known)


def test_without_a_notch_nothing_changes() -> None:
    sinograms = _clean()
    kept = sinograms.copy()
    wavelets_damped(sinograms, 3, 1e-6)
    # Only what is exactly constant along the angles is lost with so narrow a notch.
    lost = (kept - sinograms).std(axis=0)
    assert lost.max() < 0.02


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        sorted_away(_clean(), 8)
