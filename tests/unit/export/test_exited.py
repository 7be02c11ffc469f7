"""A simulation that calls `sys.exit` is an error of the family, wherever we step it; who is told to stop, stops."""

import sys
from types import SimpleNamespace

import pytest
import torch

from ccm_export.experience import experience
from ccm_export.training_trials import run_training_trials
from ccm_runtime.errors import SimulationError
from ccm_runtime.exited import simulating
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.testing import ScriptedPolicy
from ccm_training.envs.point_robot import HardPointRobot
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.evaluation import trials_of
from ccm_training.policy import NumpyPolicy
from ccm_training.scores import floor_of

POLICY = ScriptedPolicy()


class Quitting(HardPointRobot):
    def __init__(self, call="step"):
        super().__init__("quitting", aligned=True)
        self.call = call

    def simulate(self, tasks, seed=0):
        return self.broken(super().simulate(tasks, seed))

    def make(self, tasks, seed=0):
        return self.broken(super().make(tasks, seed))

    def broken(self, env):
        if self.call == "make":
            sys.exit(3)
        setattr(env, self.call, lambda *_: sys.exit(3))
        return env


FAMILY = Quitting()
TASKS = FAMILY.sample_tasks("train", 2, 0)


def training_trials():
    config = SimpleNamespace(seed=0, tasks=SimpleNamespace(num_train=2, seed=0))
    plan = POLICY.adaptation
    run_training_trials(
        SimpleNamespace(config=config, family=FAMILY, policy_for=lambda: NumpyPolicy(POLICY), adaptation=plan)
    )


@pytest.mark.parametrize(
    "step",
    [
        lambda: SimulatedTask(Quitting("make"), TASKS[0]),
        lambda: SimulatedTask(Quitting("reset"), TASKS[0]).reset(),
        lambda: SimulatedTask(FAMILY, TASKS[0]).step([0.0, 0.0]),
        lambda: SimulatedTask(Quitting("frame"), TASKS[0]).frame(),
        lambda: trials_of(NumpyPolicy(POLICY), FAMILY, torch.from_numpy(TASKS)),
        lambda: floor_of(FAMILY, TASKS),
        lambda: experience(POLICY, FAMILY, SafetyLimits(), num_tasks=2),
        training_trials,
    ],
    ids=["make", "reset", "step", "frame", "evaluate", "floor", "experience", "training trials"],
)
def test_a_simulation_that_calls_sys_exit_is_told_with_its_place(step):
    with pytest.raises(
        SimulationError, match=r"simulation of quitting \(.*test_exited\.py:\d+\) called sys\.exit\(3\); a"
    ):
        step()


def test_a_handler_of_ours_ends_the_process_in_the_midst_of_a_simulation():
    ours = {"__name__": "ccm_runtime.commands.record"}
    exec("def stop(): raise SystemExit(143)", ours)  # noqa: S102  (a function of another module)
    with pytest.raises(SystemExit) as ended, simulating("quitting"):
        ours["stop"]()
    assert ended.value.code == 143
