import numpy as np
import pytest

from ccm_export.recording import novelty_stats, record
from ccm_runtime.belief import novelty


def test_one_in_a_hundred_training_latents_is_called_novel():
    latents = np.random.default_rng(0).normal(3.0, (0.1, 1.0, 5.0), (2000, 3)).astype(np.float32)
    assert 0.01 == pytest.approx((novelty(latents, novelty_stats(latents)) > 1.0).mean(), abs=0.002)


def test_novelty_is_measured_along_the_spread():
    latents = np.random.default_rng(0).normal(0.0, (0.5, 5.0), (2000, 2)).astype(np.float32)
    across, along = novelty(np.array([[5.0, 0.0], [0.0, 5.0]], np.float32), novelty_stats(latents))
    assert across > 2.0
    assert along < 1.0


def test_latents_that_never_vary_give_finite_statistics():
    stats = novelty_stats(np.ones((10, 2), np.float32))
    assert np.isfinite(novelty(np.zeros((1, 2), np.float32), stats)).all()


def test_a_recording_is_a_function_of_the_run(ccm):
    first, second = record(ccm.run), record(ccm.run)
    assert first.novelty == second.novelty
    np.testing.assert_array_equal(first.probe.belief, second.probe.belief)


def test_recorded_inputs_are_those_of_trials(ccm):
    probe = record(ccm.run, rows=10).probe
    assert (10, 3) == probe.observation.shape
    assert (10, 32, 3) == probe.transitions.observation.shape
    assert np.all(np.abs(probe.transitions.action) <= np.float32(0.1))
