"""What MuJoCo's families share: how tasks are drawn from ranges, and how their simulations are made."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import SPLITS, BatchedEnv, Seeds, Split, Table
from ccm_training.envs.mujoco.robots import Robot
from ccm_training.envs.mujoco.simulation import MujocoEnv, State

if TYPE_CHECKING:
    from mujoco.batch import Batch
    from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """One thing that varies between tasks.

    Attributes:
        name: What it is.
        unit: Its unit; `1` where it has none.
        train: Intervals that it is drawn from, uniformly over their union.
        test: Those of the test tasks; empty: as in training, from a generator of its own.
        ood: Those of the out-of-distribution tasks; empty: as in training.
    """

    name: str
    unit: str
    train: tuple[tuple[float, float], ...]
    test: tuple[tuple[float, float], ...] = ()
    ood: tuple[tuple[float, float], ...] = ()

    def intervals(self, split: Split) -> tuple[tuple[float, float], ...]:
        """What the tasks of a split are drawn from."""
        return {"train": self.train, "test": self.test, "ood": self.ood}[split] or self.train

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of any split."""
        ends = [end for split in SPLITS for interval in self.intervals(split) for end in interval]
        return min(ends), max(ends)

    def draw(self, split: Split, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """`num` values: one in each of `num` equal shares of the intervals, in random order, `[num]`."""
        low, high = np.array(self.intervals(split)).T
        ends = np.cumsum(high - low)
        along = (rng.permutation(num) + rng.random(num)) / num * ends[-1]
        which = np.minimum(np.searchsorted(ends, along, side="right"), len(ends) - 1)
        values: NDArray[np.float64] = high[which] - (ends[which] - along)
        return values


@dataclass(frozen=True)
class MujocoFamily:
    """A family of tasks for one robot; a task is a value of each parameter.

    Attributes:
        name: Its id.
        robot: Who moves.
        parameters: What varies.
        horizon: T.
        explore_episodes: K.
        ceiling_of_a_step: Bound on the reward of a step, where there is one.
    """

    name: str
    robot: Robot
    parameters: tuple[Parameter, ...]
    horizon: int
    explore_episodes: int
    ceiling_of_a_step: float | None = None
    takes_seeds: ClassVar[bool] = True

    @property
    def observation(self) -> BoxSpec:
        """What the agent sees."""
        return self.robot.observation

    @property
    def action(self) -> BoxSpec:
        """What the agent does."""
        return self.robot.action

    @property
    def task(self) -> BoxSpec:
        """What varies."""
        low, high = zip(*(parameter.bounds for parameter in self.parameters), strict=True)
        return BoxSpec(
            name="task",
            labels=tuple(parameter.name for parameter in self.parameters),
            units=tuple(parameter.unit for parameter in self.parameters),
            low=low,
            high=high,
        )

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """Tasks, `[num, params]`, each parameter stratified over its intervals; splits have generators of their own."""
        rng = np.random.default_rng((seed, SPLITS.index(split)))
        return np.stack([parameter.draw(split, num, rng) for parameter in self.parameters], 1).astype(np.float32)

    def task_features(self, tasks: Table) -> Table:
        """Parameters, scaled to -1..1 over all splits, `[n, params]`."""
        low, high = self.task.low_array, self.task.high_array
        return (2.0 * (tasks - low) / (high - low) - 1.0).astype(np.float32)

    def reward(self, before: State, after: State, action: Any, tasks: Any, xp: Any) -> Any:
        """Reward of each transition, `[n]`."""
        raise NotImplementedError

    def terminated(self, after: State, xp: Any) -> Any:
        """Where the task itself ends the episode, `[n]`: nowhere."""
        return xp.zeros_like(after.position[:, 0], dtype=bool)

    def change(self, batch: "Batch", tasks: Table) -> None:
        """Give every simulation the physics of its task: they are all alike."""

    def simulate(self, tasks: Table, seed: Seeds = 0) -> MujocoEnv:
        """Simulations of these tasks in numpy, on one thread."""
        return MujocoEnv(self, tasks, seed, num_threads=1)

    def make(self, tasks: "Tensor", seed: Seeds = 0) -> BatchedEnv:
        """Simulations of these tasks in torch, on as many threads as torch has."""
        import torch  # noqa: PLC0415  (clients have none)

        from ccm_training.envs.bridge import TorchEnv  # noqa: PLC0415

        num_threads = min(torch.get_num_threads(), os.cpu_count() or 1)
        return TorchEnv(MujocoEnv(self, tasks.cpu().numpy(), seed, num_threads), tasks.device)

    def ceiling(self, tasks: Table) -> NDArray[np.float32] | None:
        """Bound on an episode's return, `[n]`; `None` where only an oracle can tell."""
        if self.ceiling_of_a_step is None:
            return None
        return np.full(len(tasks), self.ceiling_of_a_step * self.horizon, np.float32)


def forward_velocity(before: State, after: State, robot: Robot) -> Any:
    """Mean velocity of the root along x over a step, `[n]` in m/s."""
    return (after.position[:, 0] - before.position[:, 0]) / robot.step_s


def control_cost(action: Any) -> Any:
    """Sum of squared controls, `[n]`."""
    return (action * action).sum(-1)


def scale_masses(batch: "Batch", factors: Mapping[int, NDArray[np.float32]]) -> None:
    """Scale mass and inertia of bodies: another density at the same shape.

    MuJoCo's derived constants follow. The released code of CCM and PEARL scales masses alone, which leaves a body
    with the old resistance to turning.

    Args:
        batch: Whose bodies.
        factors: Factor in every simulation, `[n]`, by body.
    """
    mass, inertia = batch.expand("body_mass"), batch.expand("body_inertia")
    for body, factor in factors.items():
        mass[:, body] *= factor
        inertia[:, body] *= factor[:, None]
    batch.set_const()
