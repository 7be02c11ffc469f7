"""VariBAD's evidence lower bound as pure functions (Zintgraf et al., 2020): posteriors after every step of a trial."""

import torch
from torch import Tensor


def divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL of diagonal Gaussians from others, `[..., latent]` each, `[...]`."""
    apart = (mean - other_mean).square() + log_variance.exp()
    return 0.5 * (other_log_variance - log_variance + apart * (-other_log_variance).exp() - 1.0).sum(-1)


def successive_divergences(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of each posterior from the one before it, of the first from N(0, I).

    Args:
        mean: After 0, 1, ... transitions, `[n, times, latent]`.
        log_variance: Likewise.

    Returns:
        `[n, times]`.
    """
    nothing = torch.zeros_like(mean[:, :1])
    before = torch.cat([nothing, mean[:, :-1]], 1), torch.cat([nothing, log_variance[:, :-1]], 1)
    return divergence(mean, log_variance, *before)


def reconstruction_loss(predicted: Tensor, actual: Tensor, valid: Tensor, share: float) -> Tensor:
    """Squared errors of what each posterior says of the steps of its trial, summed over both and averaged over trials.

    Args:
        predicted: By a sample of each posterior for each step, `[n, times, steps, size]`.
        actual: `[n, steps, size]`.
        valid: `[n, steps, 1]`.
        share: Of all pairs of a posterior and a step, how many these are: the sum is over all.
    """
    errors = (predicted - actual[:, None]).square() * valid[:, None]
    return errors.mean(-1).sum((1, 2)).mean() / share
