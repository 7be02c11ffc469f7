"""Advantages with a linear baseline: fitted anew to every task's own episodes, all tasks in one solve."""

import torch
from torch import Tensor

_SEEN_WITHIN = 10.0  # observations are clipped to this before they become features
_STEPS = 100.0  # unit of time in the features
_RIDGE = 1e-5


def baseline_features(observation: Tensor) -> Tensor:
    """Features of every step of episodes `[..., steps, obs]`: `[..., steps, 2 obs + 4]`.

    The clipped observation, its square, the time with its square and cube, and 1 (Duan et al., 2016).
    """
    seen = observation.clamp(-_SEEN_WITHIN, _SEEN_WITHIN)
    time = torch.arange(observation.shape[-2], device=seen.device, dtype=seen.dtype) / _STEPS
    of_time = torch.stack([time, time**2, time**3, torch.ones_like(time)], -1)
    return torch.cat([seen, seen.square(), of_time.expand(*seen.shape[:-1], -1)], -1)


def discounted_sums(values: Tensor, discount: float) -> Tensor:
    """`sum_k discount^k values[t + k]` along the last dimension, for every t."""
    sums, ahead = [], torch.zeros_like(values[..., 0])
    for value in reversed(values.unbind(-1)):
        ahead = value + discount * ahead
        sums.append(ahead)
    return torch.stack(sums[::-1], -1)


def fit_baseline(features: Tensor, returns: Tensor, valid: Tensor, *, ridge: float = _RIDGE) -> Tensor:
    """Ridge regression of each task's returns on its features.

    Args:
        features: `[tasks, rows, features]`.
        returns: `[tasks, rows]`.
        valid: Which rows count, `[tasks, rows]`.
        ridge: Weight of the squared coefficients.

    Returns:
        Coefficients, `[tasks, features]`, in double precision: squares of features are far apart in size.
    """
    rows = features.double() * valid[..., None]
    gram = rows.mT @ rows + ridge * torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    coefficients: Tensor = torch.linalg.solve(gram, rows.mT @ returns.double()[..., None])
    return coefficients[..., 0]


def generalized_advantages(reward: Tensor, value: Tensor, *, discount: float, trace: float) -> Tensor:
    """GAE (Schulman et al., 2016) along the last dimension; after the last step nothing is worth anything.

    Args:
        reward: `[..., steps]`, zero once the episode has ended.
        value: The baseline before each step, `[..., steps]`, zero once the episode has ended.
        discount: Per step.
        trace: lambda.
    """
    after = torch.cat([value[..., 1:], torch.zeros_like(value[..., :1])], -1)
    return discounted_sums(reward + discount * after - value, discount * trace)


def normalized(advantage: Tensor, valid: Tensor) -> Tensor:
    """Each task's advantages with zero mean and unit spread over its valid steps, `[tasks, episodes, steps]`."""
    every = (1, 2)
    num = valid.sum(every, keepdim=True).clamp(min=1.0)
    centred = (advantage - (advantage * valid).sum(every, keepdim=True) / num) * valid
    spread = (centred.square().sum(every, keepdim=True) / num).sqrt()
    return centred / (spread + 1e-8)


def advantages(observation: Tensor, reward: Tensor, valid: Tensor, *, discount: float, trace: float) -> Tensor:
    """Normalized advantages of episodes, `[tasks, episodes, steps]`.

    Args:
        observation: `[tasks, episodes, steps, obs]`.
        reward: `[tasks, episodes, steps]`.
        valid: 1 where a step was taken, 0 where the episode was over, `[tasks, episodes, steps]`.
        discount: Per step.
        trace: lambda of GAE; with 1, returns less the baseline.
    """
    paid = reward * valid
    features = baseline_features(observation)
    returns = discounted_sums(paid, discount)
    coefficients = fit_baseline(features.flatten(1, 2), returns.flatten(1), valid.flatten(1))
    value = torch.einsum("tesf,tf->tes", features.double(), coefficients).to(reward) * valid
    return normalized(generalized_advantages(paid, value, discount=discount, trace=trace), valid)
