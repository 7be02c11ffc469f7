"""Simulations are functions of their own task, seed and actions; tasks of their split, number and seed."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch

import ccm_training
from ccm_runtime.errors import SimulationError
from ccm_training.envs.mujoco.family import MujocoFamily
from ccm_training.envs.mujoco.simulation import MujocoEnv
from ccm_training.envs.registration import gymnasium_id
from ccm_training.envs.registry import list_families
from ccm_training.envs.simulated import SimulatedTask

FAMILIES = {family.name: family for family in list_families() if isinstance(family, MujocoFamily)}
ONE_A_ROBOT = ("cheetah-mass", "walker-sparse", "ant-mass", "humanoid-dir")
STEPS = 6
gymnasium.register_envs(ccm_training)


def script(family, num, seed=0):
    """Random actions, `[STEPS, num, act]`; those of the first simulations do not depend on how many there are."""
    columns = [np.random.default_rng((seed, i)).uniform(-1, 1, (STEPS, family.action.size)) for i in range(num)]
    return (np.stack(columns, 1) * family.robot.control_limit).astype(np.float32)


def roll(env, actions):
    """Observations, rewards and endings of an episode, each `[steps, n, ...]`, in numpy."""
    first = env.reset()
    steps = [env.step(action) for action in actions]
    columns = [np.stack(column) for column in zip(*steps, strict=True)]
    return [np.concatenate([np.asarray(first)[None], columns[0]]), *columns[1:]]


def assert_same(expected, got):
    for mine, other in zip(expected, got, strict=True):
        assert np.array_equal(mine, other)


def rows(outcome, chosen):
    return [array[:, chosen] for array in outcome]


@pytest.fixture(scope="module")
def alone():
    """64 simulations of each robot on one thread."""

    def run(name):
        if name not in done:
            family = FAMILIES[name]
            tasks = family.sample_tasks("train", 64, 0)
            done[name] = tasks, script(family, 64), roll(MujocoEnv(family, tasks, 7, 1), script(family, 64))
        return done[name]

    done = {}
    return run


@pytest.mark.parametrize("num_threads", [2, 4])
@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_rows_do_not_depend_on_the_number_of_threads(alone, name, num_threads):
    tasks, actions, expected = alone(name)
    assert_same(expected, roll(MujocoEnv(FAMILIES[name], tasks, 7, num_threads), actions))


@pytest.mark.parametrize("num", [1, 16])
@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_rows_do_not_depend_on_the_number_of_simulations(alone, name, num):
    tasks, actions, expected = alone(name)
    assert_same(rows(expected, slice(num)), roll(MujocoEnv(FAMILIES[name], tasks[:num], 7, 1), actions[:, :num]))


@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_rows_do_not_depend_on_their_neighbours(alone, name):
    tasks, actions, expected = alone(name)
    others = tasks.copy()
    others[1:16] = tasks[17:32]
    changed = np.concatenate([actions[:, :1], -actions[:, 1:16]], 1)
    assert_same(rows(expected, slice(1)), rows(roll(MujocoEnv(FAMILIES[name], others[:16], 7, 2), changed), slice(1)))


@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_simulation_i_is_a_function_of_the_seed_plus_i(alone, name):
    tasks, actions, expected = alone(name)
    shifted = roll(MujocoEnv(FAMILIES[name], tasks[5:10], 12, 1), actions[:, 5:10])
    assert_same(rows(expected, slice(5, 10)), shifted)
    elsewhere = roll(MujocoEnv(FAMILIES[name], tasks[5:10], 13, 1), actions[:, 5:10])
    assert not (shifted[0][0] == elsewhere[0][0]).any(-1).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_task_begins_differently_and_every_episode_too(name):
    family = FAMILIES[name]
    env = family.simulate(np.repeat(family.sample_tasks("train", 1, 0), 8, 0), seed=1)
    first, second = env.reset(), env.reset()
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 16
    again = family.simulate(np.repeat(family.sample_tasks("train", 1, 0), 8, 0), seed=1)
    assert_same([first, second], [again.reset(), again.reset()])


@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_a_masked_reset_leaves_the_others_alone(name):
    family = FAMILIES[name]
    tasks, actions, mask = family.sample_tasks("train", 4, 0), script(family, 4), np.array([True, False, False, True])
    plain, env = family.simulate(tasks, 3), family.simulate(tasks, 3)
    began = env.reset()
    assert_same([began], [plain.reset()])
    for step in range(2):
        plain.step(actions[step])
        before = env.step(actions[step]).observation
    after = env.reset(mask)
    assert_same([before[~mask]], [after[~mask]])
    assert (before[mask] != after[mask]).any(-1).all()
    assert (began[mask] != after[mask]).any(-1).all()  # another episode, begun elsewhere
    for step in range(2, STEPS):
        expected, got = plain.step(actions[step]), env.step(actions[step])
        assert_same([field[~mask] for field in expected], [field[~mask] for field in got])
    # Each simulation counts its own episodes: those that began twice are where a second reset of all would put them.
    second = family.simulate(tasks, 3)
    second.reset()
    assert_same([second.reset()[mask]], [after[mask]])


def test_an_empty_mask_resets_nothing():
    env = FAMILIES["cheetah-mass"].simulate(np.ones((2, 1), np.float32))
    before = env.reset()
    assert_same([before], [env.reset(np.zeros(2, bool))])


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_and_numpy_simulations_agree(name):
    family = FAMILIES[name]
    tasks, actions = family.sample_tasks("test", 3, 0), script(family, 3)
    in_torch = family.make(torch.from_numpy(tasks), seed=4)
    assert in_torch.num_envs == 3
    assert_same(roll(family.simulate(tasks, 4), actions), roll(in_torch, torch.from_numpy(actions)))
    again = in_torch.reset(torch.tensor([False, True, False]))
    assert again.dtype == torch.float32


@pytest.mark.parametrize("name", FAMILIES)
def test_one_task_alone_in_either_shell_gives_the_numbers_of_the_batch(name):
    family = FAMILIES[name]
    task, actions = family.sample_tasks("test", 1, 0), script(family, 1)
    env = gymnasium.make(gymnasium_id(name), disable_env_checker=True).unwrapped
    chance = int(np.random.default_rng(2).integers(2**31))  # what the shell draws from its seed
    single, expected = SimulatedTask(family, task[0], seed=chance), family.simulate(task, seed=chance)
    first = expected.reset()[0]
    assert np.array_equal(first, env.reset(seed=2, options={"task": task[0]})[0])
    assert np.array_equal(first, single.reset()[0])
    for action in actions:
        step = expected.step(action)
        for shell in (env, single):
            observation, reward, terminated, truncated, _ = shell.step(action[0])
            assert np.array_equal(step.observation[0], observation)
            assert (step.reward[0], step.terminated[0], False) == (reward, terminated, truncated)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_step_returned_is_not_written_to_again(name):
    family = FAMILIES[name]
    env, actions = family.simulate(family.sample_tasks("train", 2, 0)), script(family, 2)
    seen = [env.reset(), *(env.step(action).observation for action in actions)]
    copies = [array.copy() for array in seen]
    env.step(actions[0])
    env.reset()
    assert_same(copies, seen)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("name", ONE_A_ROBOT)
def test_an_unstable_simulation_is_an_error_that_names_its_task(name, num_threads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it runs
    family = FAMILIES[name]
    tasks = family.sample_tasks("train", 3, 0)
    env, still = MujocoEnv(family, tasks, 0, num_threads), np.zeros((3, family.action.size), np.float32)
    env.reset()
    state = env.state()
    state.velocity[1] = 1e12
    env.place(state.position, state.velocity)
    with pytest.raises(SimulationError, match="became unstable") as caught:
        env.step(still)
    assert str(tasks[1].tolist()) in str(caught.value)
    assert name in str(caught.value)
    env.reset()
    env.step(still)  # and a reset begins anew


def test_what_has_fallen_may_become_unstable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = FAMILIES["humanoid-dir"]
    env, still = family.simulate(family.sample_tasks("train", 2, 0)), np.zeros((2, family.action.size), np.float32)
    env.reset()
    fallen = env.state()
    fallen.position[1, 2] = 0.5
    env.place(fallen.position, fallen.velocity)
    assert [False, True] == env.step(still).terminated.tolist()
    env._velocity[1] = 1e12
    assert not env.step(still).terminated[0]
    env.reset()
    env._velocity[1] = 1e12
    with pytest.raises(SimulationError, match="became unstable"):
        env.step(still)


@pytest.mark.parametrize("name", FAMILIES)
def test_specs_are_those_of_the_model(name):
    family = FAMILIES[name]
    robot, model = family.robot, family.robot.model
    joints = [model.joint(index).name for index in range(model.njnt)]
    root = 3 if robot.planar else 1
    assert list(robot.joints) == joints[root:]
    assert [model.actuator(index).name for index in range(model.nu)] == list(family.action.labels)
    driven = [model.joint(model.actuator_trnid[index, 0]).name for index in range(model.nu)]
    assert driven == list(family.action.labels)
    assert np.array_equal(
        model.actuator_ctrlrange.T.astype(np.float32), [family.action.low_array, family.action.high_array]
    )
    assert robot.step_s == pytest.approx(model.opt.timestep * robot.frame_skip, rel=1e-12)
    assert family.observation.size == model.nq + model.nv - robot.num_hidden
    assert list(family.observation.labels[-len(robot.joints) :]) == [f"{joint} velocity" for joint in robot.joints]
    assert len(set(family.observation.labels)) == family.observation.size
    assert family.simulate(family.sample_tasks("ood", 2, 0)).reset().shape == (2, family.observation.size)


def test_an_action_that_is_no_number_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = FAMILIES["cheetah-mass"].simulate(np.ones((2, 1), np.float32))
    env.reset()
    with pytest.raises(SimulationError, match="its actions or the task's parameters are beyond"):
        env.step(np.full((2, 6), np.nan, np.float32))


FORWARD, PARTS = ((0.75, 1.25),), ((0.2, 0.5), (1.5, 1.8))
# Of each parameter: where its training, test and out-of-distribution values lie (SPEC, section 3).
RANGES = {
    "cheetah-sparse": [(((0.0, 3.0),), ((0.0, 3.0),), ((3.0, 3.5),)), (((0.2, 1.8),),) * 3],
    "cheetah-mass": [(FORWARD, FORWARD, PARTS)],
    "cheetah-mass-ood": [(FORWARD, PARTS, PARTS)],
    "cheetah-vel": [(((0.0, 3.0),), ((0.0, 3.0),), ((3.0, 3.5),))],
    "cheetah-vel-ood": [(((0.0, 2.5),), ((2.5, 3.0),), ((2.5, 3.0),))],
    "walker-sparse": [(((0.0, 2.0),), ((0.0, 2.0),), ((2.0, 2.5),))],
    "ant-mass": [(((0.85, 1.0),), ((0.85, 1.0),), ((0.2, 0.6),))],
    "humanoid-dir": [(((0.0, 2.0 * np.pi),),) * 3],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_of_each_split_are_spread_evenly_over_the_ranges_that_the_family_documents(name):
    for place, split in enumerate(("train", "test", "ood")):
        tasks = FAMILIES[name].sample_tasks(split, 60, seed=0)
        for column, ranges in zip(tasks.T, RANGES[name], strict=True):
            widths = [high - low for low, high in ranges[place]]
            for (low, high), width in zip(ranges[place], widths, strict=True):
                inside = (column >= low - 1e-6) & (column <= high + 1e-6)
                assert inside.sum() == pytest.approx(60 * width / sum(widths), abs=1.5)
                share = np.sort((column[inside] - low) / width)
                np.testing.assert_allclose(np.linspace(0.0, 1.0, len(share)), share, atol=2.0 / len(share))


@pytest.mark.parametrize("name", FAMILIES)
def test_splits_are_disjoint_functions_of_their_seed_within_the_specs_bounds(name):
    family = FAMILIES[name]
    drawn = {split: family.sample_tasks(split, 200, seed=0) for split in ("train", "test", "ood")}
    together = np.concatenate(list(drawn.values()))
    assert len(np.unique(together, axis=0)) == 600
    assert (together >= family.task.low_array).all()
    assert (together <= family.task.high_array).all()
    assert np.array_equal(drawn["test"], family.sample_tasks("test", 200, seed=0))
    assert not np.array_equal(drawn["test"], family.sample_tasks("test", 200, seed=1))
    features = family.task_features(together)
    assert (features >= -1.0001).all()
    assert (features <= 1.0001).all()
    assert len(np.unique(features, axis=0)) == 600


@pytest.mark.parametrize("missing", ["mujoco", "mujoco.batch"])
def test_without_mujoco_specs_and_tasks_remain_and_a_simulation_says_what_to_install(missing):
    program = f"""
import sys
sys.modules[{missing!r}] = None
from ccm_runtime.errors import DependencyMissingError
from ccm_training.envs.registry import get_family
family = get_family("cheetah-mass")
tasks = family.sample_tasks("train", 2, 0)
assert family.observation.size == 17 and family.action.size == 6
try:
    family.simulate(tasks)
except DependencyMissingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "the half_cheetah robot needs MuJoCo 3.17 or newer" in done.stdout
    assert "pip install 'ccm[gym]'" in done.stdout  # a client needs no torch
