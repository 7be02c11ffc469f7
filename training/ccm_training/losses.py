"""The losses as pure functions: tensors in, a small named tuple or a scalar out. Equations are the CCM paper's."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ccm_training.belief import Latent


class Contrast(NamedTuple):
    """The contrastive loss and what it means.

    Attributes:
        loss: Cross-entropy, a scalar; log M when the encoder knows nothing.
        accuracy: Share of queries whose own task scores best, a scalar.
    """

    loss: Tensor
    accuracy: Tensor


def similarity(queries: Tensor, keys: Tensor, bilinear: Tensor) -> Tensor:
    """Score every query against every key, f(q, k) = q' W k.

    Args:
        queries: `[..., latent]`.
        keys: One a task, `[tasks, latent]`.
        bilinear: W, `[latent, latent]`.

    Returns:
        `[..., tasks]`.
    """
    return queries @ bilinear @ keys.T


def contrastive_loss(queries: Tensor, keys: Tensor, bilinear: Tensor) -> Contrast:
    """Tell each query's own task from the other tasks of the meta-batch (InfoNCE, eq. 3).

    Args:
        queries: Latents of the online encoder, `[tasks, queries, latent]`.
        keys: Latents of the momentum encoder for the same tasks, `[tasks, latent]`; no gradient flows in.
        bilinear: W, `[latent, latent]`.
    """
    logits = similarity(queries, keys.detach(), bilinear)
    own_task = torch.arange(len(keys), device=keys.device)[:, None].expand(logits.shape[:2])
    loss = F.cross_entropy(logits.flatten(0, 1), own_task.flatten())
    return Contrast(loss, (logits.argmax(-1) == own_task).float().mean())


def prior_divergence(latent: Latent) -> Tensor:
    """KL of the belief to the prior N(0, I), summed over the latent and averaged over the rest; a scalar."""
    variance = latent.std.square()
    return 0.5 * (latent.mean.square() + variance - variance.log() - 1.0).sum(-1).mean()


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """Squared Bellman error, summed over the twins and averaged over rows.

    Args:
        values: `[members, rows]`.
        target: `[rows]`; no gradient flows in.
    """
    return (values - target.detach()).square().mean(-1).sum()


def bellman_target(
    *,
    reward: Tensor,
    terminated: Tensor,
    next_values: Tensor,
    next_log_prob: Tensor,
    temperature: Tensor,
    discount: float,
) -> Tensor:
    """Soft target r + discount (1 - terminated) (min Q' - temperature log pi'), `[rows]`; time limits bootstrap."""
    soft_value = next_values.amin(0) - temperature * next_log_prob
    return reward + discount * (1.0 - terminated) * soft_value


def actor_loss(values: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """Soft policy improvement: mean of temperature log pi - min Q; `values` is `[members, rows]`."""
    return (temperature * log_prob - values.amin(0)).mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Raise the temperature where the policy's entropy is below its target; `log_prob` is `[rows]`, the loss `[]`."""
    return -(log_temperature * (log_prob.detach().mean() + target_entropy))
