"""One simulated task as an environment to drive: the family's batched simulation with a batch of one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ccm_runtime.belief import Array
from ccm_training.envs.family import Family


class SimulatedTask:
    """One task of a family, behind the part of Gymnasium's interface that `drive` uses."""

    def __init__(self, family: Family, task: torch.Tensor, seed: int) -> None:
        self.action_space = SimpleNamespace(shape=(family.action.size,))
        self._env = family.make(task[None], torch.Generator().manual_seed(seed))
        self._horizon = family.horizon
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; the task and its seed are fixed."""
        del seed, options
        self._step = 0
        return self._env.reset()[0].numpy(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance by one step; truncates at the family's horizon."""
        after = self._env.step(torch.from_numpy(np.asarray(action, np.float32))[None])
        self._step += 1
        truncated = self._step >= self._horizon
        return after.observation[0].numpy(), float(after.reward[0]), bool(after.terminated[0]), truncated, {}


def random_return(family: Family, tasks: torch.Tensor, seed: int) -> float:
    """Mean return of uniformly random actions on these tasks: the floor."""
    generator = torch.Generator().manual_seed(seed)
    env = family.make(tasks, generator)
    low, high = torch.from_numpy(family.action.low_array), torch.from_numpy(family.action.high_array)
    env.reset()
    alive = torch.ones(len(tasks))
    total = torch.zeros(len(tasks))
    for _ in range(family.horizon):
        share = torch.rand((len(tasks), family.action.size), generator=generator)
        after = env.step(low + (high - low) * share)
        total += alive * after.reward
        alive = alive * (~after.terminated)
    return float(total.mean())
