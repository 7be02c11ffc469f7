"""Each method on a line with a hidden goal: its executor comes nearer to it than who does not know where it is."""

import pytest
from line_goals import LineGoals

from ccm_training.config import parse_config
from ccm_training.methods import METHODS
from ccm_training.rewards import ExplorationReward
from ccm_training.train import train

pytestmark = [pytest.mark.learning, pytest.mark.timeout(1800)]

FAMILY = LineGoals()
VARIANTS = [("ccm", variant.value) for variant in ExplorationReward]
OTHERS = [(name, "telescoping") for name, method in METHODS.items() if method.learns and name != "ccm"]


def settings(method, exploration_reward):
    """A small run; that the previous reward is hidden leaves the belief alone to tell where the goal is."""
    tree = {
        "family": "line_goals:LineGoals",
        "method": method,
        "threads": 1,
        "updates_per_iteration": 30,
        "tasks": {"num_train": 40, "num_test": 40},
        "networks": {"latent": 4, "hidden": [48, 48], "encoder_hidden": [48]},
        "trial": {"explore_episodes": 2, "execute_episodes": 1, "observe_reward": False},
        "collect": {"warmup_trials": 4, "iterations": 80, "tasks": 40, "capacity": 24},
        "encoder": {"pretrain_updates": 150, "learning_rate": 0.003, "key_rows": 64},
        "policy": {
            "discount": 0.9,
            "learning_rate": 0.003,
            "target_rate": 0.05,
            "exploration_reward": exploration_reward,
        },
        "evaluation": {"every": 0},
    }
    for group, changes in METHODS[method].settings.items():
        tree[group] = tree[group] | dict(changes)
    return parse_config(tree, where=method)


@pytest.mark.parametrize(("method", "exploration_reward"), [*VARIANTS, *OTHERS])
def test_a_method_gains_most_of_what_knowing_the_task_is_worth(tmp_path, method, exploration_reward):
    found = train(settings(method, exploration_reward), tmp_path / "run", device="cpu", progress=False).evaluation
    tasks = FAMILY.sample_tasks("test", found.trials, found.seed)
    unknowing, ceiling = FAMILY.unknowing(tasks).mean(), FAMILY.ceiling(tasks).mean()
    share = (found.returns[found.explore_episodes] - unknowing) / (ceiling - unknowing)
    print(f"{method} {exploration_reward}: {share:.3f} of what knowing is worth")  # noqa: T201
    assert share > 0.5
