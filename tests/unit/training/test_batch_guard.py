"""The guard over a batch remembers of each simulation what a session would."""

import numpy as np
import pytest
import torch

from ccm_runtime.guard import Guard
from ccm_runtime.manifest import SafetyLimits
from ccm_training.batch_guard import BatchGuard
from ccm_training.envs.registry import get_family

ACTION = get_family("sparse-point-robot").action  # two entries in -0.1 to 0.1


def guard(num, **limits):
    return BatchGuard(Guard.of(ACTION, SafetyLimits(**limits)), num)


def check(guard, *proposed, alive=None):
    alive = torch.ones(len(proposed), 1) if alive is None else torch.tensor(alive)[:, None]
    return guard.check(torch.tensor(proposed), alive).numpy()


def test_each_simulation_is_slowed_by_its_own_last_action_and_free_when_an_episode_begins():
    slow = guard(2, max_rate=(0.01, 0.02))
    first = check(slow, [0.1, 0.1], [0.0, 0.0])
    np.testing.assert_allclose([[0.1, 0.1], [0.0, 0.0]], first)
    np.testing.assert_allclose([[0.09, 0.08], [0.01, -0.02]], check(slow, [-0.1, -0.1], [0.1, -0.1]), atol=1e-7)
    slow.restart()
    np.testing.assert_allclose([[-0.1, -0.1], [0.1, 0.1]], check(slow, [-0.1, -0.1], [0.5, 0.5]))


def test_what_is_said_after_the_end_of_an_episode_is_not_fallen_back_to():
    limited = guard(2, fallback="last-safe")
    check(limited, [0.05, 0.05], [0.05, 0.05])
    check(limited, [0.08, 0.08], [0.08, 0.08], alive=[1.0, 0.0])
    limited.restart()
    fallen_back = check(limited, [torch.nan, 0.0], [torch.nan, 0.0])
    np.testing.assert_allclose([[0.08, 0.08], [0.05, 0.05]], fallen_back)


@pytest.mark.parametrize(("fallback", "expected"), [("hold", 0.07), ("zero", 0.0), ("last-safe", 0.07)])
def test_what_is_no_number_never_reaches_a_simulation(fallback, expected):
    limited = guard(1, fallback=fallback)
    check(limited, [0.07, 0.07])
    np.testing.assert_allclose([[expected, expected]], check(limited, [0.0, torch.inf]))
