"""A goal on a line, as a user would write the family: solved in a minute, and only by who knows where the goal is."""

from typing import Any

import numpy as np
import torch

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.bridge import TorchEnv
from ccm_training.envs.family import SPLITS, Step

STRIDE_M = 0.25


class LineGoals:
    """Go to a goal between -1 and 1 m; reward `-|x - goal|`, which every step shows and the position does not."""

    name = "line-goals"
    horizon = 8
    explore_episodes = 2
    observation = BoxSpec(name="observation", labels=("x",), units=("m",), low=(None,), high=(None,))
    action = BoxSpec(name="action", labels=("dx",), units=("m",), low=(-STRIDE_M,), high=(STRIDE_M,))
    task = BoxSpec(name="task", labels=("goal",), units=("m",), low=(-1.0,), high=(1.0,))

    def sample_tasks(self, split, num, seed):
        """Goals, one in each of `num` equal parts of the line, `[num, 1]`."""
        rng = np.random.default_rng((seed, SPLITS.index(split)))
        return ((rng.permutation(num) + rng.random(num)) * 2.0 / num - 1.0)[:, None].astype(np.float32)

    def task_features(self, tasks):
        """The goal, `[n, 1]`."""
        return tasks

    def simulate(self, tasks, seed=0):
        """Simulations in numpy; nothing is random in them."""
        del seed
        return _Line(tasks)

    def make(self, tasks: torch.Tensor, seed=0):
        """The same in torch."""
        return TorchEnv(self.simulate(tasks.cpu().numpy(), seed), tasks.device)

    def ceiling(self, tasks):
        """Return of going straight to the goal, `[n]`."""
        return self._returns(tasks, tasks)

    def unknowing(self, tasks):
        """Return of the best that can be done on average without knowing the goal, to stay at 0, `[n]`."""
        return self._returns(tasks, np.zeros_like(tasks))

    def knowing_the_side(self, tasks):
        """Return of the best that can be done on average if only the side of the goal is known, `[n]`."""
        return self._returns(tasks, 0.5 * np.sign(tasks))

    def _returns(self, tasks, aims) -> Any:
        env, total, position = self.simulate(tasks), 0.0, np.zeros_like(tasks)
        for _ in range(self.horizon):
            step = env.step(np.clip(aims - position, -STRIDE_M, STRIDE_M).astype(np.float32))
            position, total = step.observation, total + step.reward
        return total


class _Line:
    def __init__(self, tasks):
        self.num_envs, self._goals = len(tasks), tasks[:, 0]
        self.reset()

    def reset(self, mask=None):
        every = np.ones(self.num_envs, bool) if mask is None else mask
        self._x = np.where(every, 0.0, self.__dict__.get("_x", np.zeros(self.num_envs))).astype(np.float32)
        return self._x[:, None]

    def step(self, action):
        self._x = (self._x + np.clip(action[:, 0], -STRIDE_M, STRIDE_M)).astype(np.float32)
        reward = -np.abs(self._x - self._goals).astype(np.float32)
        return Step(self._x[:, None], reward, np.zeros(self.num_envs, bool))

    def frame(self, index):
        return np.full((8, 64, 3), 255 * int(self._x[index] < self._goals[index]), np.uint8)
