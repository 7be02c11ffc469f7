"""What training evaluates is what a server does: the same trial, fold for fold and action for action."""

import numpy as np
import pytest
import torch

from ccm_runtime.adapt import Adapter
from ccm_runtime.guard import Guard
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.testing import ScriptedPolicy
from ccm_training.batch_guard import BatchGuard
from ccm_training.envs.registry import get_family
from ccm_training.policy import NumpyPolicy
from ccm_training.rollout import run_trials

NUM, EPISODES, HORIZON = 5, 4, 6
PLANS = {
    "follows": {},
    "fixed latent": {"while_executing": False},
    "certain early": {"certain_at": 0.7, "explore_episodes": 3},
    "observes rewards": {"observe_reward": True},
    "explores with a latent": {"explore_with": "latent"},
    "never explores": {"explore_episodes": 0},
}


class WidePolicy(ScriptedPolicy):
    """A scripted agent whose actions are those of the point robots."""

    @property
    def action(self):
        return get_family("hard-point-robot-aligned").action


def simulations():
    family = get_family("hard-point-robot-aligned")
    tasks = torch.from_numpy(family.sample_tasks("test", NUM, seed=0))
    return family.make(tasks)


class Failing(WidePolicy):
    """Begins an episode with what is no number, and is far out of bounds once it has come away from where it began."""

    def explore(self, observation, belief, noise):
        return self._failing(observation, super().explore(observation, belief, noise))

    def execute(self, observation, latent, noise):
        return self._failing(observation, super().execute(observation, latent, noise))

    def _failing(self, observation, action):
        action[(observation == 0.0).all(1)] = np.nan
        action[np.abs(observation).max(1) > 0.05] = 7.0
        return action


LIMITS = {
    "bounds alone": SafetyLimits(),
    "slow": SafetyLimits(max_rate=(0.01, 0.02), fallback="hold"),
    "slow, falls back to what was safe": SafetyLimits(max_rate=(0.03, 0.03), fallback="last-safe"),
    "falls back to what was safe": SafetyLimits(fallback="last-safe"),
}


def serve_trials(policy, safety=None):
    """Step one session a simulation, all in one batch, as the server does; return actions, rewards and beliefs."""
    env, adapter = simulations(), Adapter.of(policy, safety)
    memories = [adapter.start() for _ in range(NUM)]
    actions, rewards, beliefs = [], [], []
    for _ in range(EPISODES):
        stepped = adapter.step(memories, [BeginEpisode(row.numpy()) for row in env.reset()])
        for _ in range(HORIZON):
            memories, reactions = zip(*stepped, strict=True)
            actions.append(np.stack([reaction.action for reaction in reactions]))
            step = env.step(torch.from_numpy(actions[-1]))
            rewards.append(step.reward.numpy())
            rows = zip(step.observation, step.reward, step.terminated, strict=True)
            stepped = adapter.step(memories, [Transition(seen.numpy(), float(r), bool(end)) for seen, r, end in rows])
        memories = [memory for memory, _ in stepped]
        beliefs.append(np.stack([memory.belief for memory in memories]))
    return np.stack(actions, 1), np.stack(rewards, 1), np.stack(beliefs, 1)


@pytest.mark.parametrize("name", PLANS)
def test_a_served_trial_is_the_evaluated_trial(name):
    plan = Adaptation(explore_episodes=2, episodes=EPISODES, horizon=HORIZON).model_copy(update=PLANS[name])
    policy = WidePolicy(plan)
    generator = torch.Generator().manual_seed(0)
    evaluated = run_trials(simulations(), NumpyPolicy(policy), episodes=EPISODES, noise=None, generator=generator)
    actions, rewards, beliefs = serve_trials(policy)
    steps = EPISODES * HORIZON
    np.testing.assert_allclose(evaluated.rows.action.reshape(NUM, steps, -1).numpy(), actions, atol=1e-5)
    np.testing.assert_allclose(evaluated.rows.reward.reshape(NUM, steps).numpy(), rewards, atol=1e-5)
    np.testing.assert_allclose(evaluated.beliefs.numpy(), beliefs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("policy_class", [WidePolicy, Failing])
def test_a_served_trial_is_the_evaluated_trial_under_limits_too(limits, policy_class):
    plan = Adaptation(explore_episodes=2, episodes=EPISODES, horizon=HORIZON)
    policy, safety, generator = policy_class(plan), LIMITS[limits], torch.Generator().manual_seed(0)
    guard = BatchGuard(Guard.of(policy.action, safety), NUM)
    evaluated = run_trials(
        simulations(), NumpyPolicy(policy), episodes=EPISODES, noise=None, generator=generator, guard=guard
    )
    actions, rewards, beliefs = serve_trials(policy_class(plan), safety)
    steps = EPISODES * HORIZON
    np.testing.assert_allclose(evaluated.rows.action.reshape(NUM, steps, -1).numpy(), actions, atol=1e-5)
    np.testing.assert_allclose(evaluated.rows.reward.reshape(NUM, steps).numpy(), rewards, atol=1e-5)
    np.testing.assert_allclose(evaluated.beliefs.numpy(), beliefs, rtol=1e-4, atol=1e-5)
    assert (
        safety.max_rate is None or (np.abs(np.diff(actions[:, :HORIZON], axis=1)) < np.add(safety.max_rate, 1e-6)).all()
    )
