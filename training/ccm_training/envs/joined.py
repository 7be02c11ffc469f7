"""Simulations of several seeds side by side: each keeps its own, seeded as if it were alone."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ccm_training.envs.family import BatchedEnv, CapturableEnv, Picture, Step


class JoinedEnvs:
    """Batched environments as one; rows of the first come first.

    Args:
        envs: In torch, each with as many simulations.
    """

    def __init__(self, envs: Sequence[BatchedEnv]) -> None:
        self._envs = envs
        self.num_envs = sum(env.num_envs for env in envs)

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin an episode everywhere, or where `mask` says; all observations, `[n, obs]`."""
        masks = [None] * len(self._envs) if mask is None else mask.chunk(len(self._envs))
        return torch.cat([env.reset(part) for env, part in zip(self._envs, masks, strict=True)])

    def step(self, action: Tensor) -> Step:
        """Advance every simulation; `action` is `[n, act]` in environment units."""
        actions = action.chunk(len(self._envs))
        steps = [env.step(part) for env, part in zip(self._envs, actions, strict=True)]
        return Step(*(torch.cat(field) for field in zip(*steps, strict=True)))

    def retask(self, tasks: Tensor) -> None:
        """Go to other tasks, as many, `[n, params]`, in place; of families that can be captured."""
        for env, part in zip(self._envs, tasks.chunk(len(self._envs)), strict=True):
            cast("CapturableEnv", env).retask(part)

    def frame(self, index: int) -> Picture:
        """What simulation `index` looks like now."""
        each = self.num_envs // len(self._envs)
        return self._envs[index // each].frame(index % each)
