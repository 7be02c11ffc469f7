"""An agent: the context encoder with its momentum copy, and two soft actor-critics that act on what it says."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from ccm_training import belief as beliefs
from ccm_training.nets import Actor, Critics, Encoder, Mlp
from ccm_training.replay import Rows
from ccm_training.scales import ScaledTransitions

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """The same weights, out of every gradient's reach."""
    return copy.deepcopy(module).requires_grad_(requires_grad=False)


class SoftActorCritic(nn.Module):
    """Actor, twin critics, their slow copies and the learned temperature."""

    def __init__(self, inputs: int, actions: int, hidden: tuple[int, ...], temperature: float) -> None:
        super().__init__()
        self.actor = Actor(inputs, actions, hidden)
        self.critics = Critics(inputs, actions, hidden)
        self.target_critics = frozen_copy(self.critics)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())


class Agent(ScaledTransitions):
    """Everything that is trained, and everything that is exported."""

    def __init__(
        self,
        *,
        observations: int,
        action_low: Tensor,
        action_high: Tensor,
        latent: int,
        hidden: tuple[int, ...],
        encoder_hidden: tuple[int, ...],
        temperature: float,
        task_features: int = 0,
    ) -> None:
        super().__init__(observations, action_low, action_high)
        actions = len(action_low)
        self.latent = latent
        self.encoder = Encoder(observations, actions, latent, encoder_hidden)
        self.momentum_encoder = frozen_copy(self.encoder)
        self.bilinear = nn.Parameter(torch.eye(latent))
        around = observations + actions + latent
        self.forward_model = Mlp((around, *encoder_hidden, observations + 1))
        self.backward_model = Mlp((around, *encoder_hidden, observations))
        self.executor = SoftActorCritic(observations + (task_features or latent), actions, hidden, temperature)
        self.explorer = SoftActorCritic(observations + 2 * latent, actions, hidden, temperature)

    def factors(self, rows: Rows, encoder: Encoder | None = None) -> Tensor:
        """Natural parameters of each transition, `[..., 2 * latent]`; zero where padded."""
        factors: Tensor = (encoder or self.encoder)(self.scaled(rows))
        return factors * rows.valid

    def prediction_errors(self, rows: Rows, latent: Tensor) -> Tensor:
        """Squared errors of the task-conditioned models, averaged over entries, `[...]` (dynamics prediction, DP).

        Forward: the next observation's change and the reward from (s, a, z); backward, at half weight: the change
        from (s', a, z). All in normalized units.
        """
        change = self.motion_norm(rows.next_observation - rows.observation)
        reward = self.reward_norm(rows.reward)
        action = self.scale_action(rows.action)
        ahead = self.forward_model(torch.cat([self.observation_norm(rows.observation), action, latent], -1))
        back = self.backward_model(torch.cat([self.observation_norm(rows.next_observation), action, latent], -1))
        forward: Tensor = (ahead - torch.cat([change, reward], -1)).square().mean(-1)
        backward: Tensor = (back - change).square().mean(-1)
        return forward + 0.5 * backward

    def executor_inputs(self, observation: Tensor, latent: Tensor) -> Tensor:
        """`[..., obs]` and `[..., latent]` as the executor reads them."""
        return torch.cat([self.observation_norm(observation), latent], -1)

    def explorer_inputs(self, observation: Tensor, belief: Tensor) -> Tensor:
        """`[..., obs]` and `[..., 2 * latent]` as the explorer reads them."""
        return torch.cat([self.observation_norm(observation), beliefs.features(belief)], -1)
