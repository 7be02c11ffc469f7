"""A user's environments step side by side as each does alone; what they may not do is refused and named."""

import gc

import gymnasium
import numpy as np
import pytest
import torch
from drifts import Drift, Drifts, with_env
from gymnasium import spaces

from ccm_runtime.errors import CcmError, FamilyError, RenderingError, SimulationError
from ccm_training.envs.gymnasium_family import TaskWrapper

WINDS = np.array([[-0.5], [0.25], [1.0]], np.float32)


def push(env, action, steps=1):
    for _ in range(steps):
        after = env.step(np.full((env.num_envs, 1), action, np.float32))
    return after


def test_specs_come_from_the_environment_s_spaces():
    family = Drifts()
    assert (family.observation.size, family.observation.low, family.observation.high) == (1, (-20.0,), (20.0,))
    assert (family.action.labels, family.action.low, family.action.high) == (("action_0",), (-1.0,), (1.0,))
    assert family.name == "drifts:Drifts"


def test_entries_have_the_names_and_units_that_the_author_gives():
    class Named(Drifts):
        observation_labels, observation_units = ("x",), ("m",)
        action_units = ("m/s",)

    family = Named()
    assert (family.observation.entries, family.action.entries) == (["x (m)"], ["action_0 (m/s)"])
    assert (Drifts().observation.entries, Drifts().action.units) == (["observation_0"], ("",))


@pytest.mark.parametrize("attribute", ["observation_labels", "observation_units", "action_labels", "action_units"])
@pytest.mark.parametrize("given", [("rad", "rad/s"), "m", (1,), None])
def test_names_and_units_that_are_not_one_for_each_entry_are_refused(attribute, given):
    told = refusal(type("Misnamed", (Drifts,), {attribute: given})())
    assert f": {attribute} is {given!r}; expected a list of texts, one for each entry of the space (1), or ()" in told


def test_bounds_at_infinity_or_at_the_largest_float_are_none():
    most = np.finfo(np.float32).max
    space = spaces.Box(np.array([-np.inf, -most], np.float32), np.array([np.inf, most], np.float32))
    assert with_env(observation_space=space)().observation.low == (None, None)


def test_simulations_follow_the_environments():
    env = Drifts().simulate(WINDS, seed=4)
    first = env.reset().copy()
    after = push(env, 0.5)
    np.testing.assert_allclose(after.observation, first + 0.1 * (0.5 + WINDS), rtol=1e-5)
    np.testing.assert_allclose(after.reward, -np.abs(after.observation[:, 0] - 1.0), rtol=1e-5)
    assert after.observation.dtype == after.reward.dtype == np.float32
    assert not after.terminated.any()


def test_actions_beyond_their_bounds_count_as_the_bounds():
    one, other = (Drifts().simulate(WINDS) for _ in range(2))
    one.reset()
    other.reset()
    assert np.array_equal(push(one, 7.0).observation, push(other, 1.0).observation)


def test_earlier_rows_keep_their_numbers():
    env = Drifts().simulate(WINDS)
    rows = [env.reset(), push(env, 1.0).observation, push(env, 1.0).observation]
    kept = [row.copy() for row in rows]
    push(env, -1.0)
    env.reset(np.array([True, False, False]))
    assert all(np.array_equal(row, before) for row, before in zip(rows, kept, strict=True))


def test_a_simulation_s_seed_and_episode_decide_its_start():
    starts = [Drifts().simulate(WINDS, seed) for seed in (0, 1)]
    first, shifted = (env.reset()[:, 0] for env in starts)
    assert np.array_equal(first[1:], shifted[:-1])
    assert not np.array_equal(first, starts[0].reset()[:, 0])


@pytest.mark.parametrize("seed", [2**63 - 1, 2**64 - 1])
def test_the_largest_seed_has_others_behind_it(seed):
    together = Drifts().simulate(WINDS, seed).reset()
    each = [Drifts().simulate(WINDS[i : i + 1], (seed + i) % 2**64).reset()[0] for i in range(3)]
    assert np.array_equal(together, each)


def test_what_has_terminated_stands_still_until_its_reset():
    def ends(self):
        return self.wind > 0.5 and self.num_steps == 2

    env = with_env(terminated=ends)().simulate(WINDS)
    env.reset()
    last = push(env, 0.5, steps=2)
    assert last.terminated.tolist() == [False, False, True]
    later = push(env, 0.5, steps=3)
    assert later.terminated.tolist() == [False, False, True]
    assert (later.observation[2], later.reward[2]) == (last.observation[2], 0.0)
    assert not np.array_equal(later.observation[:2], last.observation[:2])
    env.reset(np.array([False, False, True]))
    assert not push(env, 0.5).terminated.any()


def test_environments_are_lent_again_once_their_simulations_are_forgotten():
    made = []

    class Counting(Drifts):
        def make_env(self):
            made.append(1)
            return super().make_env()

    family = Counting()
    for _ in range(5):
        env = family.simulate(WINDS)
        env.reset()
        del env
        gc.collect()
    assert len(made) == 3
    both = family.simulate(WINDS), family.simulate(WINDS)
    assert len(made) == 6
    del both


def test_tensors_carry_the_numbers_of_the_arrays():
    family = Drifts()
    arrays, tensors = family.simulate(WINDS, 3), family.make(torch.from_numpy(WINDS), 3)
    assert np.array_equal(arrays.reset(), tensors.reset().numpy())
    expected, found = push(arrays, 0.3), tensors.step(torch.full((3, 1), 0.3))
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(expected, found, strict=True))


def test_an_oracle_is_told_the_task_between_minus_1_and_1():
    assert Drifts().task_features(WINDS).tolist() == WINDS.tolist()


def test_a_wrapper_puts_the_task_into_an_environment_that_knows_none():
    told = []
    env = TaskWrapper(gymnasium.make("Pendulum-v1"), lambda env, task: told.append((env.unwrapped, task.tolist())))
    env.reset(seed=0)
    assert told == []
    env.reset(seed=0, options={"task": [9.5], "x_init": 0.0, "y_init": 0.0})
    assert told == [(env.unwrapped, [9.5])]
    assert env.unwrapped.state.tolist() == [0.0, 0.0]


def refusal(family, act=lambda family: family.simulate(family.sample_tasks("train", 3, 0))):
    with pytest.raises(CcmError) as refused:
        act(family)
    assert isinstance(refused.value, FamilyError | SimulationError | RenderingError)
    return str(refused.value)


@pytest.mark.parametrize("kind", ["observation", "action"])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Box(0, 255, (4,), np.uint8),
        spaces.Box(-1.0, 1.0, (2, 2), np.float32),
        spaces.Dict({"x": spaces.Box(-1.0, 1.0, (1,))}),
    ],
    ids=lambda space: type(space).__name__ + str(space.shape),
)
def test_a_space_that_is_no_flat_box_is_refused(kind, space):
    told = refusal(with_env(**{f"{kind}_space": space})())
    assert f"the {kind} space is {space}; expected a Box of one dimension and floating type" in told
    assert told.endswith(
        {"observation": "gymnasium.wrappers.FlattenObservation", "action": "gymnasium.ActionWrapper"}[kind]
    )


def test_unbounded_actions_are_refused():
    told = refusal(with_env(action_space=spaces.Box(-np.inf, np.inf, (1,), np.float32))())
    assert "action_0 has the bounds [None, None]; expected a finite low < high for every entry" in told


def test_a_truncation_before_the_horizon_is_refused():
    env = with_env(truncated=lambda self: self.num_steps == 4)().simulate(WINDS)
    env.reset()
    push(env, 0.0, steps=3)
    told = refusal(None, lambda _: push(env, 0.0))
    assert "truncated an episode after 4 of 10 steps" in told
    assert "max_episode_steps=-1" in told


def test_a_truncation_at_the_horizon_is_the_family_s_own():
    env = with_env(truncated=lambda self: self.num_steps == 10)().simulate(WINDS)
    env.reset()
    assert not push(env, 0.0, steps=10).terminated.any()


@pytest.mark.parametrize(
    ("flaw", "what"),
    [
        ({"paid": lambda self: float("nan") if self.wind > 0.5 and self.num_steps == 2 else 0.0}, "reward [nan]"),
        (
            {"seen": lambda self: np.float32([np.inf if self.wind > 0.5 and self.num_steps == 2 else 0.0])},
            "observation [inf]",
        ),
    ],
)
def test_what_is_not_finite_is_refused_with_its_task_and_step(flaw, what):
    family = with_env(**flaw)()
    env = family.simulate(WINDS)
    env.reset()
    push(env, 0.0)
    told = refusal(None, lambda _: push(env, 0.0))
    assert told.startswith(f"{family.name}: expected finite numbers, got {what} at step 2 of an episode of task [1]")


@pytest.mark.parametrize(
    ("flaw", "told"),
    [
        (
            {"step": lambda self, _: (self.seen(), 0.0, False, {})},
            "step() gave a tuple of 4; expected a tuple of 5, observation, reward, terminated, truncated and info",
        ),
        (
            {"paid": lambda _: np.zeros(2)},
            "step() gave the reward array([0., 0.]) and terminated False; expected one number",
        ),
        ({"paid": lambda _: None}, "step() gave the reward None and terminated False; expected one number"),
        (
            {"terminated": lambda _: np.ones(2, bool)},
            "terminated array([ True,  True]); expected one number, and True or False",
        ),
        (
            {"seen": lambda self: {"x": 1.0} if self.num_steps else np.zeros(1)},
            "an observation is dict; expected 1 number,",
        ),
    ],
)
def test_a_step_that_is_not_gymnasium_s_is_told(flaw, told):
    env = with_env(**flaw)().simulate(WINDS)
    env.reset()
    assert told in refusal(None, lambda _: push(env, 0.0))


def test_a_reset_without_an_info_is_told():
    env = with_env(reset=lambda _, **__: np.zeros(2))().simulate(WINDS)
    assert "reset() gave ndarray; expected a tuple of 2, observation and info" in refusal(None, lambda _: env.reset())


def test_an_observation_of_another_shape_than_its_space_is_refused():
    env = with_env(seen=lambda _: np.zeros(2, np.float32))().simulate(WINDS)
    assert "an observation has shape [2]; expected [1]" in refusal(None, lambda _: env.reset())


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (np.zeros(3), "gave shape [3]; expected [3, 1]"),
        (np.zeros((3, 2)), "gave shape [3, 2]; expected [3, 1]"),
        ([[0.0], [3.0], [0.0]], "gave wind 3, outside [-1.0, 1.0]"),
        ([[0.0], [np.nan], [0.0]], "gave wind nan, outside [-1.0, 1.0]"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(drawn, words):
    class Misdrawn(Drifts):
        def draw_tasks(self, rng, num, split):
            return drawn

    assert words in refusal(Misdrawn())


def test_what_is_no_environment_is_refused():
    class Wrong(Drifts):
        def make_env(self):
            return Drift

    assert "make_env() gave type; expected a gymnasium.Env" in refusal(Wrong())


def test_what_draws_nothing_says_how_it_might():
    env = with_env(render=lambda _: None)().simulate(WINDS)
    env.reset()
    assert 'render_mode="rgb_array"' in refusal(None, lambda _: env.frame(0))


def test_an_environment_that_cannot_draw_says_so():
    env = with_env(render=gymnasium.Env.render)().simulate(WINDS)
    env.reset()
    assert "the environment has no render()" in refusal(None, lambda _: env.frame(0))


def test_a_picture_is_the_environment_s():
    env = with_env(render=lambda self: np.full((4, 6, 3), self.num_steps, np.uint8))().simulate(WINDS)
    env.reset()
    push(env, 0.0, steps=3)
    assert env.frame(1).shape == (4, 6, 3)
    assert (env.frame(1) == 3).all()
