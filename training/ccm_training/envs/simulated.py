"""One task at a time in numpy, for clients, which have no torch: a thin shell over a family's simulation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ccm_training.envs.family import Family

Array = NDArray[np.float32]


class SimulatedTask:
    """One task, behind the part of Gymnasium's interface that a client drives.

    `reset(options={"task": ...})` changes the task.
    """

    def __init__(self, family: Family, task: ArrayLike) -> None:
        self.action_space = SimpleNamespace(shape=(family.action.size,))
        self._family = family
        self.reset(options={"task": task})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; there is no chance in it, `seed` is not used."""
        del seed
        if options is not None and "task" in options:
            self._env = self._family.simulate(np.asarray(options["task"], np.float32)[None])
        self._num_steps = 0
        return self._env.reset()[0], {}

    def step(self, action: ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Act; `action` is `[act]` in environment units. Truncates at the horizon."""
        after = self._env.step(np.asarray(action, np.float32)[None])
        self._num_steps += 1
        truncated = self._num_steps >= self._family.horizon
        return after.observation[0], float(after.reward[0]), bool(after.terminated[0]), truncated, {}
