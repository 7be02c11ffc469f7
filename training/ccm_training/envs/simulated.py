"""The point robots in numpy, one task at a time: for clients, which have no torch. The laws are `point_robot.py`'s."""

import difflib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import FamilyUnknownError

Array = NDArray[np.float32]

STRIDE_M = 0.1
_SPLITS = ("train", "test", "ood")
_RADII_M = {1: (1.0,), 2: (0.5, 1.0)}


@dataclass(frozen=True)
class SimulatedFamily:
    """A family of point robots. A task is the angle of each goal, in radians.

    Attributes:
        name: Its id.
        num_goals: 1: stay at it. 2: touch the first, then stay at the second.
        aligned: Whether all goals lie in one direction.
        horizon: T, steps of an episode.
        explore_episodes: K, the usual number of exploration episodes.
        radius: A goal pays within it, in m.
    """

    name: str
    num_goals: int
    aligned: bool
    horizon: int
    explore_episodes: int
    radius: float

    def sample_tasks(self, split: str, num: int, seed: int) -> Array:
        """`num` tasks, `[num, goals]`, evenly spread over the half circle; a function of its arguments alone."""
        rng = np.random.default_rng([seed, _SPLITS.index(split)])
        columns = 1 if self.aligned else self.num_goals
        strata = rng.permuted(np.tile(np.arange(num), (columns, 1)), axis=1) + rng.random((columns, num))
        angles = (np.pi * strata / num).astype(np.float32).T
        return np.broadcast_to(angles, (num, self.num_goals)).copy()

    def goals(self, tasks: Array) -> Array:
        """Positions of the goals, `[n, goals, 2]` in m."""
        radii = np.array(_RADII_M[self.num_goals], np.float32)
        positions: Array = radii[:, None] * np.stack([np.cos(tasks), np.sin(tasks)], -1)
        return positions

    def simulate(self, task: ArrayLike) -> "SimulatedTask":
        """One task, to be driven."""
        return SimulatedTask(self, np.asarray(task, np.float32))

    def ceiling(self, tasks: Array) -> Array:
        """Return of the best policy that knows the task, `[n]`, to about 0.1 %; `point_robot.py` says why."""
        goals = self.goals(tasks)
        if self.num_goals == 1:
            distance = _greedy_distances(np.zeros_like(goals), goals[:, 0], self.horizon)[:, 0]
            best: Array = ((1.0 - distance) * (distance <= self.radius)).sum(-1)
            return best
        return np.array([self._best_return(first, second) for first, second in goals], np.float32)

    def _best_return(self, first: Array, second: Array) -> float:
        """Over the points where the first goal can be touched, the best of a straight way there and on."""
        touch = self.radius / 2
        line = np.linspace(-touch, touch, 25, dtype=np.float32)
        offsets = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
        offsets = offsets[np.linalg.norm(offsets, axis=-1) <= touch + 1e-6]
        touches = first + offsets
        steps = np.maximum(np.ceil(np.abs(touches).max(-1) / STRIDE_M - 1e-4), 1)
        distance = _greedy_distances(touches[None], second[None], self.horizon)[0]
        reward = np.where(distance <= self.radius, 6.0 - distance, 1.0)
        in_time = np.arange(self.horizon) < self.horizon - steps[:, None]
        rest = (reward * in_time).sum(-1)
        return float((rest + 1.0 - np.linalg.norm(offsets, axis=-1)).max())


class SimulatedTask:
    """One task, behind the part of Gymnasium's interface that a client drives.

    `reset(options={"task": ...})` changes the task.
    """

    def __init__(self, family: SimulatedFamily, task: Array) -> None:
        self.action_space = SimpleNamespace(shape=(2,))
        self._family = family
        self._goals = family.goals(task[None])[0]
        self._position = np.zeros(2, np.float32)
        self._touched = False
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Back to the origin; there is no chance in it, `seed` is not used."""
        del seed
        if options is not None and "task" in options:
            self._goals = self._family.goals(np.asarray(options["task"], np.float32)[None])[0]
        self._position = np.zeros(2, np.float32)
        self._touched = False
        self._steps = 0
        return self._position, {}

    def step(self, action: ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move by `action`, `[2]` in m; truncates at the horizon."""
        stride = np.clip(np.asarray(action, np.float32), -STRIDE_M, STRIDE_M)
        self._position = (self._position + stride).astype(np.float32)
        self._steps += 1
        distances = np.linalg.norm(self._position - self._goals, axis=-1)
        reward = self._reward(distances)
        return self._position, reward, False, self._steps >= self._family.horizon, {}

    def _reward(self, distances: Array) -> float:
        near = distances <= self._family.radius
        if len(distances) == 1 or not self._touched:
            self._touched = bool(distances[0] <= self._family.radius / 2)
            return float(1.0 - distances[0]) if near[0] else 0.0
        return float(6.0 - distances[1]) if near[1] else 1.0


_FAMILIES = {
    family.name: family
    for family in (
        SimulatedFamily("sparse-point-robot", num_goals=1, aligned=True, horizon=20, explore_episodes=2, radius=0.2),
        SimulatedFamily("hard-point-robot", num_goals=2, aligned=False, horizon=32, explore_episodes=4, radius=0.3),
        SimulatedFamily(
            "hard-point-robot-aligned", num_goals=2, aligned=True, horizon=32, explore_episodes=4, radius=0.3
        ),
    )
}


def list_simulated() -> tuple[SimulatedFamily, ...]:
    """All simulated families."""
    return tuple(_FAMILIES.values())


def get_simulated(name: str) -> SimulatedFamily:
    """The simulated family of that name.

    Raises:
        FamilyUnknownError: There is none; the message names the nearest.
    """
    if name not in _FAMILIES:
        near = difflib.get_close_matches(name, _FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise FamilyUnknownError(f"no task family {name!r}{hint} known: {', '.join(_FAMILIES)}")
    return _FAMILIES[name]


def random_return(family: SimulatedFamily, tasks: Array, seed: int) -> float:
    """Mean return of uniformly random actions on these tasks: the floor."""
    rng = np.random.default_rng(seed)
    total = 0.0
    for task in tasks:
        env, over = family.simulate(task), False
        env.reset()
        while not over:
            _, reward, _, over, _ = env.step(rng.uniform(-STRIDE_M, STRIDE_M, 2))
            total += reward
    return total / len(tasks)


def _greedy_distances(start: Array, goal: Array, horizon: int) -> Array:
    """Distance to the goal after 1..horizon full-stride steps, `[n, points, horizon]`; start `[n, points, 2]`."""
    gap = np.abs(goal[:, None] - start)[:, :, None]
    walked = STRIDE_M * np.arange(1, horizon + 1, dtype=np.float32)
    distance: Array = np.linalg.norm(np.maximum(gap - walked[:, None], 0.0), axis=-1)
    return distance
