"""What an export takes from trials on training tasks is a function of its run, and one in a hundred is called novel."""

import numpy as np
import pytest

from ccm_export.training_trials import novelty_stats, run_training_trials
from ccm_runtime.belief import novelty


def spread(*scales, size=2000):
    return np.random.default_rng(0).normal(3.0, scales, (size, 1, len(scales))).astype(np.float32)


def test_one_in_a_hundred_training_trials_is_called_novel():
    latents = spread(0.1, 1.0, 5.0)
    assert 0.01 == pytest.approx((novelty(latents[:, 0], novelty_stats(latents)) > 1.0).mean(), abs=0.002)


def test_a_trial_counts_by_its_farthest_moment():
    latents = np.concatenate([spread(1.0, 1.0), 5.0 * (spread(1.0, 1.0) - 3.0)], 1)
    stats = novelty_stats(latents)
    ever = np.maximum(novelty(latents[:, 0], stats), novelty(latents[:, 1], stats)) > 1.0
    assert 0.01 == pytest.approx(ever.mean(), abs=0.002)


def test_novelty_is_measured_along_the_spread():
    across, along = novelty(np.array([[8.0, 3.0], [3.0, 8.0]], np.float32), novelty_stats(spread(0.5, 5.0)))
    assert across > 2.0
    assert along < 1.0


def test_latents_that_never_vary_give_finite_statistics():
    stats = novelty_stats(np.ones((10, 4, 2), np.float32))
    assert np.isfinite(novelty(np.zeros((1, 2), np.float32), stats)).all()


def test_a_trial_that_has_seen_nothing_is_not_novel(exported):
    policy = exported.torch_policy
    latent = policy.read(policy.initial_belief(1)).mean.detach().numpy()
    assert novelty(latent, run_training_trials(exported.run).novelty)[0] < 1.0


def test_what_trials_showed_is_a_function_of_the_run(ccm):
    first, second = run_training_trials(ccm.run), run_training_trials(ccm.run)
    assert first.novelty == second.novelty
    np.testing.assert_array_equal(first.probe.belief, second.probe.belief)


def test_recorded_inputs_are_those_of_trials(ccm):
    probe = run_training_trials(ccm.run, rows=10).probe
    assert (10, 3) == probe.observation.shape
    assert (10, 32, 3) == probe.transitions.observation.shape
    assert np.all(np.abs(probe.transitions.action) <= np.float32(0.1))
