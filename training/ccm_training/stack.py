"""Agents of several seeds as one: their tensors side by side, `[seeds, ...]`, and functions of an agent on all of them.

What is elementwise (Adam, slow copies, temperatures) needs no more than the stacked tensors. What is not is written for
one agent, and `Stack` applies it to each with its own arguments.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ccm_training.agent import Agent


class Agents(Protocol):
    """One agent or several, to which a function of an agent can be applied.

    Attributes:
        seeds: How many.
        agent: Holds all their tensors, as leaves.
    """

    seeds: int
    agent: Agent

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(agent, *arguments)`; of several agents, every tensor in and out has the seeds first."""


class Single:
    """One agent."""

    def __init__(self, agent: Agent) -> None:
        self.seeds, self.agent = 1, agent

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function."""
        return function(self.agent, *arguments)


class Stack:
    """Agents of several seeds; from now on their own tensors are views of the stacked ones.

    Args:
        agents: Of the same settings.
        at_once: Compute all seeds in the same kernels (`vmap`), which is what a GPU wants. Otherwise one seed after
            another: batched products cost a CPU more than they save.
    """

    def __init__(self, agents: Sequence[Agent], *, at_once: bool) -> None:
        self.agent = copy.deepcopy(agents[0])
        self.seeds, self._at_once, self._own = len(agents), at_once, agents
        self._tensors = _tensors(self.agent)
        for name, tensor in self._tensors.items():
            own = [_tensors(agent)[name] for agent in agents]
            tensor.data = torch.stack([part.detach() for part in own])
            for part, view in zip(own, tensor.detach().unbind(), strict=True):
                part.data = view
        # The agent that functions are given; its tensors are lent to it for the time of a call.
        self._form = copy.deepcopy(agents[0])
        self._places = [
            (module, name, f"{path}.{name}" if path else name)
            for path, module in self._form.named_modules()
            for name in (*module._parameters, *module._buffers)
        ]
        for module, name, _ in self._places:
            delattr(module, name)

    def only(self, *prefixes: str) -> "Stack":
        """The same agents for functions that ask for no other of their tensors: fewer to lend at each call."""
        few = copy.copy(self)
        few._tensors = {name: tensor for name, tensor in self._tensors.items() if name.startswith(prefixes)}
        few._places = [place for place in self._places if place[2] in few._tensors]
        return few

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Apply the function to each seed's agent and arguments; every tensor in and out has the seeds first."""

        def one(tensors: dict[str, Tensor], *own: Any) -> Any:
            for module, name, full in self._places:
                module.__dict__[name] = tensors[full]
            return function(self._form, *own)

        if self._at_once:
            return torch.vmap(one)(self._tensors, *arguments)
        own = [tree_map(lambda tensor, seed=seed: tensor[seed], arguments) for seed in range(self.seeds)]
        if torch.is_grad_enabled():  # gradients go to the stacked tensors
            parts = {name: tensor.unbind() for name, tensor in self._tensors.items()}
            found = [one({name: part[seed] for name, part in parts.items()}, *own[seed]) for seed in range(self.seeds)]
        else:
            found = [function(agent, *given) for agent, given in zip(self._own, own, strict=True)]
        return tree_map(lambda *each: torch.stack(each), *found)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())
