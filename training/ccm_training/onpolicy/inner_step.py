"""The inner step: each task's policy after one policy-gradient step on the task's own episodes.

Losses are of one task; `vmap` gives them all tasks as a dimension. They are differentiable twice: the outer step's
gradient goes through the inner one (second order).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ccm_training.onpolicy.gaussian import Gaussian, GaussianPolicy, Parameters, call
from ccm_training.onpolicy.ppo import mean_over


class Lesson(NamedTuple):
    """Steps to learn from; fields have a leading dimension of tasks where they are of many.

    Attributes:
        observation: `[episodes, steps, obs]`.
        action: Scaled, as it was drawn, `[episodes, steps, act]`.
        advantage: `[episodes, steps]`.
        valid: 1 where a step was taken, `[episodes, steps]`.
        acted: What the actions were drawn from, `[episodes, steps, act]`.
    """

    observation: Tensor
    action: Tensor
    advantage: Tensor
    valid: Tensor
    acted: Gaussian


InnerLoss = Callable[[GaussianPolicy, Parameters, Lesson], Tensor]


class InnerStep(NamedTuple):
    """How an agent adapts.

    Attributes:
        loss: Whose gradient it follows.
        rate: Size of the step.
        discount: Per step, of the advantages.
        trace: lambda of the advantages.
    """

    loss: InnerLoss
    rate: float
    discount: float
    trace: float


def likelihood_loss(policy: GaussianPolicy, parameters: Parameters, lesson: Lesson) -> Tensor:
    """`-E[log pi(a|s) A]`, MAML's (Finn et al., 2017)."""
    now = call(policy, parameters, lesson.observation)
    return -mean_over(now.log_prob(lesson.action) * lesson.advantage, lesson.valid)


def ratio_loss(policy: GaussianPolicy, parameters: Parameters, lesson: Lesson) -> Tensor:
    """`-E[pi(a|s) / pi_old(a|s) A]`: ProMP's; its gradient knows that other parameters sample otherwise."""
    return -mean_over(ratio(policy, parameters, lesson) * lesson.advantage, lesson.valid)


def ratio(policy: GaussianPolicy, parameters: Parameters, lesson: Lesson) -> Tensor:
    """How much likelier the actions are than when they were drawn, `[episodes, steps]`."""
    now, then = log_probs(policy, parameters, lesson)
    return (now - then).exp()


def log_probs(policy: GaussianPolicy, parameters: Parameters, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Log densities of the actions now, and when they were drawn, `[episodes, steps]` each."""
    now = call(policy, parameters, lesson.observation)
    return now.log_prob(lesson.action), lesson.acted.log_prob(lesson.action)


def divergence(policy: GaussianPolicy, parameters: Parameters, lesson: Lesson) -> Tensor:
    """Mean KL from what drew the actions to the policy with these parameters, `[]`."""
    return mean_over(lesson.acted.divergence(call(policy, parameters, lesson.observation)), lesson.valid)


def adapt(loss: InnerLoss, policy: GaussianPolicy, parameters: Parameters, lesson: Lesson, rate: float) -> Parameters:
    """One task's parameters after a gradient step of size `rate`."""
    gradients = torch.func.grad(lambda own: loss(policy, own, lesson))(parameters)
    return {name: value - rate * gradients[name] for name, value in parameters.items()}


def adapt_each(
    loss: InnerLoss, policy: GaussianPolicy, parameters: Parameters, lessons: Lesson, rate: float
) -> Parameters:
    """Every task's parameters after a step from the same ones, each `[tasks, ...]`."""
    return torch.func.vmap(lambda lesson: adapt(loss, policy, parameters, lesson, rate))(lessons)
