"""An evaluation is deterministic, of tasks of the split that was asked for, and gives 1 to who knows the task."""

import numpy as np
import pytest
import torch
from tiny_run import tiny_experiment

from ccm_runtime.errors import ConfigError
from ccm_runtime.manifest import Adaptation
from ccm_training import evaluation
from ccm_training.checkpoint import save_checkpoint
from ccm_training.envs.registry import get_family
from ccm_training.evaluation import evaluate, evaluate_path, trials_for_report, trials_of
from ccm_training.policy import AgentPolicy

FAMILY = get_family("sparse-point-robot")


def tasks(num=8):
    return torch.from_numpy(FAMILY.sample_tasks("test", num, seed=0))


class Knowing:
    """Goes straight to the goal, which it is told; explores by standing still."""

    action_size = 2

    def __init__(self, goals: torch.Tensor) -> None:
        self.adaptation = Adaptation(explore_episodes=1, episodes=3, horizon=FAMILY.horizon)
        self._goals = goals

    def initial_belief(self, num):
        return torch.zeros(num, 2)

    def explore(self, observation, belief, noise):
        return torch.zeros_like(observation)

    def execute(self, observation, latent, noise):
        return (self._goals - observation).clamp(-0.1, 0.1)

    def fold(self, belief, rows):
        return belief

    def read(self, belief):
        return AgentPolicy.read(self, belief)


def knowing():
    return Knowing(torch.from_numpy(FAMILY.task_features(tasks().numpy())))


def test_who_knows_the_task_scores_one_in_the_first_executor_episode():
    found = evaluate(knowing(), FAMILY, tasks(), method="knowing", split="test")
    assert found.adaptation_score == pytest.approx(1.0, rel=1e-4)
    assert found.returns == pytest.approx([0.0, found.ceiling, found.ceiling], rel=1e-4)
    assert found.certainty == [0.0, 0.0, 0.0]
    assert 0.0 <= found.floor < 0.1 * found.ceiling


def test_an_evaluation_is_deterministic():
    run = tiny_experiment()
    held_out = torch.from_numpy(run.family.sample_tasks("test", 5, seed=0))
    first, second = (trials_of(run.policy, run.family, held_out) for _ in range(2))
    assert torch.equal(first.rows.action, second.rows.action)


@pytest.mark.parametrize("method", ["ccm", "pearl", "oracle"])
def test_trials_for_a_report_are_paths_without_gaps(tmp_path, method):
    run = tiny_experiment(method)
    save_checkpoint(run, tmp_path)
    found = trials_for_report(tmp_path, num_tasks=3)
    episodes, horizon = run.adaptation.episodes, run.family.horizon
    assert found.tasks.shape == (3, 2)
    assert found.observations.shape == (3, episodes, horizon + 1, 2)
    assert found.rewards.shape == (3, episodes, horizon)
    assert found.latents.shape == (3, episodes, 3)
    strides = np.abs(np.diff(found.observations, axis=2))
    assert strides.max() <= 0.1 + 1e-6
    assert np.array_equal(found.observations[:, :, 0], np.zeros((3, episodes, 2)))


def test_trials_for_a_report_stand_still_once_an_episode_has_ended(tmp_path):
    run = tiny_experiment(family="signpost-robot", trial={"explore_episodes": 1, "execute_episodes": 1})
    with torch.no_grad():
        for actor in (run.agent.executor.actor, run.agent.explorer.actor):
            actor.body[-1].weight.zero_()
            actor.body[-1].bias.copy_(torch.tensor([-10.0, 10.0, 0.0, 0.0]))  # up and to the left, to the wall
    save_checkpoint(run, tmp_path)
    found = trials_for_report(tmp_path, num_tasks=2).observations[..., :2]
    reached = np.array([[0.0, 0.0], [-0.25, 0.25], [-0.5, 0.5], *[[-0.75, 0.75]] * 6])
    np.testing.assert_allclose(found, np.broadcast_to(reached, found.shape), atol=1e-3)


def test_training_tasks_are_those_that_the_run_was_trained_on(tmp_path, monkeypatch):
    run, tried = tiny_experiment(), []
    save_checkpoint(run, tmp_path)

    def keep(policy, family, tasks, **kwargs):
        tried.append(tasks.tolist())
        return evaluate(policy, family, tasks, **kwargs)

    monkeypatch.setattr(evaluation, "evaluate", keep)
    assert 5 == evaluate_path(tmp_path, tasks="train").trials  # as many as are held out
    assert all(task in run.tasks.tolist() for task in tried[0])
    assert evaluate_path(tmp_path, tasks="train", trials=6).trials == len(run.tasks)
    with pytest.raises(ConfigError, match="--trials 7: it was trained on 6 tasks"):
        evaluate_path(tmp_path, tasks="train", trials=7)
    assert 7 == evaluate_path(tmp_path, tasks="test", trials=7).trials
