"""A film shows the trial that an evaluation finds: every step, its phases, its returns, its task."""

import numpy as np
import pytest
import torch
from tiny_bundle import tiny_graphs, write_bundle
from tiny_run import tiny_experiment

from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import ConfigError, FamilyUnknownError
from ccm_runtime.manifest import Adaptation
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.trial import Phase
from ccm_training.checkpoint import save_checkpoint
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.evaluation import trials_of
from ccm_training.filming import find_actor, moments, task_in_words
from ccm_training.onpolicy.gradient_agent import GradientAgent
from ccm_training.onpolicy.gradient_policy import GradientPolicy
from ccm_training.onpolicy.inner_step import InnerStep, likelihood_loss, ratio_loss
from ccm_training.policy import TorchPolicy

FAMILY = get_family("hard-point-robot-aligned")
TASK = FAMILY.sample_tasks("test", 1, 3)[0]
PLAN = Adaptation(explore_episodes=2, episodes=3, horizon=FAMILY.horizon)


def film(adapter, family=FAMILY, task=TASK):
    return list(moments(adapter, SimulatedTask(family, task)))


@pytest.mark.parametrize("method", ["ccm", "oracle", "random"])
def test_a_film_of_a_run_shows_what_its_evaluation_finds(method, tmp_path):
    run = tiny_experiment(method)
    save_checkpoint(run, tmp_path)
    actor = find_actor(tmp_path)
    assert (actor.family.name, actor.method, actor.trained_on) == (run.family.name, method, (6, 0))
    shown = film(actor.adapter(TASK))[-1]
    if method == "random":
        assert len(shown.returns) == run.adaptation.episodes
        return
    held_out = torch.from_numpy(TASK[None])
    found = trials_of(run.policy_for(held_out), run.family, held_out)
    np.testing.assert_allclose(shown.returns, found.returns[0].numpy(), rtol=1e-4, atol=1e-4)
    assert shown.certainty == pytest.approx(float(found.certainty[0, -1]), abs=1e-4)


def test_a_film_explores_exactly_k_episodes_and_shows_every_step():
    shown = film(Adapter.of(ScriptedPolicy(PLAN)))
    assert len(shown) == PLAN.episodes * (PLAN.horizon + 1)
    assert [Phase.EXPLORE, Phase.EXPLORE, Phase.EXECUTE] == [moment.phase for moment in shown if moment.step == 0]
    assert [0, 1, 2] == [moment.episode for moment in shown if moment.episode_over]
    assert [PLAN.horizon] * 3 == [moment.step for moment in shown if moment.episode_over]


def test_returns_grow_by_the_rewards_and_stay_once_an_episode_is_over():
    shown = film(Adapter.of(ScriptedPolicy(PLAN)))
    over = [moment.returns[-1] for moment in shown if moment.episode_over]
    assert tuple(over) == shown[-1].returns
    assert {0.0} == {moment.returns[-1] for moment in shown if moment.step == 0}


def test_an_episode_ends_where_the_task_ends_it():
    class Ending(SimulatedTask):
        def step(self, action):
            observation, reward, _, truncated, info = super().step(action)
            return observation, reward, self._num_steps == 3, truncated, info

    shown = list(moments(Adapter.of(ScriptedPolicy(PLAN)), Ending(FAMILY, TASK)))
    assert len(shown) == PLAN.episodes * 4


@pytest.mark.parametrize("loss", [likelihood_loss, ratio_loss])
def test_a_gradient_step_is_taken_though_exploring_ended_early(loss):
    """The rollout pads such an episode to its horizon; a film shows the same trial."""
    torch.manual_seed(0)
    family = get_family("signpost-robot")
    low, high = (torch.from_numpy(bound) for bound in (family.action.low_array, family.action.high_array))
    inner = InnerStep(loss, rate=0.5, discount=0.9, trace=1.0)
    agent = GradientAgent(observations=4, action_low=low, action_high=high, hidden=(8,), inner=inner)
    with torch.no_grad():
        agent.policy.mean[-1].bias += torch.tensor([0.0, 1.0])  # up, to the wall
    plan = Adaptation(explore_episodes=1, episodes=3, horizon=family.horizon, observe_reward=True)
    task = family.sample_tasks("test", 1, 0)
    policies = [GradientPolicy(agent, plan, torch.Generator().manual_seed(1)) for _ in range(2)]
    told = []

    class Watched(SimulatedTask):
        def step(self, action):
            told.append(action)
            return super().step(action)

    shown = list(moments(Adapter.of(TorchPolicy(policies[0], family)), Watched(family, task[0])))
    found = trials_of(policies[1], family, torch.from_numpy(task))
    explored = found.rows.valid[0, 0].sum()
    assert 1 < explored < family.horizon
    adapted, first = policies[1].read(found.beliefs[:, 0]).mean, policies[1].read(policies[1].initial_belief(1)).mean
    assert not torch.allclose(adapted, first)
    np.testing.assert_allclose(told, found.rows.action[0][found.rows.valid[0, ..., 0] > 0.0].numpy(), atol=1e-5)
    np.testing.assert_allclose(shown[-1].returns, found.returns[0].numpy(), atol=1e-5)


def bundle_of(folder, family):
    manifest = manifest_of(ScriptedPolicy(PLAN), family=family)
    return write_bundle(folder / "bundle", manifest, tiny_graphs(manifest))


def test_a_bundle_is_found_with_its_family_and_its_limits(tmp_path):
    actor = find_actor(bundle_of(tmp_path, FAMILY.name))
    assert (actor.family.name, actor.method) == (FAMILY.name, "scripted")
    assert len(film(actor.adapter(TASK))[-1].returns) == PLAN.episodes


def test_a_bundle_of_a_user_s_family_is_not_imported_unasked(tmp_path):
    with pytest.raises(FamilyUnknownError, match="if you have it and trust it, add --family robots:Arms"):
        find_actor(bundle_of(tmp_path, "robots:Arms"))


def test_another_family_than_the_bundle_s_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="was trained on hard-point-robot-aligned; it does not know --family"):
        find_actor(bundle_of(tmp_path, FAMILY.name), "sparse-point-robot")


def test_a_task_is_told_with_its_units():
    cheetah = get_family("cheetah-sparse")
    words = task_in_words(cheetah, np.array([1.5, 0.815], np.float32))
    assert words == "target velocity 1.5 m/s · mass factor 0.815"
