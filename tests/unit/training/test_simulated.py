"""One task by itself pays, and begins its episodes, as it does in the batch."""

import numpy as np
import pytest
import torch

from ccm_training.envs.registry import get_family, list_families
from ccm_training.envs.simulated import SimulatedTask

NAMES = [family.name for family in list_families() if "point-robot" in family.name]


@pytest.mark.parametrize("name", NAMES)
def test_one_task_pays_what_the_batch_pays_on_random_scripts(name):
    family = get_family(name)
    rng = np.random.default_rng(0)
    tasks = family.sample_tasks("train", 20, 0)
    goals = family.task_features(tasks)[:, -2:]
    batch = family.make(torch.from_numpy(tasks))
    singles = [SimulatedTask(family, task) for task in tasks]
    positions = np.stack([single.reset()[0] for single in singles])
    assert np.array_equal(positions, batch.reset().numpy())
    total = 0.0
    for step in range(family.horizon):
        actions = (0.5 * (goals - positions) + 0.1 * rng.normal(size=goals.shape)).astype(np.float32)
        after = [single.step(action) for single, action in zip(singles, actions, strict=True)]
        expected = batch.step(torch.from_numpy(actions))
        positions = np.stack([single[0] for single in after])
        assert np.allclose(positions, expected.observation.numpy(), atol=1e-6)
        assert np.allclose([single[1] for single in after], expected.reward.numpy(), atol=1e-5)
        assert {single[2:4] for single in after} == {(False, step + 1 == family.horizon)}
        total += sum(single[1] for single in after)
    assert total > 0.0


def test_its_episodes_begin_as_those_of_the_batch():
    family = get_family("walker-sparse")
    task = family.sample_tasks("test", 1, 0)
    one, batch = SimulatedTask(family, task[0], seed=5), family.simulate(task, 5)
    for _ in range(3):
        assert np.array_equal(one.reset()[0], batch.reset()[0])


def test_a_reset_may_change_the_task():
    env = SimulatedTask(get_family("sparse-point-robot"), [0.0])
    env.reset(options={"task": [np.pi / 2]})
    for _ in range(10):
        _, reward, *_ = env.step((0.0, 0.1))
    assert reward == pytest.approx(1.0)
