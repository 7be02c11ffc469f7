"""The point robots in numpy, one task at a time: for clients, which have no torch. The laws are the batched ones'."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import FamilyUnknownError
from ccm_training.envs.family import Family, Table
from ccm_training.envs.point_robot import STRIDE_M, HardPointRobot, SparsePointRobot

Array = NDArray[np.float32]


class SimulatedTask:
    """One task, behind the part of Gymnasium's interface that a client drives.

    `reset(options={"task": ...})` changes the task.
    """

    def __init__(self, family: SparsePointRobot | HardPointRobot, task: ArrayLike) -> None:
        self.action_space = SimpleNamespace(shape=(family.action.size,))
        self._family = family
        self._goals = self._goals_of(task)
        self.reset()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Back to the origin; there is no chance in it, `seed` is not used."""
        del seed
        if options is not None and "task" in options:
            self._goals = self._goals_of(options["task"])
        self._position = np.zeros(2, np.float32)
        self._touched = False
        self._steps = 0
        return self._position, {}

    def step(self, action: ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move by `action`, `[2]` in m; truncates at the horizon."""
        stride = np.clip(np.asarray(action, np.float32), -STRIDE_M, STRIDE_M)
        self._position = (self._position + stride).astype(np.float32)
        self._steps += 1
        reward = self._reward(np.linalg.norm(self._position - self._goals, axis=-1))
        return self._position, reward, False, self._steps >= self._family.horizon, {}

    def _goals_of(self, task: ArrayLike) -> Array:
        """Positions of the goals, `[goals, 2]` in m."""
        return self._family.task_features(np.asarray(task, np.float32)[None]).reshape(-1, 2)

    def _reward(self, distances: Array) -> float:
        near = distances <= self._family.radius
        if self._touched:
            return float(6.0 - distances[1]) if near[1] else 1.0
        self._touched = len(distances) == 2 and bool(distances[0] <= self._family.radius / 2)
        return float(1.0 - distances[0]) if near[0] else 0.0


def simulate(family: Family, task: ArrayLike) -> SimulatedTask:
    """One task of a family, to be driven.

    Raises:
        FamilyUnknownError: The family cannot be simulated in numpy.
    """
    if not isinstance(family, (SparsePointRobot, HardPointRobot)):
        raise FamilyUnknownError(f"{family.name} has no simulation in numpy; drive an environment of it with a client")
    return SimulatedTask(family, task)


def random_return(family: Family, tasks: Table, seed: int, episodes: int = 4) -> float:
    """Mean return of an episode of uniformly random actions on these tasks: the floor."""
    rng = np.random.default_rng(seed)
    total = 0.0
    for task in np.repeat(tasks, episodes, axis=0):
        env, over = simulate(family, task), False
        while not over:
            _, reward, _, over, _ = env.step(rng.uniform(family.action.low_array, family.action.high_array))
            total += reward
    return total / (len(tasks) * episodes)
