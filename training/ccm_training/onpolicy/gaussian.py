"""A Gaussian policy as a function of its parameters, so that every task may have parameters of its own."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

Parameters = dict[str, Tensor]
"""Of a policy, by name; with a leading dimension of tasks where each task has its own."""
_LEAST_LOG_STD = math.log(1e-6)


class Gaussian(NamedTuple):
    """Independent normal distributions over the entries of actions.

    Attributes:
        mean: `[..., act]`.
        log_std: `[..., act]`.
    """

    mean: Tensor
    log_std: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """Log density of actions `[..., act]`, `[...]`."""
        scaled = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy, `[...]`."""
        return (self.log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)

    def divergence(self, other: "Gaussian") -> Tensor:
        """KL(self || other), `[...]`."""
        spread = (2.0 * (self.log_std - other.log_std)).exp()
        apart = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        return (other.log_std - self.log_std + 0.5 * (spread + apart - 1.0)).sum(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """An action for each standard normal `noise`, `[..., act]`."""
        return self.mean + self.log_std.exp() * noise


class GaussianPolicy(nn.Module):
    """Tanh layers to the mean of a Gaussian over scaled actions; its log standard deviation is learned by itself.

    Actions are scaled so that the bounds are -1 and 1, and are not squashed: who acts clips them.
    """

    def __init__(self, observations: int, actions: int, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        self.observations = observations
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise((observations, *hidden)):
            layers += [nn.Linear(inner, outer), nn.Tanh()]
        self.mean = nn.Sequential(*layers, nn.Linear((observations, *hidden)[-1], actions))
        self.log_std = nn.Parameter(torch.zeros(actions))
        for layer in self.mean:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, observation: Tensor) -> Gaussian:
        """What it does where it sees `[..., obs]`."""
        mean = self.mean(observation)
        return Gaussian(mean, self.log_std.clamp(min=_LEAST_LOG_STD).expand_as(mean))


def parameters_of(policy: GaussianPolicy) -> Parameters:
    """A policy's parameters, out of every graph."""
    return {name: value.detach() for name, value in policy.named_parameters()}


def call(policy: GaussianPolicy, parameters: Parameters, observation: Tensor) -> Gaussian:
    """What the policy with these parameters does where it sees `[..., obs]`."""
    found: Gaussian = torch.func.functional_call(policy, parameters, (observation,))
    return found


def call_each(policy: GaussianPolicy, parameters: Parameters, observation: Tensor) -> Gaussian:
    """What each task's policy does where it sees `[tasks, ..., obs]`; parameters are `[tasks, ...]`."""
    found: Gaussian = torch.func.vmap(lambda own, seen: call(policy, own, seen))(parameters, observation)
    return found


def to_vector(parameters: Parameters) -> Tensor:
    """All parameters in a row, `[parameters]`."""
    return torch.cat([value.flatten() for value in parameters.values()])


def from_vector(vector: Tensor, like: Parameters) -> Parameters:
    """The parameters that `to_vector` put in a row; leading dimensions of `[..., parameters]` stay."""
    parts = torch.split(vector, [value.numel() for value in like.values()], -1)
    return {
        name: part.reshape(*vector.shape[:-1], *value.shape)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }
