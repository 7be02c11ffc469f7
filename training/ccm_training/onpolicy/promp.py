"""ProMP (Rothfuss et al., 2019): proximal meta-policy search."""

from typing import NamedTuple

import torch
from torch import Tensor

from ccm_training.onpolicy.gaussian import GaussianPolicy, Parameters
from ccm_training.onpolicy.inner_step import Lesson, adapt, divergence, log_probs, ratio_loss
from ccm_training.onpolicy.ppo import surrogate_loss


class ProximalLoss(NamedTuple):
    """Averaged over tasks.

    Attributes:
        loss: To be made smaller.
        surrogate: The clipped surrogate of the adapted policies, negated.
        divergence: KL of the policy before adaptation from what it was.
    """

    loss: Tensor
    surrogate: Tensor
    divergence: Tensor


def promp_loss(
    policy: GaussianPolicy,
    parameters: Parameters,
    before: Lesson,
    after: Lesson,
    *,
    rate: float,
    clip: float,
    weight: float,
) -> ProximalLoss:
    """What one step from `parameters` is worth, as long as the policies stay near to those that acted.

    Args:
        policy: Whose parameters.
        parameters: From which every task takes its step.
        before: Episodes of these parameters as they were, of every task.
        after: Episodes of each task's adapted policy as it was.
        rate: Of the inner step.
        clip: Ratios beyond 1 +- this gain nothing.
        weight: eta, of the divergence before adaptation.
    """

    def of_task(first: Lesson, second: Lesson) -> tuple[Tensor, Tensor]:
        adapted = adapt(ratio_loss, policy, parameters, first, rate)
        surrogate = surrogate_loss(*log_probs(policy, adapted, second), second.advantage, second.valid, clip)
        return surrogate, divergence(policy, parameters, first)

    surrogates, divergences = torch.func.vmap(of_task)(before, after)
    surrogate, moved = surrogates.mean(), divergences.mean()
    return ProximalLoss(surrogate + weight * moved, surrogate, moved)
