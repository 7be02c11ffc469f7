"""Robots that are points on the plane and step together: their laws, stated once for numpy arrays and torch tensors."""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ccm_training.envs import plane
from ccm_training.envs.family import Picture, Seeds, Step, Table

if TYPE_CHECKING:
    from torch import Tensor

STRIDE_M = 0.1


class PlaneFamily(Protocol):
    """A family of points on the plane: where goals are, and from that its simulations.

    Attributes:
        radius: How near a goal pays, in m.
        bands: From which y to which another law holds, in m; for pictures.
    """

    radius: float
    bands: ClassVar[tuple[tuple[float, float], ...]] = ()
    takes_seeds: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    def goals(self, tasks: Table) -> Table:
        """Goals in the order in which they are due, `[n, goals, 2]` in m."""

    def simulation(self, goals: Any, xp: Any) -> Any:
        """Simulations with these goals, in the library `xp` of `goals`."""

    def simulate(self, tasks: Table, seed: Seeds = 0) -> Any:
        """Simulations of these tasks in numpy (nothing is random in them: `seed` is not used)."""
        del seed
        return self.simulation(self.goals(tasks), np)

    def make(self, tasks: "Tensor", seed: Seeds = 0) -> Any:
        """Simulations of these tasks in torch (`seed` is not used either)."""
        import torch  # noqa: PLC0415  (clients have none)

        del seed
        return self.simulation(tasks.new_tensor(self.goals(tasks.cpu().numpy())), torch)


class PointRobot(PlaneFamily, Protocol):
    """A family that pays by the distances to its goals; the first is touched within half of `radius`."""

    def simulation(self, goals: Any, xp: Any) -> "PointRobotEnv":
        """Simulations with these goals, in the library `xp` of `goals`."""
        return PointRobotEnv(self, goals, xp)

    def reward(self, distances: Any, touched: Any, xp: Any) -> Any:
        """Rewards, `[n]`, of distances to the goals, `[n, goals]`; `touched`, `[n]`: the first was, before."""


class PlaneEnv:
    """What moves on the plane from the origin, each with its own goals; who pays for it comes on top.

    Args:
        family: Whose.
        goals: `[n, goals, 2]` in m, in the order in which they are due.
        xp: The library of `goals`, of actions and of whatever is returned: `numpy` or `torch`.
    """

    def __init__(self, family: PlaneFamily, goals: Any, xp: Any) -> None:
        self.num_envs = len(goals)
        self._whose, self._goals, self._xp = family, goals, xp
        self.reset()

    def retask(self, tasks: "Tensor") -> None:
        """Go to other tasks, as many, in place; in torch."""
        self._goals.copy_(tasks.new_tensor(self._whose.goals(tasks.cpu().numpy())))

    def reset(self, mask: Any = None) -> Any:
        """Back to the origin everywhere, or where `mask`, `[n]`, says; `[n, 2]` in m."""
        if mask is None:
            self._position = self._xp.zeros_like(self._goals[:, 0])
            self._path = [self._position]
            self._num_steps = np.zeros(self.num_envs, int)
        else:
            self._position = self._xp.where(mask[:, None], 0.0, self._position)
            self._path[-1] = self._position
            self._num_steps[np.asarray(mask.tolist())] = 0
        return self._position

    def move_to(self, position: Any) -> None:
        """Be at `position`, `[n, 2]` in m, a step later."""
        self._position = position
        self._path.append(position)
        self._num_steps += 1

    def frame(self, index: int) -> Picture:
        """The plane with the goals and the path of the episode."""
        path = self._path[len(self._path) - 1 - self._num_steps[index] :]
        goals = np.asarray([[*goal, self._whose.radius] for goal in self._goals[index].tolist()], np.float32)
        walked = np.array([at[index].tolist() for at in path], np.float32)
        return plane.draw(walked, goals, bands=self._whose.bands)


class PointRobotEnv(PlaneEnv):
    """Simulations of point robots; their arguments are those of `PlaneEnv`."""

    def __init__(self, family: PointRobot, goals: Any, xp: Any) -> None:
        self._family = family
        self._touched: Any = None
        super().__init__(family, goals, xp)

    def reset(self, mask: Any = None) -> Any:
        """Also with every goal still to do."""
        position = super().reset(mask)
        self._touched = position[:, 0] != 0.0 if mask is None else self._touched & ~mask
        return position

    def step(self, action: Any) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        self.move_to(self._position + self._xp.clip(action, -STRIDE_M, STRIDE_M))
        distances = self._xp.linalg.norm(self._position[:, None] - self._goals, axis=-1)
        reward = self._family.reward(distances, self._touched, self._xp)
        self._touched = self._touched | (distances[:, 0] <= self._family.radius / 2)
        return Step(self._position, reward, self._xp.zeros_like(self._touched))
