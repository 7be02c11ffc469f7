"""MAML with a trust region (Finn et al., 2017; Schulman et al., 2015): what is good after a gradient step."""

import torch
from torch import Tensor

from ccm_training.onpolicy.gaussian import GaussianPolicy, Parameters, from_vector, to_vector
from ccm_training.onpolicy.inner_step import Lesson, adapt, divergence, likelihood_loss, ratio_loss
from ccm_training.onpolicy.trust_region import Stepped, trust_region_step


def maml_objective(
    policy: GaussianPolicy, parameters: Parameters, before: Lesson, after: Lesson, rate: float
) -> tuple[Tensor, Tensor]:
    """What one step from `parameters` is worth, averaged over tasks.

    Args:
        policy: Whose parameters.
        parameters: From which every task takes its step.
        before: Episodes of these parameters as they were, of every task.
        after: Episodes of each task's adapted policy as it was.
        rate: Of the inner step.

    Returns:
        The surrogate loss `-E[ratio A]` of the adapted policies, and their KL from those that acted.
    """

    def of_task(first: Lesson, second: Lesson) -> tuple[Tensor, Tensor]:
        adapted = adapt(likelihood_loss, policy, parameters, first, rate)
        return ratio_loss(policy, adapted, second), divergence(policy, adapted, second)

    surrogates, divergences = torch.func.vmap(of_task)(before, after)
    return surrogates.mean(), divergences.mean()


def maml_step(
    policy: GaussianPolicy, parameters: Parameters, before: Lesson, after: Lesson, *, rate: float, radius: float
) -> tuple[Parameters, Stepped]:
    """The parameters after one outer step, and how it went."""

    def objective(vector: Tensor) -> tuple[Tensor, Tensor]:
        return maml_objective(policy, from_vector(vector, parameters), before, after, rate)

    stepped = trust_region_step(objective, to_vector(parameters), radius)
    return from_vector(stepped.parameters, parameters), stepped
