"""Rewards and endings of MuJoCo's families against a scalar statement of them, one transition at a time."""

import math

import numpy as np
import pytest
import torch
from robot_twins import ROBOTS, TWINS, put

from ccm_training.envs.mujoco.cheetah import sparse_velocity_reward
from ccm_training.envs.mujoco.simulation import State
from ccm_training.envs.registry import get_family

NUM = 10_000
CHEETAH_STEP_S, WALKER_STEP_S, ANT_STEP_S, HUMANOID_PHYSICS_STEP_S = 0.05, 0.008, 0.05, 0.003


def squares(action):
    return sum(control**2 for control in action)


def sparse(velocity, target, action):
    error = abs(velocity - target)
    return (2.0 - error if error <= 0.5 else 0.0) - 0.05 * squares(action)


def dense(velocity, target, action):
    return -abs(velocity - target) - 0.05 * squares(action)


def humanoid_direction(way, action, task):
    along = way[0] * math.cos(task[0]) + way[1] * math.sin(task[0])
    return 0.25 * along / HUMANOID_PHYSICS_STEP_S - 0.1 * squares(action) + 5.0


# Of the way of the root and that of the centre of mass (m), the action and the task.
SCALAR = {
    "cheetah-sparse": lambda way, _, action, task: sparse(way[0] / CHEETAH_STEP_S, task[0], action),
    "cheetah-mass": lambda way, _, action, __: way[0] / CHEETAH_STEP_S - 0.1 * squares(action),
    "cheetah-mass-ood": lambda way, _, action, __: way[0] / CHEETAH_STEP_S - 0.1 * squares(action),
    "cheetah-vel": lambda way, _, action, task: dense(way[0] / CHEETAH_STEP_S, task[0], action),
    "cheetah-vel-ood": lambda way, _, action, task: dense(way[0] / CHEETAH_STEP_S, task[0], action),
    "walker-sparse": lambda way, _, action, task: sparse(way[0] / WALKER_STEP_S, task[0], action),
    "ant-mass": lambda way, _, action, __: way[0] / ANT_STEP_S - 0.005 * squares(action) + 1.0,
    "humanoid-dir": lambda _, way, action, task: humanoid_direction(way, action, task),
}
STEP_S = {"cheetah": CHEETAH_STEP_S, "walker": WALKER_STEP_S, "ant": ANT_STEP_S, "humanoid": 0.015}


def transitions(family, num, seed=0):
    """Random states before and after, actions and tasks; half of the velocities are near a target velocity."""
    rng, robot = np.random.default_rng(seed), family.robot
    tasks = family.sample_tasks("train", num, seed)
    before = State(
        rng.normal(size=(num, robot.model.nq)), rng.normal(size=(num, robot.model.nv)), rng.normal(size=(num, 3))
    )
    step_s = STEP_S[family.name.split("-")[0]]
    velocity = np.where(rng.random(num) < 0.5, rng.normal(scale=3.0, size=num), tasks[:, 0] + rng.uniform(-1, 1, num))
    moved = np.zeros_like(before.position)
    moved[:, 0] = velocity * step_s
    after = State(
        before.position + moved,
        rng.normal(size=before.velocity.shape),
        before.centre_of_mass + rng.normal(scale=0.02, size=(num, 3)),
    )
    limit = robot.control_limit
    return before, after, rng.uniform(-limit, limit, (num, len(robot.motors))), tasks


def torches(state):
    return State(*map(torch.from_numpy, state))


@pytest.mark.parametrize("name", SCALAR)
def test_rewards_are_exact_on_ten_thousand_random_transitions_in_numpy_and_torch(name):
    family = get_family(name)
    before, after, action, tasks = transitions(family, NUM)
    ways = (after.position - before.position, after.centre_of_mass - before.centre_of_mass)
    expected = [SCALAR[name](*row) for row in zip(*(array.tolist() for array in (*ways, action, tasks)), strict=True)]
    got = family.reward(before, after, action, tasks, np)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    in_torch = family.reward(torches(before), torches(after), torch.from_numpy(action), torch.from_numpy(tasks), torch)
    np.testing.assert_allclose(in_torch.numpy(), expected, atol=1e-6)
    if "sparse" in name:
        paid = got + 0.05 * (action**2).sum(-1) > 1.0
        assert 0.2 < paid.mean() < 0.8  # both kinds occur


@pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_the_sparse_band_has_two_edges_that_belong_to_it(array):
    xp = torch if array is torch.tensor else np
    beyond = np.nextafter(0.5, 1.0)
    velocity = array([0.0, 0.5, beyond, -0.5, -beyond, -0.25, 10.0])
    paid = sparse_velocity_reward(velocity, array([0.0] * 7), xp)
    assert paid.tolist() == [2.0, 1.5, 0.0, 1.5, 0.0, 1.75, 0.0]


@pytest.mark.parametrize("name", ["cheetah-sparse", "walker-sparse"])
def test_no_step_of_a_sparse_family_pays_more_than_its_ceiling_says(name):
    family = get_family(name)
    before, after, action, tasks = transitions(family, NUM)
    still = family.reward(before, after, 0.0 * action, tasks, np)
    assert still.max() <= 2.0
    assert family.ceiling(tasks[:3]).tolist() == [128.0] * 3


def test_a_humanoid_has_fallen_below_one_metre_and_above_two():
    family, num = get_family("humanoid-dir"), 6
    position = np.zeros((num, family.robot.model.nq))
    position[:, 2] = [0.99, 1.0, 1.4, 2.0, 2.01, np.nextafter(1.0, 0.0)]
    after = State(position, np.zeros((num, family.robot.model.nv)), np.zeros((num, 3)))
    assert family.terminated(after, np).tolist() == [True, False, False, False, True, True]
    assert family.terminated(torches(after), torch).tolist() == [True, False, False, False, True, True]


@pytest.mark.parametrize("name", [name for name in SCALAR if name != "humanoid-dir"])
def test_no_other_family_ends_an_episode(name):
    family = get_family(name)
    _, after, _, _ = transitions(family, 100)
    assert not family.terminated(after, np).any()
    assert not family.terminated(torches(after), torch).any()


@pytest.mark.parametrize("name", SCALAR)
def test_a_step_pays_for_the_states_around_it_and_for_the_control_that_was_applied(name):
    family, rng = get_family(name), np.random.default_rng(0)
    tasks = family.sample_tasks("test", 4, 1)
    env = family.simulate(tasks, seed=3)
    env.reset()
    for _ in range(8):
        before = env.state()
        wild = rng.normal(scale=2.0 * family.robot.control_limit, size=(4, len(family.robot.motors))).astype(np.float32)
        step, after = env.step(wild), env.state()
        control = np.clip(wild, -family.robot.control_limit, family.robot.control_limit)
        ways = (after.position - before.position, after.centre_of_mass - before.centre_of_mass)
        rows = zip(*(array.tolist() for array in (*ways, control, tasks)), strict=True)
        np.testing.assert_allclose(step.reward, [SCALAR[name](*row) for row in rows], rtol=1e-5, atol=1e-5)
        assert np.array_equal(family.robot.observe(after.position, after.velocity), step.observation)


def test_a_cheetah_of_plain_mass_is_paid_what_gymnasiums_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it runs
    twin, rng = TWINS["half_cheetah"](), np.random.default_rng(0)
    env = get_family("cheetah-mass").simulate(np.ones((1, 1), np.float32), seed=5)
    env.reset()
    put(twin, env.state().position[0], env.state().velocity[0])
    for _ in range(50):
        action = rng.uniform(-1.0, 1.0, (1, 6)).astype(np.float32)
        assert twin.step(action[0])[1] == pytest.approx(env.step(action).reward[0], abs=1e-5)


def test_the_centre_of_mass_is_that_of_gymnasiums_humanoid_from_the_first_moment():
    twin, rng = TWINS["humanoid"](), np.random.default_rng(0)
    env = get_family("humanoid-dir").simulate(np.zeros((1, 1), np.float32), seed=5)
    weights = twin.model.body_mass / ROBOTS["humanoid"].model.body_mass.sum()
    for _ in range(2):
        env.reset()
        put(twin, env.state().position[0], env.state().velocity[0])
        for _ in range(20):
            np.testing.assert_allclose(weights @ twin.data.xipos, env.state().centre_of_mass[0], atol=1e-12)
            action = rng.uniform(-0.4, 0.4, (1, 17)).astype(np.float32)
            twin.step(action[0])
            env.step(action)
