import numpy as np
import pytest
import torch

from ccm_training.envs.registry import get_family, list_families
from ccm_training.envs.simulated import get_simulated, list_simulated

NAMES = [family.name for family in list_simulated()]


@pytest.mark.parametrize("name", NAMES)
def test_the_simulated_families_are_the_trained_ones(name):
    ours, trained = get_simulated(name), get_family(name)
    assert (ours.horizon, ours.explore_episodes, ours.radius) == (
        trained.horizon,
        trained.explore_episodes,
        trained.radius,
    )
    assert trained.sample_tasks("test", 3, 0).shape == ours.sample_tasks("test", 3, 0).shape


def test_every_registered_family_is_simulated():
    assert [family.name for family in list_families()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_simulations_pay_the_same_on_random_scripts(name):
    ours, trained = get_simulated(name), get_family(name)
    rng = np.random.default_rng(0)
    tasks = ours.sample_tasks("train", 20, 0)
    batched = trained.make(torch.from_numpy(tasks), torch.Generator())
    for env_index, env in enumerate(ours.simulate(task) for task in tasks):
        observation = batched.reset()[env_index]
        assert np.array_equal(env.reset()[0], observation.numpy())
        goal = ours.goals(tasks)[env_index, -1]
        position, over, steps = np.zeros(2, np.float32), False, 0
        while not over:
            action = (0.5 * (goal - position) + 0.1 * rng.normal(size=2)).astype(np.float32)
            position, reward, terminated, over, _ = env.step(action)
            expected = batched.step(torch.from_numpy(np.tile(action, (20, 1))))
            assert np.allclose(position, expected.observation[env_index].numpy(), atol=1e-6)
            assert reward == pytest.approx(float(expected.reward[env_index]), abs=1e-5)
            assert not terminated
            steps += 1
        assert steps == ours.horizon


@pytest.mark.parametrize("name", NAMES)
def test_both_agree_on_the_ceiling(name):
    ours = get_simulated(name)
    tasks = ours.sample_tasks("test", 10, 3)
    expected = get_family(name).ceiling(torch.from_numpy(tasks)).numpy()
    assert np.allclose(ours.ceiling(tasks), expected, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_a_function_of_split_number_and_seed(name):
    family = get_simulated(name)
    tasks = family.sample_tasks("test", 12, 5)
    assert np.array_equal(tasks, family.sample_tasks("test", 12, 5))
    for other in (family.sample_tasks("train", 12, 5), family.sample_tasks("test", 12, 6)):
        assert not np.isin(tasks, other).any()
    assert tasks.min() >= 0.0
    assert tasks.max() <= np.pi
    assert sorted((tasks[:, 0] / np.pi * 12).astype(int)) == list(range(12))


def test_aligned_goals_lie_in_one_direction():
    tasks = get_simulated("hard-point-robot-aligned").sample_tasks("test", 8, 0)
    assert np.array_equal(tasks[:, 0], tasks[:, 1])
    tasks = get_simulated("hard-point-robot").sample_tasks("test", 8, 0)
    assert not np.isclose(tasks[:, 0], tasks[:, 1]).any()


def test_a_reset_may_change_the_task():
    family = get_simulated("sparse-point-robot")
    env = family.simulate([0.0])
    env.reset(options={"task": [np.pi / 2]})
    for _ in range(10):
        _, reward, *_ = env.step((0.0, 0.1))
    assert reward == pytest.approx(1.0)
