"""Torch twin of the runtime's fold: a belief is a product of Gaussian factors, kept as sums of natural parameters.

Each transition contributes a factor with precision `p` and precision-weighted mean `h`; the prior is N(0, I). A belief
is the vector `[sum of h, sum of p]`, so that every prefix of a trial comes from one cumulative sum.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Latent(NamedTuple):
    """A Gaussian over the task.

    Attributes:
        mean: `[..., latent]`.
        std: `[..., latent]`.
    """

    mean: Tensor
    std: Tensor


def prefixes(factors: Tensor, start: Tensor) -> Tensor:
    """Beliefs before and after every transition.

    Args:
        factors: Natural parameters of each transition (zero where padded), `[..., t, belief]`.
        start: Belief before the first, `[..., belief]`.

    Returns:
        `[..., t + 1, belief]`; entry `i` has seen the first `i` transitions.
    """
    return torch.cat([start[..., None, :], start[..., None, :] + factors.cumsum(-2)], -2)


def read(belief: Tensor) -> Latent:
    """Posterior of the product of factors and the prior N(0, I).

    Args:
        belief: `[..., 2 * latent]`.
    """
    weighted_mean, precision = belief.chunk(2, -1)
    variance = 1.0 / (1.0 + precision)
    return Latent(weighted_mean * variance, variance.sqrt())


def features(belief: Tensor) -> Tensor:
    """A belief as a policy reads it: posterior mean and log precision, `[..., 2 * latent]`."""
    weighted_mean, precision = belief.chunk(2, -1)
    return torch.cat([weighted_mean / (1.0 + precision), precision.log1p()], -1)
