"""Proximal policy optimization as pure functions (Schulman et al., 2017), over trials `[n, steps]` with padding.

A trial is one long episode: what an episode's end cuts off is not worth nothing, the next one begins on the same task.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def mean_over(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` over the steps that are valid, `[]`."""
    return (values * valid).sum() / valid.sum().clamp(min=1.0)


def trial_advantages(reward: Tensor, value: Tensor, valid: Tensor, *, discount: float, trace: float) -> Tensor:
    """Generalized advantages (GAE) of every step of trials; padding is stepped over, and nothing follows a trial.

    Args:
        reward: `[n, steps]`.
        value: What was expected before each step, `[n, steps]`.
        valid: 1 where a step was taken, 0 where it is padding, `[n, steps]`.
        discount: Per step that was taken.
        trace: lambda.
    """
    found, next_value, ahead = [], torch.zeros_like(reward[:, 0]), torch.zeros_like(reward[:, 0])
    for now, expected, taken in zip(*(part.unbind(1)[::-1] for part in (reward, value, valid)), strict=True):
        advantage = now + discount * next_value - expected + discount * trace * ahead
        ahead, next_value = torch.where(taken > 0.0, advantage, ahead), torch.where(taken > 0.0, expected, next_value)
        found.append(advantage * taken)
    return torch.stack(found[::-1], 1)


def discounted_so_far(reward: Tensor, valid: Tensor, discount: float) -> Tensor:
    """`sum_k discount^k reward[t - k]` over the steps taken until t, `[n, steps]`: its spread scales rewards."""
    found, behind = [], torch.zeros_like(reward[:, 0])
    for now, taken in zip(reward.unbind(1), valid.unbind(1), strict=True):
        behind = torch.where(taken > 0.0, discount * behind + now, behind)
        found.append(behind)
    return torch.stack(found, 1)


def standardized(advantage: Tensor, valid: Tensor) -> Tensor:
    """Advantages, `[n, steps]`, with zero mean and unit spread over all valid steps."""
    centred = (advantage - mean_over(advantage, valid)) * valid
    return centred / (mean_over(centred.square(), valid).sqrt() + 1e-5)


def surrogate_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, valid: Tensor, clip: float) -> Tensor:
    """`-E[min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)]`, `[]`; all `[n, steps]`."""
    ratio = (log_prob - old_log_prob).exp()
    gained = torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)
    return -mean_over(gained, valid)


def value_loss(value: Tensor, old_value: Tensor, target: Tensor, valid: Tensor, clip: float) -> Tensor:
    """Huber loss of values, the greater of that where they are and of that within `clip` of where they were, `[]`."""
    near = old_value + (value - old_value).clamp(-clip, clip)
    losses = (F.smooth_l1_loss(guess, target, reduction="none") for guess in (value, near))
    return mean_over(torch.maximum(*losses), valid)
