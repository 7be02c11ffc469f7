"""Point robots that step together: their laws, stated once for numpy arrays and torch tensors."""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ccm_training.envs import plane
from ccm_training.envs.family import Picture, Seeds, Step, Table

if TYPE_CHECKING:
    from torch import Tensor

STRIDE_M = 0.1


class PointRobot(Protocol):
    """A family of point robots: where goals are, what is paid, and from that its simulations.

    Attributes:
        radius: How near a goal pays, in m; the first is touched within half of it.
    """

    radius: float
    takes_seeds: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    def goals(self, tasks: Table) -> Table:
        """Goals in the order in which they are due, `[n, goals, 2]` in m."""

    def reward(self, distances: Any, touched: Any, xp: Any) -> Any:
        """Rewards, `[n]`, of distances to the goals, `[n, goals]`; `touched`, `[n]`: the first was, before."""

    def simulate(self, tasks: Table, seed: Seeds = 0) -> "PointRobotEnv":
        """Simulations of these tasks in numpy (nothing is random in them: `seed` is not used)."""
        del seed
        return PointRobotEnv(self, self.goals(tasks), np)

    def make(self, tasks: "Tensor", seed: Seeds = 0) -> "PointRobotEnv":
        """Simulations of these tasks in torch (`seed` is not used either)."""
        import torch  # noqa: PLC0415  (clients have none)

        del seed
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

    def retask(self, tasks: "Tensor") -> None:
        """Go to other tasks, as many, in place; in torch."""
        self._goals.copy_(tasks.new_tensor(self._family.goals(tasks.cpu().numpy())))

    def reset(self, mask: Any = None) -> Any:
        """Back to the origin, with every goal still to do, everywhere or where `mask`, `[n]`, says; `[n, 2]` in m."""
        if mask is None:
            self._position = self._xp.zeros_like(self._goals[:, 0])
            self._touched = self._position[:, 0] != 0.0
            self._path = [self._position]
            self._num_steps = np.zeros(self.num_envs, int)
        else:
            self._position = self._xp.where(mask[:, None], 0.0, self._position)
            self._touched = self._touched & ~mask
            self._path[-1] = self._position
            self._num_steps[np.asarray(mask.tolist())] = 0
        return self._position

    def step(self, action: Any) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        self._position = self._position + self._xp.clip(action, -STRIDE_M, STRIDE_M)
        self._path.append(self._position)
        self._num_steps += 1
        distances = self._xp.linalg.norm(self._position[:, None] - self._goals, axis=-1)
        reward = self._family.reward(distances, self._touched, self._xp)
        self._touched = self._touched | (distances[:, 0] <= self._family.radius / 2)
        return Step(self._position, reward, self._xp.zeros_like(self._touched))

    def frame(self, index: int) -> Picture:
        """The plane with the goals and the path of the episode."""
        path = self._path[len(self._path) - 1 - self._num_steps[index] :]
        goals = np.asarray([[*goal, self._family.radius] for goal in self._goals[index].tolist()], np.float32)
        return plane.draw(np.array([at[index].tolist() for at in path], np.float32), goals)
