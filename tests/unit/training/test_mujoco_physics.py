"""The robots move as Gymnasium's do, and as mechanics says when their masses change."""

import copy
import re

import mujoco
import numpy as np
import pytest
from robot_twins import ROBOTS, TWINS, put, simulations, states_of, untouched

from ccm_training.envs.registry import get_family

NUM, STEPS = 3, 200
# What a picture shows and what things are called; `n...` and `...adr` are sizes and places of these.
LOOKS = re.compile(r"n[a-z_]+|(cam|light|mat|tex|key|numeric|names?)_\w+|geom_(rgba|matid|user)|signature")
EDITED = ("body_mass", "body_inertia", "dof_damping", "geom_friction")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it runs


def numbers_of(struct):
    """Every number and array that steps may depend on, by name."""
    named = {name: getattr(struct, name) for name in dir(struct) if not name.startswith("_")}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray | int | float)}


@pytest.mark.parametrize("name", ROBOTS)
def test_a_model_equals_gymnasiums_field_by_field(name):
    expected, got = TWINS[name]().model, ROBOTS[name].model
    theirs, mine = numbers_of(expected), numbers_of(got)
    fields = {field for field in theirs if not LOOKS.fullmatch(field)}
    assert len(fields) > 200
    assert {field for field in fields if not np.array_equal(theirs[field], mine[field])} == set()
    for part in ("opt", "stat"):
        theirs, mine = numbers_of(getattr(expected, part)), numbers_of(getattr(got, part))
        assert {field for field in theirs if not np.array_equal(theirs[field], mine[field])} == set()
    assert (expected.nq, expected.nv, expected.nu) == (got.nq, got.nv, got.nu)


def edited(batch):
    """Scale fields differently in every simulation."""
    rng = np.random.default_rng(2)
    for field in EDITED:
        values = batch.expand(field)
        values *= rng.uniform(0.6, 1.6, values.shape[:2] + (1,) * (values.ndim - 2))
    batch.set_const()


@pytest.mark.parametrize("edit", [untouched, edited])
@pytest.mark.parametrize("name", ROBOTS)
def test_states_equal_gymnasiums_to_the_last_bit(name, edit):
    robot, rng = ROBOTS[name], np.random.default_rng(1)
    ours = simulations(robot, NUM, edit, num_threads=2)
    envs = [TWINS[name]() for _ in range(NUM)]
    for index, env in enumerate(envs):
        if edit is edited:
            for field in EDITED:
                getattr(env.model, field)[:] = ours._batch.expanded(field)[index]
            mujoco.mj_setConst(env.model, env.data)
        env.reset(seed=index)
    start = states_of(envs)
    ours.place(*start)
    for env, position, velocity in zip(envs, *start, strict=True):
        put(env, position, velocity)
    for _ in range(STEPS):
        actions = rng.uniform(-1.0, 1.0, (NUM, len(robot.motors))).astype(np.float32) * robot.control_limit
        ours.step(actions)
        for env, action in zip(envs, actions, strict=True):
            env.step(action)
    expected, got = states_of(envs), ours.state()
    assert np.array_equal(expected[0], got.position)
    assert np.array_equal(expected[1], got.velocity)
    assert np.abs(expected[0] - start[0]).max() > 0.1  # it did move


@pytest.mark.parametrize("name", ROBOTS)
def test_one_seed_begins_an_episode_where_gymnasium_does(name):
    env, robot = TWINS[name](), ROBOTS[name]
    for seed in range(3):
        env.reset(seed=seed)
        position, velocity = robot.initial_state(np.random.default_rng(seed))
        assert np.array_equal(env.data.qpos, position)
        assert np.array_equal(env.data.qvel, velocity)


@pytest.mark.parametrize("name", ROBOTS)
def test_observations_are_gymnasiums_without_contact_forces_and_inertias(name):
    env, robot, rng = TWINS[name](), ROBOTS[name], np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(5):
        expected = env.step(rng.uniform(env.action_space.low, env.action_space.high))[0]
        seen = robot.observe(env.data.qpos[None], env.data.qvel[None])
        size = robot.observation.size
        assert np.array_equal(expected[:size].astype(np.float32), seen[0])
    fast = robot.observe(env.data.qpos[None], np.full((1, robot.model.nv), 25.0))[0, -robot.model.nv :]
    assert {10.0 if name == "walker2d" else 25.0} == set(fast)


MASSES = {"cheetah-mass": [[0.8], [1.0], [1.2]], "cheetah-sparse": [[1.0, 0.4], [1.0, 1.0], [1.0, 1.7]]}
HEAVY = {**MASSES, "ant-mass": [[0.25], [1.0], [0.9]]}


def models(name, tasks):
    """The model of each task's simulation."""
    env = get_family(name).simulate(np.array(tasks, np.float32))
    return [env._batch.get_model(index) for index in range(len(tasks))]


def rigid(model):
    """Without gravity, contacts, limits, springs, damping and rotors: mass is all that resists."""
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_GRAVITY | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    for field in (model.dof_damping, model.dof_armature, model.jnt_stiffness):
        field[:] = 0.0
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def acceleration(model, force, position):
    """Accelerations under generalized forces, at rest, `[nv]`."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qfrc_applied[:] = position, force
    mujoco.mj_forward(model, data)
    return data.qacc.copy()


@pytest.mark.parametrize("name", MASSES)
def test_a_force_accelerates_a_body_by_one_over_its_mass(name):
    rng, found = np.random.default_rng(0), [rigid(model) for model in models(name, MASSES[name])]
    for _ in range(5):
        force = rng.normal(size=found[0].nv)  # forces on the root and torques of all joints: inertia must scale too
        position = found[0].qpos0 + rng.uniform(-0.4, 0.4, found[0].nq)
        light, plain, heavy = (acceleration(model, force, position) for model in found)
        factor = np.array(MASSES[name])[:, -1]
        np.testing.assert_allclose(plain / factor[0], light, rtol=1e-5)
        np.testing.assert_allclose(plain / factor[2], heavy, rtol=1e-5)


def test_mass_and_inertia_scale_together_and_what_follows_from_them_is_renewed():
    plain = ROBOTS["half_cheetah"].model
    for factor, model in zip((0.8, 1.2), models("cheetah-mass", [[0.8], [1.2]]), strict=True):
        np.testing.assert_allclose(factor * plain.body_mass, model.body_mass, rtol=1e-6)
        np.testing.assert_allclose(factor * plain.body_inertia, model.body_inertia, rtol=1e-6)
        np.testing.assert_allclose(factor * 14.0, model.body_subtreemass[0], rtol=1e-6)
        edited = copy.copy(plain)
        edited.body_mass[:], edited.body_inertia[:] = model.body_mass, model.body_inertia
        mujoco.mj_setConst(edited, mujoco.MjData(edited))
        expected, got = numbers_of(edited), numbers_of(model)
        assert {field for field in expected if not np.array_equal(expected[field], got[field])} == set()
        assert not np.array_equal(plain.dof_invweight0, model.dof_invweight0)


def test_front_legs_scale_by_m_and_hind_legs_by_one_over_m():
    plain, (model,) = ROBOTS["ant"].model, models("ant-mass", [[0.4]])
    share = model.body_mass[1:] / plain.body_mass[1:]
    np.testing.assert_allclose([1.0] + 6 * [0.4] + 6 * [2.5], share, rtol=1e-6)


def test_a_torque_turns_an_ants_front_legs_by_one_over_m_and_its_hind_legs_by_m():
    plain, model = (rigid(each) for each in models("ant-mass", [[1.0], [0.4]]))
    inertia = []
    for each in (plain, model):
        data, full = mujoco.MjData(each), np.zeros((each.nv, each.nv))
        mujoco.mj_forward(each, data)
        mujoco.mj_fullM(each, data, full)
        inertia.append(full)
    for leg in range(4):  # the torso held fast: only the leg's own entries of the inertia resist
        own = slice(6 + 2 * leg, 8 + 2 * leg)
        before, after = (np.linalg.solve(full[own, own], [1.0, -0.5]) for full in inertia)
        np.testing.assert_allclose(before / (0.4 if leg < 2 else 2.5), after, rtol=1e-6)


@pytest.mark.parametrize("name", HEAVY)
def test_all_masses_fall_alike(name):
    robot, tasks = get_family(name).robot, np.array(HEAVY[name], np.float32)
    env = get_family(name).simulate(tasks)
    high = robot.model.qpos0.copy()
    high[1 if robot.planar else 2] += 10.0
    for joint in np.flatnonzero(robot.model.jnt_limited):  # an ant's legs cannot be straight
        place, (low, top) = robot.model.jnt_qposadr[joint], robot.model.jnt_range[joint]
        high[place] = high[place] if low < high[place] < top else (low + top) / 2.0
    env.place(np.tile(high, (len(tasks), 1)), np.zeros((len(tasks), robot.model.nv)))
    env.step(np.zeros((len(tasks), len(robot.motors)), np.float32))
    velocity = env.state().velocity
    fall = velocity[:, 1 if robot.planar else 2]
    np.testing.assert_allclose(-9.81 * robot.step_s * np.ones(len(tasks)), fall, rtol=1e-9)


@pytest.mark.parametrize("name", HEAVY)
def test_a_task_changes_its_own_simulation_and_no_model_that_is_shared(name):
    before = ROBOTS[get_family(name).robot.name].model.body_mass.copy()
    found = models(name, HEAVY[name])
    assert np.array_equal(before, get_family(name).robot.model.body_mass)
    assert len({model.body_mass.tobytes() for model in found}) == len(found)
