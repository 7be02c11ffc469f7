"""Each method on a line with a hidden goal: its executor comes nearer to it than who does not know where it is."""

import pytest
from line_goals import LineGoals

from ccm_training.config import parse_config
from ccm_training.methods import METHODS
from ccm_training.rewards import ExplorationReward
from ccm_training.train import train

pytestmark = [pytest.mark.learning, pytest.mark.timeout(1800)]

FAMILY = LineGoals()
QUIETLY = {"device": "cpu", "progress": False}
VARIANTS = [("ccm", variant.value) for variant in ExplorationReward]
GRADIENT = [name for name, method in METHODS.items() if method.gradient]
OTHERS = [(name, "telescoping") for name, method in METHODS.items() if method.learns and name not in {"ccm", *GRADIENT}]


def settings(method, exploration_reward):
    """A small run; that the previous reward is hidden leaves the belief alone to tell where the goal is."""
    rounds = 300 if METHODS[method].on_policy else 80  # cheap ones, of a few updates each
    tree = {
        "family": "line_goals:LineGoals",
        "method": method,
        "threads": 1,
        "updates_per_iteration": 30,
        "tasks": {"num_train": 40, "num_test": 40},
        "networks": {"latent": 4, "hidden": [48, 48], "encoder_hidden": [48]},
        "trial": {"explore_episodes": 2, "execute_episodes": 1, "observe_reward": False},
        "collect": {"warmup_trials": 4, "iterations": rounds, "tasks": 40, "capacity": 24},
        "encoder": {"pretrain_updates": 150, "learning_rate": 0.003, "key_rows": 64},
        "policy": {
            "discount": 0.9,
            "learning_rate": 0.003,
            "target_rate": 0.05,
            "exploration_reward": exploration_reward,
        },
        "gradient": {"rollouts": 2},
        "evaluation": {"every": 0},
    }
    for group, changes in METHODS[method].settings.items():
        tree[group] = tree.get(group, {}) | dict(changes)
    return parse_config(tree, where=method)


def share_of_knowing(found, returned=None):
    """Which share of what the task is worth to know was gained; `returned`: instead of the first execution episode."""
    tasks = FAMILY.sample_tasks("test", found.trials, found.seed)
    unknowing, ceiling = FAMILY.unknowing(tasks).mean(), FAMILY.ceiling(tasks).mean()
    gained = found.returns[found.explore_episodes] if returned is None else returned
    return (gained - unknowing) / (ceiling - unknowing)


@pytest.mark.parametrize(("method", "exploration_reward"), [*VARIANTS, *OTHERS])
def test_a_method_gains_most_of_what_knowing_the_task_is_worth(tmp_path, method, exploration_reward):
    share = share_of_knowing(train(settings(method, exploration_reward), tmp_path / "run", **QUIETLY).evaluation)
    print(f"{method} {exploration_reward}: {share:.3f} of what knowing is worth")  # noqa: T201
    assert share > 0.5


@pytest.mark.parametrize("method", GRADIENT)
def test_a_gradient_step_gains_most_of_what_knowing_the_side_of_the_goal_is_worth(tmp_path, method):
    """Near the start, the reward's slope is the same for all goals of a side, and advantages are normalized."""
    config = settings(method, "telescoping")
    config = config.model_copy(update={"collect": config.collect.model_copy(update={"iterations": 200})})
    found = train(config, tmp_path / "run", **QUIETLY).evaluation
    tasks = FAMILY.sample_tasks("test", found.trials, found.seed)
    share, side = share_of_knowing(found), share_of_knowing(found, FAMILY.knowing_the_side(tasks).mean())
    print(f"{method}: {share:.3f} of what knowing is worth; the side alone: {side:.3f}")  # noqa: T201
    assert share > 0.8 * side
