"""The bundle's agent, through the same rollout, earns what the agent in memory earns."""

import torch

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
