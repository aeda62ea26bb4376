"""Smoothing follows motion and leaves noise out; the local model knows what it can and cannot say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.moving_scenes import rms
from tomofly.imaging.local_motion import TERMS, LocalMotion, fit_local_motion, spatial_basis
from tomofly.imaging.trajectory_prior import fit_trajectories

SHAPE = (900, 1300)


def patch_centres(rows=5, columns=6):
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return np.stack([y.ravel() * SHAPE[0], x.ravel() * SHAPE[1]], axis=1) - 0.5


def settling(n_frames):
    t = np.arange(n_frames)
    return 1 - np.exp(-t / 5.0) + 0.3 * t / n_frames


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n_frames=st.sampled_from([8, 23, 40]))
def test_noise_alone_is_no_motion(seed, n_frames):
    positions = np.random.default_rng(seed).normal(0, 0.5, (n_frames, 2))
    fit = fit_trajectories(positions - positions.mean(axis=0), 0.25)
    assert fit.log_evidence < 8
    assert rms(fit.smoother @ positions) < 0.45


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_smooth_motion_comes_out_closer_than_it_was_measured(noise):
    truth = np.outer(settling(40), [6.0, -4.0])
    truth -= truth.mean(axis=0)
    measured = truth + np.random.default_rng(1).normal(0, noise, truth.shape)
    fit = fit_trajectories(measured - measured.mean(axis=0), noise**2)
    error = rms(fit.smoother @ measured - truth)
    assert error < 0.75 * noise
    assert 0.4 * error < rms(fit.standard_deviation) < 2.5 * error


def test_jerky_motion_is_followed():
    rng = np.random.default_rng(2)
    truth = np.cumsum(rng.normal(0, 1.0, (40, 2)), axis=0)
    truth[20:] += 5.0
    truth -= truth.mean(axis=0)
    measured = truth + rng.normal(0, 0.05, truth.shape)
    fit = fit_trajectories(measured - measured.mean(axis=0), 0.05**2)
    assert rms(fit.smoother @ measured - truth) < 0.06


def test_noise_that_wanders_is_not_taken_for_motion():
    rng = np.random.default_rng(3)
    walks = np.cumsum(rng.normal(0, 0.3, (40, 32)), axis=0)
    walks -= walks.mean(axis=0)
    assert fit_trajectories(walks[:, :2], 0.1).log_evidence > 50
    assert fit_trajectories(walks[:, :2], walks[:, 2:]).log_evidence < 8


def test_polynomial_field_is_restored_between_and_beyond_the_patches():
    rng = np.random.default_rng(4)
    coefficients = rng.normal(0, 3, (2, len(TERMS)))
    centre = patch_centres()
    truth = LocalMotion(np.multiply.outer(settling(30), coefficients), SHAPE)
    tracks = truth.trajectories_at(centre[:, 0], centre[:, 1]).transpose(1, 0, 2)
    tracks = tracks + rng.normal(0, 0.02, tracks.shape) + rng.normal(0, 5, (len(centre), 1, 2))
    fit = fit_local_motion(tracks, np.full(len(centre), 0.02), centre, SHAPE, (5, 6))
    y, x = np.linspace(0, SHAPE[0] - 1, 7)[:, None], np.linspace(0, SHAPE[1] - 1, 5)
    error = fit.motion.trajectories_at(y, x) - truth.trajectories_at(y, x)
    assert rms(error - error.mean(axis=0)) < 0.05
    assert fit.predicted_part > 0.99


def test_patch_that_others_contradict_counts_less():
    rng = np.random.default_rng(5)
    centre = patch_centres()
    truth = LocalMotion(np.multiply.outer(settling(24), rng.normal(0, 2, (2, 6))), SHAPE)
    tracks = truth.trajectories_at(centre[:, 0], centre[:, 1]).transpose(1, 0, 2)
    tracks = tracks + rng.normal(0, 0.05, tracks.shape)
    tracks[13] += 8 * settling(24)[:, None]
    fit = fit_local_motion(tracks, np.full(len(centre), 0.05), centre, SHAPE, (5, 6))
    assert np.argmin(fit.patch_weight) == 13
    assert fit.patch_weight[13] < 0.2
    modelled = fit.motion.trajectories_at(centre[:, 0], centre[:, 1])
    error = modelled - truth.trajectories_at(centre[:, 0], centre[:, 1])
    assert rms(error - error.mean(axis=0)) < 0.15


def test_tracks_of_noise_give_no_evidence_of_local_motion():
    centre = patch_centres(5, 5)
    evidence = []
    for seed in range(5):
        tracks = np.random.default_rng(seed).normal(0, 0.4, (25, 40, 2))
        evidence.append(fit_local_motion(tracks, np.full(25, 0.4), centre, SHAPE, (5, 5)).log_evidence)
    assert max(evidence) < 8


def test_terms_are_those_of_relion_in_its_order():
    y, x = np.array([99.5]), np.array([1000.5])
    v, u = 100 / SHAPE[0] - 0.5, 1001 / SHAPE[1] - 0.5
    np.testing.assert_allclose(spatial_basis(y, x, SHAPE)[0], [1, u, u * u, v, v * v, u * v])


def test_motion_without_its_mean_has_none():
    rng = np.random.default_rng(6)
    motion = LocalMotion(np.multiply.outer(settling(9), rng.normal(0, 2, (2, len(TERMS)))), SHAPE)
    y, x = np.arange(SHAPE[0])[::3][:, None], np.arange(SHAPE[1])[::3]
    y, x = y - y.mean() + (SHAPE[0] - 1) / 2, x - x.mean() + (SHAPE[1] - 1) / 2
    field = motion.trajectories_at(y, x)
    np.testing.assert_allclose(field.mean(axis=(1, 2)), motion.mean_yx_px, rtol=0.01, atol=2e-3)
    still = motion.without_mean().trajectories_at(y, x)
    np.testing.assert_allclose(still, field - motion.mean_yx_px[:, None, None], atol=1e-9)
