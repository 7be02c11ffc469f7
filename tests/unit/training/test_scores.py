"""The score is the first executor episode's share of the ceiling; without a ceiling above the floor there is none."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ccm_runtime.manifest import Adaptation
from ccm_training.envs.family import Step
from ccm_training.envs.registry import get_family, list_families
from ccm_training.policy import RandomPolicy
from ccm_training.rollout import run_trials
from ccm_training.scores import evaluation_of, floor_of, score_of

FAMILY = get_family("hard-point-robot-aligned")
TASKS = FAMILY.sample_tasks("test", 3, seed=0)


def evaluation(returns, explore_episodes=2, **more):
    certainty = np.broadcast_to([0.25, 0.5, 0.75, 1.0], (3, 4))
    return evaluation_of(
        returns,
        certainty,
        FAMILY,
        TASKS,
        method="ccm",
        split="test",
        explore_episodes=explore_episodes,
        seed=4,
        seconds=2.0,
        **more,
    )


def test_a_ceiling_that_is_told_goes_before_the_family_s():
    found = evaluation([[0, 10, 50, 0]] * 3, ceiling=100.0)
    assert (found.ceiling, found.adaptation_score) == (100.0, pytest.approx(0.5))


def test_the_first_executor_episode_is_scored():
    found = evaluation([[0, 10, 81, 0], [0, 30, 60, 0], [0, 20, 60, 9]])
    assert found.returns == [0.0, 20.0, 67.0, 3.0]
    assert found.adaptation_score == pytest.approx(67.0 / FAMILY.ceiling(TASKS).mean())
    assert found.interval[0] <= found.adaptation_score <= found.interval[1]
    assert found.certainty == [0.25, 0.5, 0.75, 1.0]
    assert found.floor == floor_of(FAMILY, TASKS, seed=4)
    assert (found.family, found.trials, found.seed, found.seconds) == (FAMILY.name, 3, 4, 2.0)


def test_a_score_is_the_mean_of_its_tasks_scores_or_of_their_returns_where_there_is_no_ceiling_above_the_floor():
    returns = [[0, 10, 81, 0], [0, 30, 60, 0], [0, 20, 63, 9]]
    found = evaluation(returns)
    assert found.adaptation_score == pytest.approx(np.mean(found.task_scores), abs=1e-6)
    assert [81.0, 60.0, 63.0] == evaluation(returns, ceiling=-1.0).task_scores


def test_the_last_episode_is_scored_where_all_explore():
    found = evaluation([[0, 1, 2, 30]] * 3, explore_episodes=4)
    assert found.adaptation_score == pytest.approx(30.0 / found.ceiling)


def test_the_score_is_the_share_of_the_ceiling_with_its_interval_over_tasks():
    score = score_of([10.0, 20.0], ceiling=30.0, floor=5.0)
    assert score == pytest.approx((0.5, 1 / 3, 2 / 3))


def test_where_returns_can_be_negative_the_score_counts_from_the_floor():
    assert score_of([-50.0, -50.0], ceiling=-20.0, floor=-80.0).value == pytest.approx(0.5)
    assert score_of([-10.0, -30.0], ceiling=0.0, floor=-100.0).value == pytest.approx(0.8)


def test_without_a_ceiling_above_the_floor_there_is_no_score():
    assert score_of([1.0], ceiling=None, floor=0.0) is None
    assert score_of([-500.0], ceiling=-641.7, floor=-575.5) is None
    assert score_of([5.0], ceiling=3.0, floor=3.0) is None
    found = evaluation([[0, 10, 50, 0]] * 3, ceiling=-1.0)
    assert (found.ceiling, found.adaptation_score, found.interval) == (-1.0, None, None)


@pytest.mark.parametrize(
    "family", [each for each in list_families() if "point" in each.name], ids=lambda family: family.name
)
def test_the_floor_is_that_of_a_random_policys_trials(family):
    tasks = family.sample_tasks("test", 100, seed=0)
    floor = floor_of(family, tasks, seed=1, episodes=10)
    assert floor == floor_of(family, tasks, seed=1, episodes=10)
    assert 0.0 <= floor < 0.3 * family.ceiling(tasks).mean()
    generator = torch.Generator().manual_seed(0)
    low, high = torch.from_numpy(family.action.low_array), torch.from_numpy(family.action.high_array)
    plan = Adaptation(explore_episodes=0, episodes=10, horizon=family.horizon, while_executing=False)
    random = RandomPolicy(low, high, plan, generator)
    env = family.make(torch.from_numpy(tasks))
    trials = run_trials(env, random, episodes=10, noise=None, generator=generator)
    each = trials.returns.mean(1)
    assert floor == pytest.approx(float(each.mean()), abs=5.0 * float(each.std()) / 10.0 + 1e-3)


class Ending:
    """Pays 1 a step, and ends by itself after as many steps as its task says."""

    name, horizon, action = "ending", 5, FAMILY.action

    def simulate(self, tasks, seed=0):
        steps = 0

        def step(action):
            nonlocal steps
            steps += 1
            return Step(action, np.ones(len(tasks), np.float32), tasks[:, 0] <= steps)

        return SimpleNamespace(num_envs=len(tasks), reset=lambda: None, step=step)


def test_the_floor_counts_nothing_after_an_episodes_own_end():
    assert floor_of(Ending(), np.array([[1.0], [3.0], [9.0]])) == pytest.approx((1 + 3 + 5) / 3)


def test_scoring_needs_no_torch():
    script = (
        "import sys\nsys.modules.update(torch=None, gymnasium=None)\n"
        "from ccm_training.envs.registry import get_family\nfrom ccm_training.scores import floor_of\n"
        "family = get_family('sparse-point-robot')\nfloor_of(family, family.sample_tasks('test', 2, 0))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
