"""The networks: plain MLPs, a batched pair of critics, a squashed Gaussian actor, and the context encoder."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LOG_STD_RANGE = (-5.0, 2.0)


class Normalizer(nn.Module):
    """Affine scaling to about zero mean and unit spread, fixed after warm-up."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, rows: Tensor) -> None:
        """Take mean and spread from `rows`, `[n, size]`."""
        self.mean.copy_(rows.mean(0))
        self.scale.copy_(rows.std(0).clamp(min=1e-3))

    def forward(self, value: Tensor) -> Tensor:
        """Scale `[..., size]`."""
        return (value - self.mean) / self.scale


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them; the last one is linear."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class EnsembleLinear(nn.Module):
    """`members` linear layers as one batched product."""

    def __init__(self, members: int, inner: int, outer: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inner)
        self.weight = nn.Parameter(torch.empty(members, inner, outer).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outer).uniform_(-bound, bound))

    def forward(self, value: Tensor) -> Tensor:
        """`[members, rows, inner] -> [members, rows, outer]`."""
        return torch.baddbmm(self.bias, value, self.weight)


class Critics(nn.Module):
    """Twin critics Q(input, action), evaluated as one batched module."""

    def __init__(self, inputs: int, actions: int, hidden: tuple[int, ...], *, members: int = 2) -> None:
        super().__init__()
        self.members = members
        sizes = (inputs + actions, *hidden, 1)
        self.layers = nn.ModuleList(EnsembleLinear(members, inner, outer) for inner, outer in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in hidden)

    def forward(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Values of `[rows, inputs]` and scaled actions `[rows, act]` in -1..1, `[members, rows]`."""
        value = torch.cat([inputs, action], -1).expand(self.members, -1, -1)
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            value = F.relu(norm(layer(value)))
        values: Tensor = self.layers[-1](value)[..., 0]
        return values


class Sampled(NamedTuple):
    """An action and how likely it was.

    Attributes:
        action: Scaled to -1..1, `[rows, act]`.
        log_prob: Of the scaled action, `[rows]`.
    """

    action: Tensor
    log_prob: Tensor


class Actor(nn.Module):
    """A tanh-squashed Gaussian policy; the noise is an input, so that whoever calls owns the seed."""

    def __init__(self, inputs: int, actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.body = mlp((inputs, *hidden, 2 * actions))

    def forward(self, inputs: Tensor, noise: Tensor) -> Sampled:
        """Squash `mean + std * noise`; `noise` is standard normal, `[rows, act]`."""
        mean, raw = self.body(inputs).chunk(2, -1)
        low, high = LOG_STD_RANGE
        log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0)
        before = mean + log_std.exp() * noise
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), which does not underflow.
        squash = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))
        log_prob = (-0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi) - squash).sum(-1)
        return Sampled(torch.tanh(before), log_prob)


class Encoder(nn.Module):
    """Context encoder: each transition becomes the natural parameters of a Gaussian factor.

    Factors begin vague (precision near `FIRST_PRECISION`), so that evidence adds up over a trial instead of being
    averaged away.
    """

    FIRST_PRECISION = 0.02

    def __init__(self, observations: int, actions: int, latent: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.latent = latent
        self.body = mlp((2 * observations + actions + 1, *hidden, 2 * latent))
        self._offset = math.log(math.expm1(self.FIRST_PRECISION))

    def forward(self, transition: Tensor) -> Tensor:
        """Factors `[..., 2 * latent]` of normalized transitions `(s, a, r, s' - s)`, `[..., inputs]`."""
        weighted_mean, raw = self.body(transition).chunk(2, -1)
        return torch.cat([weighted_mean, F.softplus(raw + self._offset)], -1)
