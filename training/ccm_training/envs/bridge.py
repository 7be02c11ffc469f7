"""Simulations in numpy as a `BatchedEnv` in torch: arrays cross by reference on a CPU, and are copied to a GPU."""

from typing import Any

import torch
from torch import Tensor

from ccm_training.envs.family import Picture, Step


class TorchEnv:
    """A batched environment in torch over one in numpy.

    Args:
        env: What `Family.simulate` returned.
        device: Where observations, rewards and endings go.
    """

    def __init__(self, env: Any, device: torch.device) -> None:
        self.num_envs: int = env.num_envs
        self._env, self._device = env, device

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin an episode everywhere, or where `mask` says; all observations, `[n, obs]`."""
        return self._tensor(self._env.reset(None if mask is None else mask.cpu().numpy()))

    def step(self, action: Tensor) -> Step:
        """Advance every simulation; `action` is `[n, act]` in environment units."""
        return Step(*(self._tensor(array) for array in self._env.step(action.cpu().numpy())))

    def frame(self, index: int) -> Picture:
        """What simulation `index` looks like now."""
        picture: Picture = self._env.frame(index)
        return picture

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._device)
