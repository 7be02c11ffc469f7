"""Point robots on the plane: the sparse goal of PEARL and the two goals in sequence of CCM's paper.

All start at the origin, move by the action (at most 0.1 m an axis and step) and see their position alone. Nothing but
the sparse reward exists. Facts and figures: PEARL's and CCM's published environments; deviations are named below.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import SPLITS, Split, Table
from ccm_training.envs.point_robot_env import STRIDE_M, PointRobot

_OBSERVATION = BoxSpec(name="observation", labels=("x", "y"), units=("m", "m"), low=(None, None), high=(None, None))
_ACTION = BoxSpec(
    name="action", labels=("dx", "dy"), units=("m", "m"), low=(-STRIDE_M, -STRIDE_M), high=(STRIDE_M, STRIDE_M)
)

_ONE_GOAL = BoxSpec(name="task", labels=("angle of the goal",), units=("rad",), low=(0.0,), high=(math.pi,))
_TWO_GOALS = BoxSpec(
    name="task",
    labels=("angle of the first goal", "angle of the second goal"),
    units=("rad", "rad"),
    low=(0.0, 0.0),
    high=(math.pi, math.pi),
)


def _angles(split: Split, num: int, seed: int, goals: int) -> Table:
    """Angles on the half circle, `[num, goals]`: one in each of `num` equal sectors, independently for each goal.

    Splits are disjoint with probability one: each draws from a generator of its own.
    """
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    columns = [(rng.permutation(num) + rng.random(num)) * (np.pi / num) for _ in range(goals)]
    return np.stack(columns, 1).astype(np.float32)


def _on_circle(angle: NDArray[np.float32], radius: float) -> Table:
    return (radius * np.stack([np.cos(angle), np.sin(angle)], -1)).astype(np.float32)


@dataclass(frozen=True)
class SparsePointRobot(PointRobot):
    """Reach a goal on the unit half circle; reward `1 - d` within `radius` of it, else 0.

    The published environment trains the policy on the dense reward; here training sees the sparse one only.
    A task is `[goal angle]` in radians.
    """

    name: str = "sparse-point-robot"
    horizon: int = 20
    explore_episodes: int = 2
    radius: float = 0.2
    observation: BoxSpec = _OBSERVATION
    action: BoxSpec = _ACTION
    task: BoxSpec = _ONE_GOAL

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """Goal angles, `[num, 1]`, stratified over the half circle."""
        return _angles(split, num, seed, goals=1)

    def goals(self, tasks: Table) -> Table:
        """The goal, `[n, 1, 2]` in m."""
        return _on_circle(tasks, 1.0)

    def task_features(self, tasks: Table) -> Table:
        """The goal, `[n, 2]` in m."""
        return self.goals(tasks)[:, 0]

    def reward(self, distances: Any, touched: Any, xp: Any) -> Any:
        """Rewards, `[n]`, of distances to the goal, `[n, 1]`."""
        del touched
        return xp.where(distances[:, 0] <= self.radius, 1.0 - distances[:, 0], 0.0)

    def ceiling(self, tasks: Table) -> NDArray[np.float32]:
        """Return of the best policy that knows the goal, `[n]`.

        The axes move independently and the reward falls with the distance, so that going to the goal at full stride
        along each axis is optimal at every step.
        """
        goal = self.task_features(tasks)
        distances = _greedy_distances(np.zeros_like(goal)[:, None], goal, self.horizon)[:, 0]
        returns: NDArray[np.float32] = ((1.0 - distances) * (distances <= self.radius)).sum(-1)
        return returns


@dataclass(frozen=True)
class HardPointRobot(PointRobot):
    """Touch a first goal at 0.5 m, then stay at a second one at 1 m; which of the two is due is not observed.

    Stage 0 pays `1 - d1` within `radius` of the first goal and ends within half of it. Stage 1 pays 1 everywhere
    and `6 - d2` within `radius` of the second goal. Where `aligned`, both goals lie in one direction (as the
    released code's do, by a seeding slip); otherwise they are independent (as the paper says).
    A task is `[first angle, second angle]` in radians.
    """

    name: str
    aligned: bool
    horizon: int = 32
    explore_episodes: int = 4
    radius: float = 0.3
    observation: BoxSpec = _OBSERVATION
    action: BoxSpec = _ACTION
    task: BoxSpec = _TWO_GOALS

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """Goal angles, `[num, 2]`, each stratified over the half circle."""
        if self.aligned:
            return np.repeat(_angles(split, num, seed, goals=1), 2, axis=1)
        return _angles(split, num, seed, goals=2)

    def goals(self, tasks: Table) -> Table:
        """Both goals, `[n, 2, 2]` in m."""
        return np.stack([_on_circle(tasks[:, 0], 0.5), _on_circle(tasks[:, 1], 1.0)], 1)

    def task_features(self, tasks: Table) -> Table:
        """Both goals, `[n, 4]` in m."""
        return self.goals(tasks).reshape(-1, 4)

    def reward(self, distances: Any, touched: Any, xp: Any) -> Any:
        """Rewards, `[n]`, of distances to both goals, `[n, 2]`, in the stage that `touched`, `[n]`, says."""
        first, second = distances[:, 0], distances[:, 1]
        searching = xp.where(first <= self.radius, 1.0 - first, 0.0)
        staying = xp.where(second <= self.radius, 6.0 - second, 1.0)
        return xp.where(touched, staying, searching)

    def ceiling(self, tasks: Table) -> NDArray[np.float32]:
        """Bound on the return of a policy that knows both goals and the stage, `[n]`; it can be reached to 0.5 %.

        Any point within `STRIDE_M * k` of the origin along each axis can be reached in `k` steps. For every `k` and
        every point of a fine net over those where the first goal can be touched by then, the rest of the episode is
        the greedy approach to the second goal, which is optimal. Staying in stage 0 for longer never pays: it gives
        at most 1 a step, and stage 1 at least that.
        """
        first, second = self.goals(tasks).swapaxes(0, 1)
        latest = math.ceil((0.5 + self.radius / 2) / STRIDE_M)
        best = [self._best_return(first, second, steps) for steps in range(1, latest + 1)]
        returns: NDArray[np.float32] = np.max(best, axis=0).astype(np.float32)
        return returns

    def _best_return(self, first: Table, second: Table, steps: int) -> NDArray[np.float32]:
        """Largest return when the first goal is touched at step `steps`, `[n]`; minus infinity where it cannot be."""
        touches = np.clip(first[:, None] + _net(self.radius / 2), -steps * STRIDE_M, steps * STRIDE_M)
        missed = np.linalg.norm(touches - first[:, None], axis=-1)
        distance = _greedy_distances(touches, second, self.horizon - steps)
        rest = np.where(distance <= self.radius, 6.0 - distance, 1.0).sum(-1)
        returns = rest + (1.0 - missed) + self._on_the_way(first, touches, steps)
        best: NDArray[np.float32] = np.where(missed <= self.radius / 2, returns, -np.inf).max(-1)
        return best

    def _on_the_way(self, first: Table, touches: Table, steps: int) -> NDArray[np.float32]:
        """Most that stage 0 pays before the step that touches, `[n, points]`."""
        paid = np.zeros(touches.shape[:2], np.float32)
        for step in range(1, steps):
            reach, left = STRIDE_M * step, STRIDE_M * (steps - step)
            low, high = np.maximum(-reach, touches - left), np.minimum(reach, touches + left)
            nearest = np.linalg.norm(np.clip(first[:, None], low, high) - first[:, None], axis=-1)
            distance = np.maximum(nearest, self.radius / 2)  # nearer would touch
            paid += np.where(distance <= self.radius, 1.0 - distance, 0.0)
        return paid


def _net(radius: float) -> Table:
    """Points that cover a disc about the origin, denser at its edge, `[points, 2]`."""
    angle = np.linspace(0.0, 2.0 * np.pi, 120, endpoint=False)
    share = np.sqrt(np.linspace(0.0, 1.0, 5))[:, None, None] * (1.0 - 1e-5)
    points: Table = (radius * share * np.stack([np.cos(angle), np.sin(angle)], -1)).astype(np.float32).reshape(-1, 2)
    return points


def _greedy_distances(start: Table, goal: Table, horizon: int) -> NDArray[np.float32]:
    """Distance to the goal after 1..horizon full-stride steps, `[n, points, horizon]`; start `[n, points, 2]`."""
    gap = np.abs(goal[:, None] - start)[:, :, None]
    walked = STRIDE_M * np.arange(1, horizon + 1, dtype=np.float32)
    distances: NDArray[np.float32] = np.linalg.norm(np.maximum(gap - walked[:, None], 0.0), axis=-1)
    return distances
