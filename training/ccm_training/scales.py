"""The scales that an agent carries with it: actions to its bounds, transitions to what warm-up met."""

import torch
from torch import Tensor, nn

from ccm_training.nets import Normalizer, spread
from ccm_training.replay import Rows


class ScaledActions(nn.Module):
    """A module whose actions are -1..1 inside and within bounds outside.

    Args:
        low: Lower bounds, `[act]`.
        high: Upper bounds, `[act]`.
    """

    action_middle: Tensor
    action_reach: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("action_middle", (high + low) / 2)
        self.register_buffer("action_reach", (high - low) / 2)

    def scale_action(self, action: Tensor) -> Tensor:
        """Environment units to -1..1, `[..., act]`."""
        return (action - self.action_middle) / self.action_reach

    def unscale_action(self, action: Tensor) -> Tensor:
        """-1..1 to environment units, `[..., act]`."""
        return self.action_middle + self.action_reach * action


class ScaledTransitions(ScaledActions):
    """A module that reads transitions, each entry at about zero mean and unit spread.

    Args:
        observations: Entries of an observation as the agent sees it.
        low: Lower bounds of actions, `[act]`.
        high: Upper bounds.
    """

    def __init__(self, observations: int, low: Tensor, high: Tensor) -> None:
        super().__init__(low, high)
        self.observation_norm = Normalizer(observations)
        self.motion_norm = Normalizer(observations)
        self.reward_norm = Normalizer(1)

    def fit_normalizers(self, rows: Rows) -> None:
        """Fix the scales from warm-up transitions, fields `[n, ...]`."""
        self.observation_norm.fit(rows.observation)
        self.motion_norm.fit(rows.next_observation - rows.observation)
        self.reward_norm.scale.copy_(spread(rows.reward, least=1e-2))

    def scaled(self, rows: Rows) -> Tensor:
        """Observation, action, reward and motion of each transition, `[..., 2 * obs + act + 1]`."""
        entries = [
            self.observation_norm(rows.observation),
            self.scale_action(rows.action),
            self.reward_norm(rows.reward),
            self.motion_norm(rows.next_observation - rows.observation),
        ]
        return torch.cat(entries, -1)
