"""Trials of agents that adapt by a gradient step."""

import pytest
import torch

from ccm_runtime.manifest import Adaptation
from ccm_training.envs.registry import get_family
from ccm_training.onpolicy.gaussian import call, call_each, from_vector, parameters_of
from ccm_training.onpolicy.gradient_agent import GradientAgent, sample_lesson
from ccm_training.onpolicy.gradient_policy import GradientPolicy
from ccm_training.onpolicy.inner_step import InnerStep, likelihood_loss
from ccm_training.rollout import run_trials

FAMILY = get_family("sparse-point-robot")
K, TASKS = 2, 3


@pytest.fixture
def agent():
    torch.manual_seed(0)
    action = FAMILY.action
    return GradientAgent(
        observations=3,
        action_low=torch.from_numpy(action.low_array),
        action_high=torch.from_numpy(action.high_array),
        hidden=(8,),
        inner=InnerStep(likelihood_loss, rate=0.5, discount=0.9, trace=1.0),
    )


def goals_near_the_start(num=TASKS):
    """The half circle is out of reach for a policy that was not trained: goals at the origin pay at once."""
    env = FAMILY.make(torch.from_numpy(FAMILY.sample_tasks("train", num, 0)))
    env._goals = env._goals * 0.1
    return env


def policy_of(agent, seed=0, explore_episodes=K):
    adaptation = Adaptation(
        explore_episodes=explore_episodes,
        episodes=explore_episodes + 2,
        horizon=FAMILY.horizon,
        while_executing=False,
        certain_at=None,
        latent="mean",
        explore_with="belief",
        observe_reward=True,
    )
    return GradientPolicy(agent, adaptation, torch.Generator().manual_seed(seed))


def trial(agent, seed=0, explore_episodes=K):
    policy = policy_of(agent, seed, explore_episodes)
    return policy, run_trials(
        goals_near_the_start(), policy, episodes=explore_episodes + 2, noise=None, generator=torch.Generator()
    )


def test_a_trial_explores_with_the_policy_before_the_step_and_executes_with_each_task_s_own(agent):
    policy, trials = trial(agent)
    room = trials.beliefs[:, K - 1, 1:].reshape(TASKS, K, FAMILY.horizon, -1)
    seen, drawn, reward, _ = torch.split(room, [3, 2, 1, 1], -1)
    assert torch.equal(trials.rows.observation[:, :K], seen)
    assert torch.equal(trials.rows.reward[:, :K], reward)
    assert drawn.abs().max() > 1.0  # the density of an action is that of what was drawn, not of what was clipped
    assert torch.allclose(trials.rows.action[:, :K], agent.unscale_action(drawn))
    own = from_vector(policy.read(trials.beliefs[:, K - 1]).mean, parameters_of(agent.policy))
    executed = trials.rows.observation[:, K:]
    expected = agent.unscale_action(call_each(agent.policy, own, executed).mean)
    assert torch.allclose(expected, trials.rows.action[:, K:], atol=1e-6)


def test_the_step_of_a_trial_is_the_step_of_training(agent):
    policy, trials = trial(agent)
    first = parameters_of(agent.policy)
    lesson = policy._lessons(trials.beliefs[:, K - 1])
    assert torch.equal(lesson.acted.mean, call(agent.policy, first, lesson.observation).mean)
    adapted = agent.adapted(first, lesson)
    found = from_vector(policy.read(trials.beliefs[:, K - 1]).mean, first)
    for name, value in adapted.items():
        assert torch.equal(value, found[name])
        assert not torch.allclose(value, first[name].expand_as(value))


def test_nothing_is_adapted_before_exploration_is_over_nor_after_it(agent):
    policy, trials = trial(agent)
    first = from_vector(policy.read(trials.beliefs[:, 0]).mean, parameters_of(agent.policy))
    assert all(
        torch.equal(value.expand_as(first[name]), first[name]) for name, value in agent.policy.named_parameters()
    )
    assert torch.equal(trials.beliefs[:, K - 1], trials.beliefs[:, K + 1])


def test_what_a_trial_draws_is_a_function_of_the_seed(agent):
    returns = [trial(agent, seed)[1].rows.action for seed in (0, 0, 1)]
    assert torch.equal(returns[0], returns[1])
    assert not torch.equal(returns[0], returns[2])


def test_without_exploration_nothing_is_adapted(agent):
    _, trials = trial(agent, explore_episodes=0)
    assert torch.equal(trials.rows.action[:, 0], trials.rows.action[:, 1])


def test_a_lesson_holds_what_each_task_s_own_policy_did(agent):
    first = parameters_of(agent.policy)
    each = {name: value.expand(TASKS, *value.shape).clone() for name, value in first.items()}
    each["mean.2.bias"] += 0.3 * torch.arange(TASKS)[:, None]
    tasks = torch.from_numpy(FAMILY.sample_tasks("train", TASKS, 0)).repeat_interleave(4, 0)
    lesson, rows = sample_lesson(
        FAMILY.make(tasks), agent, each, horizon=FAMILY.horizon, observe_reward=True, generator=torch.Generator()
    )
    assert torch.equal(rows.observation, lesson.observation.flatten(0, 1))
    again = call_each(agent.policy, each, lesson.observation)
    assert torch.allclose(again.mean, lesson.acted.mean, atol=1e-6)
    moved = lesson.observation[:, :, 1:, :2] - lesson.observation[:, :, :-1, :2]
    assert torch.allclose(agent.unscale_action(lesson.action)[:, :, :-1], moved, atol=1e-6)
