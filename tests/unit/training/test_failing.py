"""What a user's simulation raises is its fault, in whatever call; what anything else raises is not."""

import json
import signal
import sys

import numpy as np
import pytest
import torch

from ccm_runtime.errors import RenderingError, SimulationError
from ccm_runtime.testing import ScriptedPolicy
from ccm_training.call_watch import CallWatch
from ccm_training.envs.called import called
from ccm_training.envs.failing import SimulationFailedError, blamed
from ccm_training.envs.point_robot import HardPointRobot
from ccm_training.evaluation import trials_of
from ccm_training.policy import NumpyPolicy
from ccm_training.stopping import Stop

TASKS = HardPointRobot("mine", aligned=True).sample_tasks("train", 2, 0)
NAME = "robots:Mine"


def breaks(*_):
    raise ValueError("a leg\nbroke")


class Breaking(HardPointRobot):
    """A family whose simulations break down in one of their calls."""

    def __init__(self, call, break_down=breaks):
        super().__init__("mine", aligned=True)
        self.call, self.break_down = call, break_down

    def simulate(self, tasks, seed=0):
        return self.broken("simulate", super().simulate(tasks, seed))

    def make(self, tasks, seed=0):
        return self.broken("make", super().make(tasks, seed))

    def broken(self, call, env):
        if call == self.call:
            self.break_down()
        if self.call in {"reset", "step", "retask", "frame"}:
            setattr(env, self.call, self.break_down)
        return env


def run(call, break_down=breaks):
    """Make each call of a simulation, of which one breaks down."""
    family = called(Breaking(call, break_down), NAME, blamed)
    family.simulate(TASKS)
    env = family.make(torch.from_numpy(TASKS), 3)
    env.reset()
    env.reset(torch.ones(2, dtype=torch.bool))
    env.step(torch.zeros(2, 2))
    env.retask(torch.from_numpy(TASKS))
    return env.frame(0)


@pytest.mark.parametrize("call", ["simulate", "make", "reset", "step", "retask", "frame"])
def test_whatever_call_fails_the_family_is_named_and_the_line(call):
    words = rf"^the simulation of robots:Mine failed at {__file__}:\d+: ValueError: a leg\nbroke$"
    with pytest.raises(SimulationError, match=words) as failed:
        run(call)
    assert isinstance(failed.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("break_down", "told"),
    [
        (lambda *_: sys.exit(3), "SystemExit: 3"),
        (lambda *_: next(iter(())), "StopIteration"),
        (lambda *_: json.loads("{"), "JSONDecodeError: Expecting property name"),
        (lambda *_: np.linalg.inv(np.zeros((2, 2))), "LinAlgError: Singular matrix"),
        (lambda *_: open("/no/such/model.xml"), "FileNotFoundError: "),  # noqa: PTH123, SIM115
    ],
)
def test_the_line_is_the_users_where_a_library_raised(break_down, told):
    line = break_down.__code__.co_firstlineno
    with pytest.raises(SimulationError, match=f"failed at {__file__}:{line}: {told}"):
        run("step", break_down)


@pytest.mark.parametrize(
    "error", [RenderingError("no screen"), KeyboardInterrupt()], ids=["an error of ours", "an interrupt"]
)
def test_what_is_no_fault_of_its_stays_what_it_is(error):
    def interrupted(*_):
        raise error

    with pytest.raises(type(error)) as raised:
        run("step", interrupted)
    assert raised.value is error


def test_a_handler_of_ours_ends_the_process_in_the_midst_of_a_simulation():
    ours = {"__name__": "ccm_runtime.commands.record"}
    exec("def stop(*_): raise SystemExit(143)", ours)  # noqa: S102  (a function of another module)
    with pytest.raises(SystemExit) as ended:
        run("step", ours["stop"])
    assert ended.value.code == 143


def test_what_a_policy_raises_is_not_blamed_on_the_simulation(monkeypatch):
    monkeypatch.setattr(NumpyPolicy, "fold", breaks)
    family = called(Breaking(None), NAME, blamed)
    with pytest.raises(ValueError, match="a leg"):
        trials_of(NumpyPolicy(ScriptedPolicy()), family, torch.from_numpy(TASKS))


def test_a_family_stays_what_it_is_otherwise():
    family = called(Breaking(None), NAME, blamed)
    assert (family.name, family.horizon, family.capturable, family.takes_seeds) == (NAME, 32, True, True)
    assert np.array_equal(TASKS, family.sample_tasks("train", 2, 0))
    assert family.simulate(TASKS).num_envs == 2
    assert run(None).ndim == 3


def test_a_run_says_besides_what_is_saved(tmp_path):
    stop = Stop(signal.SIGTERM)
    words = r": ValueError: a leg\nbroke; there is no checkpoint yet, .* Mend the family, then go on with --resume$"
    with (
        CallWatch(stop, 600.0, tmp_path) as watch,
        pytest.raises(SimulationError, match=words) as failed,
        watch.call(NAME),
    ):
        run("step")
    assert not isinstance(failed.value, SimulationFailedError)
    assert isinstance(failed.value.__cause__, ValueError)
