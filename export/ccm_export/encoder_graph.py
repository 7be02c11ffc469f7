"""What every context encoder's graph is given, and what it answers."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ccm_training.belief import Latent
from ccm_training.replay import Rows


class EncoderGraph(nn.Module, ABC):
    """belief and a chunk of transitions -> the belief after them, and the latent that it means."""

    def __init__(self, agent: Any) -> None:
        super().__init__()
        self.agent = agent

    @abstractmethod
    def fold(self, belief: Tensor, rows: Rows) -> Tensor:
        """Beliefs `[n, belief]` after chunks of transitions, fields `[n, t, ...]`."""

    @abstractmethod
    def read(self, belief: Tensor) -> Latent:
        """What beliefs `[n, belief]` mean, `[n, latent]`."""

    def forward(  # noqa: PLR0917 (the exporter passes a graph's inputs by position)
        self,
        belief: Tensor,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`[n, belief]` and `[n, t, ...]` -> `[n, belief]`, `[n, latent]`, `[n, latent]`."""
        after = self.fold(belief, Rows(observation, action, reward, next_observation, torch.zeros_like(valid), valid))
        latent = self.read(after)
        return after, latent.mean, latent.std
