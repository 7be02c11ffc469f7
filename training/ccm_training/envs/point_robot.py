"""Point robots on the plane: the sparse goal of PEARL and the two goals in sequence of CCM's paper.

All start at the origin, move by the action (at most 0.1 m an axis and step) and see their position alone. Nothing but
the sparse reward exists. Facts and figures: PEARL's and CCM's published environments; deviations are named below.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import Split, Step

STRIDE_M = 0.1
_SPLIT_SALT = {"train": 0, "test": 1, "ood": 2}
_OBSERVATION = BoxSpec(name="observation", labels=("x", "y"), units=("m", "m"), low=(None, None), high=(None, None))
_ACTION = BoxSpec(
    name="action", labels=("dx", "dy"), units=("m", "m"), low=(-STRIDE_M, -STRIDE_M), high=(STRIDE_M, STRIDE_M)
)


def _angles(split: Split, num: int, seed: int, goals: int) -> Tensor:
    """Angles on the half circle, `[num, goals]`: evenly spread with a random phase, independently for each goal.

    Splits are disjoint with probability one: each draws from a generator of its own.
    """
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + _SPLIT_SALT[split])
    columns = []
    for _ in range(goals):
        strata = torch.randperm(num, generator=generator) + torch.rand(num, generator=generator)
        columns.append(math.pi * strata / num)
    return torch.stack(columns, 1)


def _on_circle(angle: Tensor, radius: float) -> Tensor:
    return radius * torch.stack([angle.cos(), angle.sin()], -1)


@dataclass(frozen=True)
class SparsePointRobot:
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

    def sample_tasks(self, split: Split, num: int, seed: int) -> Tensor:
        """Goal angles, `[num, 1]`, stratified over the half circle."""
        return _angles(split, num, seed, goals=1)

    def task_features(self, tasks: Tensor) -> Tensor:
        """The goal, `[n, 2]` in m."""
        return _on_circle(tasks[:, 0], 1.0)

    def make(self, tasks: Tensor, generator: torch.Generator) -> "SparsePointRobotEnv":
        """Simulations of these tasks (their start is fixed: `generator` is not used)."""
        del generator
        return SparsePointRobotEnv(self.task_features(tasks), self.radius)

    def ceiling(self, tasks: Tensor) -> Tensor:
        """Return of the best policy that knows the goal, `[n]`.

        The axes move independently and the reward falls with the distance, so that going to the goal at full stride
        along each axis is optimal at every step.
        """
        goal = self.task_features(tasks)
        distances = _greedy_distances(torch.zeros_like(goal)[:, None], goal, self.horizon)[:, 0]
        return ((1.0 - distances) * (distances <= self.radius)).sum(-1)


class SparsePointRobotEnv:
    """Batched simulation of `SparsePointRobot`."""

    def __init__(self, goal: Tensor, radius: float) -> None:
        self.num_envs = len(goal)
        self._goal = goal
        self._radius = radius
        self._position = torch.zeros_like(goal)

    def reset(self) -> Tensor:
        """Back to the origin."""
        self._position = torch.zeros_like(self._goal)
        return self._position

    def step(self, action: Tensor) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        self._position = self._position + action.clamp(-STRIDE_M, STRIDE_M)
        distance = (self._position - self._goal).norm(dim=-1)
        reward = torch.where(distance <= self._radius, 1.0 - distance, 0.0)
        return Step(self._position, reward, torch.zeros_like(distance, dtype=torch.bool))


@dataclass(frozen=True)
class HardPointRobot:
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

    def sample_tasks(self, split: Split, num: int, seed: int) -> Tensor:
        """Goal angles, `[num, 2]`, each stratified over the half circle."""
        if self.aligned:
            return _angles(split, num, seed, goals=1).expand(-1, 2).clone()
        return _angles(split, num, seed, goals=2)

    def task_features(self, tasks: Tensor) -> Tensor:
        """Both goals, `[n, 4]` in m."""
        return torch.cat([_on_circle(tasks[:, 0], 0.5), _on_circle(tasks[:, 1], 1.0)], -1)

    def make(self, tasks: Tensor, generator: torch.Generator) -> "HardPointRobotEnv":
        """Simulations of these tasks (their start is fixed: `generator` is not used)."""
        del generator
        return HardPointRobotEnv(self.task_features(tasks), self.radius)

    def ceiling(self, tasks: Tensor) -> Tensor:
        """Return of the best policy that knows both goals and the stage, `[n]`, to about 0.1 %.

        For every step at which the first goal can be touched and every point of a fine grid where that can happen,
        the rest of the episode is the greedy approach to the second goal, which is optimal. Stage 0 pays at most 1 a
        step and stage 1 at least that, so that its few rewards are counted only for the last step.
        """
        goals = self.task_features(tasks)
        first, second = goals[:, :2], goals[:, 2:]
        touch = self.radius / 2
        spread = torch.linspace(-touch, touch, 25, device=tasks.device, dtype=tasks.dtype)
        offsets = torch.stack(torch.meshgrid(spread, spread, indexing="ij"), -1).reshape(-1, 2)
        offsets = offsets[offsets.norm(dim=-1) <= touch + 1e-6]
        touches = first[:, None] + offsets  # [n, points, 2]
        steps = (touches.abs().amax(-1) / STRIDE_M - 1e-4).ceil().clamp(min=1)  # [n, points]
        distance = _greedy_distances(touches, second, self.horizon)  # [n, points, horizon]
        reward = torch.where(distance <= self.radius, 6.0 - distance, 1.0)
        in_time = torch.arange(self.horizon, device=tasks.device) < self.horizon - steps[..., None]
        rest = (reward * in_time).sum(-1)
        return (rest + 1.0 - offsets.norm(dim=-1)).amax(-1)


class HardPointRobotEnv:
    """Batched simulation of `HardPointRobot`."""

    def __init__(self, goals: Tensor, radius: float) -> None:
        self.num_envs = len(goals)
        self._first, self._second = goals[:, :2], goals[:, 2:]
        self._radius = radius
        self._position = torch.zeros_like(self._first)
        self._touched = torch.zeros(len(goals), dtype=torch.bool, device=goals.device)

    def reset(self) -> Tensor:
        """Back to the origin, with both goals still to do."""
        self._position = torch.zeros_like(self._first)
        self._touched = torch.zeros_like(self._touched)
        return self._position

    def step(self, action: Tensor) -> Step:
        """Move; `action` is `[n, 2]` in m."""
        self._position = self._position + action.clamp(-STRIDE_M, STRIDE_M)
        to_first = (self._position - self._first).norm(dim=-1)
        to_second = (self._position - self._second).norm(dim=-1)
        searching = torch.where(to_first <= self._radius, 1.0 - to_first, 0.0)
        staying = torch.where(to_second <= self._radius, 6.0 - to_second, 1.0)
        reward = torch.where(self._touched, staying, searching)
        self._touched = self._touched | (to_first <= self._radius / 2)
        return Step(self._position, reward, torch.zeros_like(self._touched))


def _greedy_distances(start: Tensor, goal: Tensor, horizon: int) -> Tensor:
    """Distance to the goal after 1..horizon full-stride steps, `[n, points, horizon]`; start `[n, points, 2]`."""
    gap = (goal[:, None] - start).abs()[:, :, None]
    walked = STRIDE_M * torch.arange(1, horizon + 1, device=goal.device, dtype=goal.dtype)
    return (gap - walked[:, None]).clamp(min=0.0).norm(dim=-1)
