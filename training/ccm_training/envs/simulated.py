"""One task at a time in numpy, for clients, which have no torch: a thin shell over a family's simulation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ccm_training.envs.family import Family, Picture

Array = NDArray[np.float32]


class SimulatedTask:
    """One task, behind the part of Gymnasium's interface that a client drives.

    `reset(options={"task": ...})` changes the task.
    """

    def __init__(self, family: Family, task: ArrayLike, seed: int = 0) -> None:
        self.action_space = SimpleNamespace(shape=(family.action.size,))
        self._family, self._seed, self._task = family, seed, np.asarray(task, np.float32)
        self._env = family.simulate(self._task[None], seed)  # its first episode is the first reset's
        self._num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; after a task or a seed, what is random in its episodes is a function of the seed."""
        if seed is not None:
            self._seed = seed
        if options is not None and "task" in options:
            self._task = np.asarray(options["task"], np.float32)
        if seed is not None or (options is not None and "task" in options):
            self._env = self._family.simulate(self._task[None], self._seed)
        self._num_steps = 0
        return self._env.reset()[0], {}

    def step(self, action: ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Act; `action` is `[act]` in environment units. Truncates at the horizon."""
        after = self._env.step(np.asarray(action, np.float32)[None])
        self._num_steps += 1
        truncated = self._num_steps >= self._family.horizon
        return after.observation[0], float(after.reward[0]), bool(after.terminated[0]), truncated, {}

    def frame(self) -> Picture:
        """What it looks like now, `[height, width, 3]` of bytes."""
        picture: Picture = self._env.frame(0)
        return picture
