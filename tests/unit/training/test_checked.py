"""What a user's family gives is checked when it comes, and told as its fault; what is as it should be passes."""

import sys

import numpy as np
import pytest
import torch

from ccm_runtime.errors import FamilyError, SimulationError
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.bridge import TorchEnv
from ccm_training.envs.checked import check_specs, checked
from ccm_training.envs.point_robot import HardPointRobot

NAME = "robots:Mine"
ATTRIBUTES = ("task", "observation", "action", "horizon", "explore_episodes")
TASKS = HardPointRobot("mine", aligned=True).sample_tasks("train", 3, 0)


def breaks(*_):
    raise KeyError("a map\nis missing")


class Altering(HardPointRobot):
    """A family of which one method, or one call of its simulations, gives something else than it should."""

    def __init__(self, call, alter):
        super().__init__("mine", aligned=True)
        vars(self).update(call=call, alter=alter)

    def sample_tasks(self, split, num, seed):
        return self.altered("sample_tasks", super().sample_tasks(split, num, seed))

    def task_features(self, tasks):
        return self.altered("task_features", super().task_features(tasks))

    def ceiling(self, tasks):
        return self.altered("ceiling", super().ceiling(tasks))

    def simulate(self, tasks, seed=0):
        return self.altered("simulate", AlteringEnv(super().simulate(tasks, seed), self.altered))

    def make(self, tasks, seed=0):
        return self.altered("make", TorchEnv(self.simulate(tasks.numpy(), seed), tasks.device))

    def altered(self, call, value):
        return self.alter(value) if call == self.call else value


class AlteringEnv:
    def __init__(self, env, altered):
        self.env, self.altered, self.num_envs = env, altered, env.num_envs

    def reset(self, mask=None):
        return self.altered("reset", self.env.reset(mask))

    def step(self, action):
        return self.altered("step", self.env.step(action))

    def frame(self, index):
        return self.altered("frame", np.zeros((8, 8, 3), np.uint8))


def family(call=None, alter=None):
    own = Altering(call, alter)
    return checked(own, NAME, {name: getattr(own, name) for name in ATTRIBUTES})


def run(own):
    """Make each call of a family."""
    own.sample_tasks("train", 3, 0)
    own.task_features(TASKS)
    own.ceiling(TASKS)
    for env, action in (
        (own.simulate(TASKS), np.zeros((3, 2), np.float32)),
        (own.make(torch.from_numpy(TASKS)), torch.zeros(3, 2)),
    ):
        env.reset()
        env.step(action)
        env.frame(0)


@pytest.mark.parametrize("call", ["sample_tasks('train', 3, 0)", "task_features()", "ceiling()"])
@pytest.mark.parametrize("fail", [breaks, lambda *_: sys.exit(3)], ids=["raises", "exits"])
def test_a_method_that_fails_is_told_with_the_line(call, fail):
    with pytest.raises(FamilyError) as failed:
        run(family(call.partition("(")[0], fail))
    line = fail.__code__.co_firstlineno + (fail is breaks)
    assert f"{NAME}: {call} failed at {__file__}:{line}: " in str(failed.value)
    assert isinstance(failed.value.__cause__, KeyError | SystemExit)


def test_a_signal_in_a_method_still_ends_the_command():
    ours = {"__name__": "ccm_runtime.commands.record"}
    exec("def stop(*_): raise SystemExit(143)", ours)  # noqa: S102  (a function of another module)
    with pytest.raises(SystemExit) as ended:
        run(family("sample_tasks", ours["stop"]))
    assert ended.value.code == 143


def nothing(_):
    return None


def reward_of(change):
    return lambda after: after._replace(reward=change(after.reward))


@pytest.mark.parametrize(
    ("call", "alter", "words"),
    [
        ("sample_tasks", np.ndarray.tolist, "gave is list; expected an array [3, 2] of float32"),
        ("sample_tasks", nothing, "gave is NoneType; expected an array [3, 2] of float32"),
        ("sample_tasks", lambda x: x[:0], "gave is ndarray [0, 2] of float32; expected an array [3, 2] of float32"),
        ("sample_tasks", lambda x: x.astype(float), "gave is ndarray [3, 2] of float64; expected an array [3, 2]"),
        ("sample_tasks", torch.from_numpy, "gave is Tensor [3, 2] of float32 on cpu; expected an array [3, 2]"),
        ("sample_tasks", lambda x: x * np.nan, "gave has [nan, nan] in row 0; expected finite numbers"),
        ("task_features", np.ravel, "what task_features() gave is ndarray [12] of float32; expected an array [3, 1]"),
        ("ceiling", lambda x: x.mean().item(), "what ceiling() gave is float; expected an array [3] of float32"),
        ("simulate", nothing, "what simulate() gave is NoneType with num_envs None; expected simulations of 3"),
        ("make", nothing, "what make() gave is NoneType with num_envs None; expected simulations of 3 tasks"),
        ("reset", lambda x: (x, {}), "what reset() gave is tuple; expected an array [3, 2] of float32"),
        ("reset", lambda x: x[:1], "what reset() gave is ndarray [1, 2] of float32; expected an array [3, 2]"),
        ("step", tuple, "what step() gave is a tuple of 3; expected ccm_training.envs.family.Step"),
        ("step", nothing, "what step() gave is NoneType; expected ccm_training.envs.family.Step"),
        ("step", reward_of(lambda x: x[:, None]), "the reward of step() is ndarray [3, 1] of float32; expected an arr"),
        (
            "step",
            lambda x: x._replace(terminated=False),
            "the terminated of step() is bool; expected an array [3]",
        ),
        ("frame", lambda x: x / 255, "is drawn is ndarray [8, 8, 3] of float64; expected an array [height, width, 3]"),
    ],
)
def test_what_is_not_as_it_should_be_is_told_with_what_was_expected(call, alter, words):
    with pytest.raises(FamilyError) as refused:
        run(family(call, alter))
    assert str(refused.value).startswith(f"{NAME}: ")
    assert words in str(refused.value)


def test_a_simulation_in_torch_gives_tensors():
    class Numpy(Altering):
        def make(self, tasks, seed=0):
            return self.simulate(tasks.numpy(), seed)

    own = Numpy(None, None)
    env = checked(own, NAME, {"observation": own.observation}).make(torch.from_numpy(TASKS))
    with pytest.raises(
        FamilyError, match=r"is ndarray \[3, 2\] of float32; expected a tensor \[3, 2\] of float32 on cpu"
    ):
        env.reset()


@pytest.mark.parametrize(("call", "when"), [("reset", "the reset"), ("step", "step 1")])
def test_a_number_that_is_not_finite_is_told_before_anything_learns_from_it(call, when):
    def spoilt(given):
        return given * np.nan if call == "reset" else reward_of(lambda reward: np.full_like(reward, np.inf))(given)

    with pytest.raises(SimulationError, match=f"{NAME}: expected finite numbers, got .* at {when} of an episode"):
        run(family(call, spoilt))


def test_what_comes_after_an_end_may_be_anything():
    steps = []

    def ends(after):
        steps.append(after)
        observation = after.observation * (np.nan if len(steps) > 1 else 1.0)
        return after._replace(observation=observation, terminated=np.ones(3, bool))

    env = family("step", ends).simulate(TASKS)
    env.reset()
    for _ in range(2):
        env.step(np.zeros((3, 2), np.float32))
    env.reset(np.array([False, True, False]))
    with pytest.raises(SimulationError, match=r"got observation .* at step 1 of an episode"):
        env.step(np.zeros((3, 2), np.float32))


def test_what_is_as_it_should_be_is_the_same():
    own, plain = family(), HardPointRobot("mine", aligned=True)
    run(own)
    assert np.array_equal(TASKS, own.sample_tasks("train", 3, 0))
    assert np.array_equal(plain.ceiling(TASKS), own.ceiling(TASKS))
    assert (NAME, 32, True) == (own.name, own.horizon, own.takes_seeds)


def test_tables_may_lie_in_any_memory():
    own = family("sample_tasks", lambda tasks: np.broadcast_to(tasks[:1], tasks.shape)[::-1])
    assert torch.from_numpy(own.sample_tasks("train", 3, 0)).shape == (3, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon": 0}, "horizon is 0; expected at least 1 step"),
        ({"explore_episodes": -1}, "explore_episodes is -1; expected 0 or more"),
        (
            {"action": BoxSpec(name="action", labels=("x",), units=("m",), low=(0.0,), high=(None,))},
            "actions lie in [0.0] to [inf]; expected a finite low < high for every entry",
        ),
    ],
)
def test_episodes_and_actions_that_nobody_could_take_are_refused(changes, words):
    own = Altering(None, None)
    values = {name: getattr(own, name) for name in ATTRIBUTES} | changes
    with pytest.raises(FamilyError) as refused:
        check_specs(checked(own, NAME, values))
    assert str(refused.value) == f"{NAME}: {words}"
