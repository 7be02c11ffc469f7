"""Point robots that step together: their laws, stated once for numpy arrays and torch tensors."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ccm_training.envs.family import Step, Table

if TYPE_CHECKING:
    from torch import Generator, Tensor

STRIDE_M = 0.1


class PointRobot(Protocol):
    """A family of point robots: where goals are, what is paid, and from that its simulations.

    Attributes:
        radius: How near a goal pays, in m; the first is touched within half of it.
    """

    radius: float

    def goals(self, tasks: Table) -> Table:
        """Goals in the order in which they are due, `[n, goals, 2]` in m."""

    def reward(self, distances: Any, touched: Any, xp: Any) -> Any:
        """Rewards, `[n]`, of distances to the goals, `[n, goals]`; `touched`, `[n]`: the first was, before."""

    def simulate(self, tasks: Table) -> "PointRobotEnv":
        """Simulations of these tasks in numpy."""
        return PointRobotEnv(self, self.goals(tasks), np)

    def make(self, tasks: "Tensor", generator: "Generator") -> "PointRobotEnv":
        """Simulations of these tasks in torch (their start is fixed: `generator` is not used)."""
        import torch  # noqa: PLC0415  (clients have none)

        del generator
        return PointRobotEnv(self, tasks.new_tensor(self.goals(tasks.cpu().numpy())), torch)


class PointRobotEnv:
    """Simulations of one family, each with its own goals.

    Args:
        family: Says what is paid.
        goals: `[n, goals, 2]` in m, in the order in which they are due.
        xp: The library of `goals`, of actions and of whatever is returned: `numpy` or `torch`.
    """

    def __init__(self, family: PointRobot, goals: Any, xp: Any) -> None:
        self.num_envs = len(goals)
        self._family, self._goals, self._xp = family, goals, xp
        self.reset()

    def reset(self) -> Any:
        """Back to the origin, with every goal still to do; `[n, 2]` in m."""
        self._position = self._xp.zeros_like(self._goals[:, 0])
        self._touched = self._position[:, 0] != 0.0
        return self._position

    def step(self, action: Any) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        self._position = self._position + self._xp.clip(action, -STRIDE_M, STRIDE_M)
        distances = self._xp.linalg.norm(self._position[:, None] - self._goals, axis=-1)
        reward = self._family.reward(distances, self._touched, self._xp)
        self._touched = self._touched | (distances[:, 0] <= self._family.radius / 2)
        return Step(self._position, reward, self._xp.zeros_like(self._touched))
