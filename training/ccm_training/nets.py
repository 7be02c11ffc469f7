"""The networks: plain MLPs, a batched pair of critics, a squashed Gaussian actor, and the context encoder."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ccm_training import dense

LOG_STD_RANGE = (-5.0, 2.0)
_ROUNDING = 1e-6  # float32


def spread(rows: Tensor, least: float) -> Tensor:
    """Spread of each entry of `rows`, `[n, size]`, or `least`; 1 for what has not varied (a reward not met yet)."""
    found = rows.std(0)
    varied = found > _ROUNDING * rows.mean(0).abs().clamp(min=1.0)
    return torch.where(varied, found.clamp(min=least), torch.ones_like(found))


class Normalizer(nn.Module):
    """Affine scaling to about zero mean and unit spread, fixed after warm-up."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, rows: Tensor) -> None:
        """Take mean and spread from `rows`, `[n, size]`; what has not varied is not scaled."""
        self.mean.copy_(rows.mean(0))
        self.scale.copy_(spread(rows, least=1e-3))

    def forward(self, value: Tensor) -> Tensor:
        """Scale `[..., size]`."""
        return (value - self.mean) / self.scale


class Mlp(nn.Sequential):
    """Linear layers with ReLU between them; the last one is linear."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
        self._width = max(sizes[1:-1], default=0)

    def forward(self, value: Tensor) -> Tensor:
        """`[..., inputs] -> [..., outputs]`."""
        if not dense.pays(value, self._width):
            plain: Tensor = super().forward(value)  # type: ignore[no-untyped-call]
            return plain
        linear = [layer for layer in self if isinstance(layer, nn.Linear)]
        out = dense.run(value.flatten(0, -2), [layer.weight for layer in linear], [layer.bias for layer in linear])
        return out.view(*value.shape[:-1], -1)


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
    """Twin critics Q(input, action): one batched module, or on a CPU with large batches one after the other."""

    def __init__(self, inputs: int, actions: int, hidden: tuple[int, ...], *, members: int = 2) -> None:
        super().__init__()
        sizes = (inputs + actions, *hidden, 1)
        self.members, self._width = members, max(hidden)
        self.layers = nn.ModuleList(EnsembleLinear(members, inner, outer) for inner, outer in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=dense.EPSILON) for width in hidden)

    def forward(self, inputs: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
        """Values of `[rows, inputs]` and scaled actions `[rows, act]` in -1..1, `[members, rows]`.

        Frozen, nobody will ask for the gradients of the critics themselves, only for those of what they are given.
        """
        value = torch.cat([inputs, action], -1)
        if dense.pays(value, self._width):
            return self._one_by_one(value, frozen=frozen)
        value = value.expand(self.members, -1, -1)
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            value = F.relu(norm(layer(value)))
        values: Tensor = self.layers[-1](value)[..., 0]
        return values

    def _one_by_one(self, value: Tensor, *, frozen: bool) -> Tensor:
        """The same for `[rows, inputs + act]`, each member on its own."""
        weights, biases, gains, shifts = (
            [getattr(part, name).detach() if frozen else getattr(part, name) for part in parts]
            for parts in (self.layers, self.norms)
            for name in ("weight", "bias")
        )
        of_members = zip(*(weight.mT.unbind() for weight in weights), strict=True)
        and_biases = zip(*(bias[:, 0].unbind() for bias in biases), strict=True)
        both = zip(of_members, and_biases, strict=True)
        return torch.stack([dense.run(value, *member, gains, shifts)[:, 0] for member in both])


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
        self.body = Mlp((inputs, *hidden, 2 * actions))

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
        self.body = Mlp((2 * observations + actions + 1, *hidden, 2 * latent))
        self._offset = math.log(math.expm1(self.FIRST_PRECISION))

    def forward(self, transition: Tensor) -> Tensor:
        """Factors `[..., 2 * latent]` of normalized transitions `(s, a, r, s' - s)`, `[..., inputs]`."""
        weighted_mean, raw = self.body(transition).chunk(2, -1)
        return torch.cat([weighted_mean, F.softplus(raw + self._offset)], -1)
