"""Batched simulation of the point robots, in torch on any device."""

import torch
from torch import Tensor

from ccm_training.envs.family import Step
from ccm_training.envs.point_robot import STRIDE_M


class SparsePointRobotEnv:
    """Batched simulation of `SparsePointRobot`; `goal` is `[n, 2]` in m."""

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


class HardPointRobotEnv:
    """Batched simulation of `HardPointRobot`; `goals` is `[n, 4]` in m."""

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
