"""A robot that can read where its goal is, at a place where nothing is paid: what the information gain is for.

Where rewards themselves tell the task, who seeks rewards is informed. Here they do not: a look at the sign leaves no
time to be paid in the same episode, and whoever tries his luck loses by it in the mean. The problem is known as heaven
and hell (Geffner and Bonet, 1998), or a T-maze; this form of it is ours.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import SPLITS, Split, Step, Table
from ccm_training.envs.point_robot_env import PlaneEnv, PlaneFamily

STRIDE_M = 0.25
LINE_M = 0.75
"""How far up doors are, and how far down the sign is read."""
HIT, MISS = 1.0, -0.5

_OBSERVATION = BoxSpec(
    name="observation", labels=("x", "y", "sign"), units=("m",) * 3, low=(-1.0,) * 3, high=(1.0,) * 3
)
_ACTION = BoxSpec(name="action", labels=("dx", "dy"), units=("m",) * 2, low=(-STRIDE_M,) * 2, high=(STRIDE_M,) * 2)
_TASK = BoxSpec(name="task", labels=("goal",), units=("m",), low=(-1.0,), high=(1.0,))


@dataclass(frozen=True)
class SignpostRobot(PlaneFamily):
    """Go up through the right door of a wall; which one it is can be read below.

    An episode ends at the wall, with 1 within `radius` of the goal along it, else with -0.5, which is a loss in the
    mean for whoever does not know better. The sign shows the goal to who is far enough down, and 0 to anyone else; it
    takes nine steps to read it and go through a door, and an episode has eight.
    A task is `[goal]` in m.
    """

    name: str = "signpost-robot"
    horizon: int = 8
    explore_episodes: int = 1
    radius: float = 0.25
    observation: BoxSpec = _OBSERVATION
    action: BoxSpec = _ACTION
    task: BoxSpec = _TASK
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((-1.0, -LINE_M), (LINE_M, 1.0))

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """Goals, `[num, 1]`, one in each of `num` equal parts of the wall."""
        rng = np.random.default_rng((seed, SPLITS.index(split)))
        goals = (rng.permutation(num) + rng.random(num)) * (2.0 / num) - 1.0
        return goals[:, None].astype(np.float32)

    def task_features(self, tasks: Table) -> Table:
        """The goal, `[n, 1]` in m."""
        return tasks

    def goals(self, tasks: Table) -> Table:
        """The goal on the wall, `[n, 1, 2]` in m."""
        return np.stack([tasks, np.full_like(tasks, LINE_M)], -1)

    def ceiling(self, tasks: Table) -> NDArray[np.float32]:
        """Return of going straight to the goal, `[n]`: it is never more than four steps away."""
        return np.full(len(tasks), HIT, np.float32)

    def simulation(self, goals: Any, xp: Any) -> "SignpostEnv":
        """Simulations with these goals, in the library `xp` of `goals`."""
        return SignpostEnv(self, goals, xp)


class SignpostEnv(PlaneEnv):
    """Simulations of it; the arguments are those of `PlaneEnv`."""

    def reset(self, mask: Any = None) -> Any:
        """Back to the origin everywhere, or where `mask`, `[n]`, says; observations, `[n, 3]`."""
        super().reset(mask)
        return self._seen()

    def step(self, action: Any) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        xp = self._xp
        self.move_to(xp.clip(self._position + xp.clip(action, -STRIDE_M, STRIDE_M), -1.0, 1.0))
        arrived = self._position[:, 1] >= LINE_M
        beside = xp.abs(self._position[:, 0] - self._goals[:, 0, 0]) > self._whose.radius
        paid = xp.zeros_like(self._position[:, 0])
        paid = xp.where(arrived, xp.where(beside, paid + MISS, paid + HIT), paid)
        return Step(self._seen(), paid, arrived)

    def _seen(self) -> Any:
        """Position and sign."""
        xp = self._xp
        reads = self._position[:, 1] <= -LINE_M
        sign = xp.where(reads, self._goals[:, 0, 0], xp.zeros_like(self._goals[:, 0, 0]))
        return xp.concatenate([self._position, sign[:, None]], 1)
