"""The bundle's agent, through the same rollout, earns what the agent in memory earns."""

import pytest
import torch

from ccm_training.evaluation import evaluate_path
from ccm_training.policy import NumpyPolicy
from ccm_training.rollout import run_trials


def trials_of(exported, policy):
    tasks = torch.from_numpy(exported.run.family.sample_tasks("test", 20, 1))
    generator = torch.Generator().manual_seed(3)
    env = exported.run.family.make(tasks)
    return run_trials(env, policy, episodes=exported.run.adaptation.episodes, noise=None, generator=generator)


def test_the_exported_agent_earns_what_the_trained_one_earns(exported):
    trained = trials_of(exported, exported.torch_policy)
    served = trials_of(exported, NumpyPolicy(exported.onnx_policy))
    assert (20, 4) == trained.returns.shape
    torch.testing.assert_close(trained.returns, served.returns, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(trained.beliefs, served.beliefs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(trained.certainty, served.certainty, rtol=1e-4, atol=1e-4)


def test_a_run_and_its_bundle_are_scored_on_the_same_tasks(ccm):
    run, bundle = evaluate_path(ccm.path.parent / "run"), evaluate_path(ccm.path)
    assert (5, run.seed) == (bundle.trials, bundle.seed)
    assert run.adaptation_score == pytest.approx(bundle.adaptation_score, abs=1e-3)
