"""Every family is an environment that Gymnasium accepts, with the numbers of the batched simulation."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from drawing import has_opengl, needs_opengl
from gymnasium.utils.env_checker import check_env

import ccm_training
from ccm_runtime.errors import ConfigError, SpecError
from ccm_training.envs.gymnasium_env import TaskEnv
from ccm_training.envs.mujoco.family import MujocoFamily
from ccm_training.envs.registration import gymnasium_id
from ccm_training.envs.registry import get_family, list_families

IDS = {family.name: gymnasium_id(family.name) for family in list_families()}
ROBOTS = [family.name for family in list_families() if isinstance(family, MujocoFamily)]
gymnasium.register_envs(ccm_training)


def make(name: str, **settings) -> TaskEnv:
    return gymnasium.make(IDS[name], disable_env_checker=True, **settings).unwrapped


def test_the_ids_are_what_the_documentation_says():
    assert IDS == {
        "sparse-point-robot": "ccm/SparsePointRobot-v0",
        "hard-point-robot": "ccm/HardPointRobot-v0",
        "hard-point-robot-aligned": "ccm/HardPointRobotAligned-v0",
        "signpost-robot": "ccm/SignpostRobot-v0",
        "cheetah-sparse": "ccm/CheetahSparse-v0",
        "cheetah-mass": "ccm/CheetahMass-v0",
        "cheetah-mass-ood": "ccm/CheetahMassOod-v0",
        "cheetah-vel": "ccm/CheetahVel-v0",
        "cheetah-vel-ood": "ccm/CheetahVelOod-v0",
        "walker-sparse": "ccm/WalkerSparse-v0",
        "ant-mass": "ccm/AntMass-v0",
        "humanoid-dir": "ccm/HumanoidDir-v0",
    }


# What a robot sees is unbounded in the family's spec, which the checker remarks on.
@pytest.mark.filterwarnings("ignore:.*Box observation space m[ai][nx]imum value is -?infinit.*:UserWarning")
@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_every_family(name):
    check_env(make(name), skip_render_check=name in ROBOTS and not has_opengl())


@pytest.mark.parametrize("name", [name for name in IDS if "point-robot" in name])
def test_one_environment_gives_the_numbers_of_the_batched_simulation(name):
    family, rng = get_family(name), np.random.default_rng(1)
    tasks = family.sample_tasks("test", 25, seed=3)
    batched = family.make(torch.from_numpy(tasks))
    envs = [make(name) for _ in tasks]
    first = [env.reset(options={"task": task})[0] for env, task in zip(envs, tasks, strict=True)]
    assert np.array_equal(batched.reset().numpy(), np.stack(first))
    direction = rng.uniform(-0.15, 0.15, (len(tasks), 2))
    for step in range(family.horizon):
        actions = (direction + rng.uniform(-0.05, 0.05, direction.shape)).astype(np.float32)
        expected = batched.step(torch.from_numpy(actions))
        got = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        np.testing.assert_allclose(np.stack([each[0] for each in got]), expected.observation.numpy(), atol=1e-6)
        np.testing.assert_allclose([each[1] for each in got], expected.reward.numpy(), atol=1e-6)
        assert {(False, step == family.horizon - 1)} == {each[2:4] for each in got}


def test_a_bare_reset_begins_another_episode_of_the_same_task():
    env = make("hard-point-robot")
    _, given = env.reset(options={"task": [0.5, 2.5]})
    _, again = env.reset()
    assert [0.5, 2.5] == given["task"].tolist() == again["task"].tolist()


def test_a_seed_draws_a_task_and_always_the_same_one():
    env, other = make("hard-point-robot"), make("hard-point-robot")
    tasks = [env.reset(seed=seed)[1]["task"].tolist() for seed in (1, 2, 1)]
    assert tasks[0] == tasks[2] != tasks[1]
    assert tasks[0] == other.reset(seed=1)[1]["task"].tolist()


def test_info_names_the_task_at_every_step():
    env = make("sparse-point-robot")
    env.reset(options={"task": (1.25,)})
    assert env.step(np.zeros(2, np.float32))[4]["task"].tolist() == [1.25]


@pytest.mark.parametrize("name", IDS)
def test_every_family_takes_a_task_and_keeps_it_until_another_is_given(name):
    task = get_family(name).sample_tasks("train", 1, 9)[0]
    env = gymnasium.make(IDS[name])
    assert np.array_equal(task, env.reset(seed=1, options={"task": task})[1]["task"])
    assert np.array_equal(task, env.step(env.action_space.sample())[4]["task"])
    assert np.array_equal(task, env.reset()[1]["task"])
    assert not np.array_equal(task, env.reset(seed=2)[1]["task"])


def trial(env, seed: int) -> np.ndarray:
    """First observations of three episodes, with a few steps in each."""
    begun = []
    for episode in range(3):
        begun.append(env.reset(seed=seed if episode == 0 else None)[0])
        for _ in range(3):
            env.step(env.action_space.high)
    return np.stack(begun)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_seed_decides_on_a_trial_whose_episodes_begin_differently(name):
    env = gymnasium.make(IDS[name])
    first, again, other = (trial(env, seed) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", IDS)
def test_two_environments_step_side_by_side_as_each_does_alone(name):
    both = gymnasium.make_vec(IDS[name], num_envs=2, vectorization_mode="sync")
    alone = [gymnasium.make(IDS[name]) for _ in range(2)]
    observations, infos = both.reset(seed=[7, 8])
    expected = [env.reset(seed=seed) for env, seed in zip(alone, (7, 8), strict=True)]
    assert np.array_equal(observations, np.stack([observation for observation, _ in expected]))
    assert np.array_equal(infos["task"], np.stack([info["task"] for _, info in expected]))
    horizon = get_family(name).horizon
    under_way = np.ones(2, bool)
    for step in range(horizon):
        action = np.stack([env.action_space.low * 0.1 * (step % 3) for env in alone])
        observations, rewards, terminated, truncated, _ = both.step(action)
        for i in np.flatnonzero(under_way):
            observation, reward, *ended, _ = alone[i].step(action[i])
            assert np.array_equal(observations[i], observation)
            assert rewards[i] == pytest.approx(reward)
            assert [terminated[i], truncated[i]] == ended
        under_way &= ~(terminated | truncated)
    assert not under_way.any()
    both.close()


@pytest.mark.parametrize("task", [[0.1], [0.1, 0.2, 0.3], [[0.1, 0.2]], [0.1, float("nan")], "north", [None, 1.0]])
def test_a_task_that_does_not_fit_is_refused(task):
    with pytest.raises(SpecError, match="task: hard-point-robot expects 2 finite numbers"):
        make("hard-point-robot").reset(options={"task": task})


def test_rendering_draws_goals_and_path():
    env = make("hard-point-robot", render_mode="rgb_array")
    env.reset(options={"task": [0.8, 2.0]})
    before = env.render()
    for _ in range(5):
        env.step(env.action_space.high)
    after = env.render()
    assert after.shape == (256, 256, 3)
    assert after.dtype == np.uint8
    assert (before != after).any()
    assert make("hard-point-robot").render() is None


@needs_opengl
@pytest.mark.parametrize("name", ROBOTS)
def test_robots_are_seen_to_move(name):
    env = gymnasium.make(IDS[name], render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(5):
        env.step(env.action_space.high)
    after = env.render()
    assert (after.shape, after.dtype) == ((360, 480, 3), np.uint8)
    assert (before != after).any()
    assert np.ptp(after) > 100
    env.close()


def test_a_render_mode_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="expected 'rgb_array' or None, got 'human'"):
        TaskEnv("sparse-point-robot", render_mode="human")


def test_making_and_stepping_one_needs_no_torch():
    script = (
        "import sys, gymnasium, ccm_training; env = gymnasium.make('ccm/SparsePointRobot-v0'); "
        "env.reset(seed=0); env.step(env.action_space.sample()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_gymnasium_the_families_can_still_be_imported():
    script = "import sys; sys.modules['gymnasium'] = None; import ccm_training.envs.registry"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
