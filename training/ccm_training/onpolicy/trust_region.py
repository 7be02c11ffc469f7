"""A step of trust-region policy optimization (Schulman et al., 2015): natural direction, then a line search."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_ITERATIONS = 10
_BACKTRACKS, _SHRINK = 15, 0.8
_DAMPING = 1e-5
_ENOUGH = 1e-10  # squared residual at which conjugate gradient stops

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Loss to be made smaller and divergence from where it was, of parameters in a row."""


class Stepped(NamedTuple):
    """Where a step led.

    Attributes:
        parameters: In a row; those from before where no step was good.
        loss: Before the step.
        improvement: By how much the loss fell.
        divergence: From the policy before.
        share: Of the longest step; 0: none was taken.
    """

    parameters: Tensor
    loss: Tensor
    improvement: Tensor
    divergence: Tensor
    share: float


def conjugate_gradient(product: Callable[[Tensor], Tensor], wanted: Tensor) -> Tensor:
    """`x` such that `product(x)`, a positive definite matrix times it, is about `wanted`, `[n]`."""
    solution = torch.zeros_like(wanted)
    left = direction = wanted
    size = left @ left
    for _ in range(_ITERATIONS):
        if size <= _ENOUGH:
            break
        turned = product(direction)
        step = size / (direction @ turned)
        solution = solution + step * direction
        left = left - step * turned
        before, size = size, left @ left
        direction = left + size / before * direction
    return solution


def trust_region_step(objective: Objective, start: Tensor, radius: float) -> Stepped:
    """Go as far along the natural gradient as the loss falls and the divergence stays within `radius`.

    `start` and what comes of it are vectors of all parameters, `[parameters]`. The products with the
    divergence's Hessian are exact, by differentiating twice.
    """
    here = start.detach().requires_grad_()
    loss, divergence = objective(here)
    (gradient,) = torch.autograd.grad(loss, here, retain_graph=True)
    (slope,) = torch.autograd.grad(divergence, here, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        (curved,) = torch.autograd.grad(slope, here, vector, retain_graph=True)
        return curved + _DAMPING * vector

    direction = conjugate_gradient(product, gradient)
    longest = (2.0 * radius / (direction @ product(direction)).clamp(min=1e-12)).sqrt()
    return _search(objective, here.detach(), -longest * direction, radius, loss.detach())


@torch.no_grad()
def _search(objective: Objective, start: Tensor, step: Tensor, radius: float, loss: Tensor) -> Stepped:
    """Shorten a step until it keeps what it promises."""
    for backtracks in range(_BACKTRACKS):
        share = _SHRINK**backtracks
        there = start + share * step
        after, divergence = objective(there)
        if after < loss and divergence <= radius:  # false of what is not a number, too
            return Stepped(there, loss, loss - after, divergence, share)
    nothing = torch.zeros_like(loss)
    return Stepped(start, loss, nothing, nothing, 0.0)
