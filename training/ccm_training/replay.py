"""Replay of whole trials: for each training task a ring of trials, each K exploration and then execution episodes."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """Transitions; the leading dimensions are the caller's.

    Attributes:
        observation: `[..., obs]`.
        action: `[..., act]`, in environment units.
        reward: `[..., 1]`, the environment's own.
        next_observation: `[..., obs]`.
        terminated: `[..., 1]`, 1 where the task itself ended the episode.
        valid: `[..., 1]`, 0 where the row is padding after an early end.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor
    valid: Tensor


class Replay:
    """Trials `[tasks, capacity, episodes, horizon, ...]` on one device, overwritten oldest first."""

    def __init__(
        self,
        *,
        tasks: int,
        capacity: int,
        episodes: int,
        horizon: int,
        observation: int,
        action: int,
        device: torch.device,
    ) -> None:
        self.capacity = capacity
        self.episodes, self.horizon = episodes, horizon
        self._widths = [observation, action, 1, observation, 1, 1]
        # Side by side, so that drawing takes one gather; `rows` shows the parts.
        self._packed = torch.zeros(tasks, capacity, episodes, horizon, sum(self._widths), device=device)
        self.rows = Rows(*torch.split(self._packed, self._widths, -1))
        self.written = torch.zeros(tasks, dtype=torch.long, device=device)

    def parts(self, num: int) -> "list[Replay]":
        """The same memory as so many replays, each with as many tasks: one for each seed of a cohort."""
        parts = [copy.copy(self) for _ in range(num)]
        for part, packed, written in zip(parts, self._packed.chunk(num), self.written.chunk(num), strict=True):
            part._packed, part.written = packed, written
            part.rows = Rows(*torch.split(packed, self._widths, -1))
        return parts

    def add(self, tasks: Tensor, trials: Rows) -> None:
        """Store one trial for each of these distinct tasks; fields are `[n, episodes, horizon, ...]`."""
        slot = self.written[tasks] % self.capacity
        for store, new in zip(self.rows, trials, strict=True):
            store[tasks, slot] = new
        self.written[tasks] += 1

    def sample_trials(self, tasks: Tensor, chance: Tensor) -> Rows:
        """Trials of each task, `[n, num, episodes, horizon, ...]`; `chance`, uniform, `[n, num]`, says which."""
        written = self.written[tasks]
        stored = written.clamp(max=self.capacity)
        age = (chance * stored[:, None]).long()
        slot = (written[:, None] - 1 - age) % self.capacity
        return self._gather(self._packed.flatten(0, 1), tasks[:, None] * self.capacity + slot)

    def sample_rows(self, tasks: Tensor, chance: Tensor, *, last: int = 0, share: float = 0.0) -> Rows:
        """Transitions of each task, `[n, num, ...]`, padding among them: mask by `valid`.

        Args:
            tasks: `[n]`.
            chance: Which of those stored; uniform float32, `[n, num]`, which tells 16 million apart.
            last: Episodes at the end of a trial.
            share: Of the transitions, how many come from these episodes alone.
        """
        steps, ending = self.episodes * self.horizon, last * self.horizon
        trials = self.written[tasks].clamp(max=self.capacity)[:, None]
        at = (chance * (trials * steps)).long()
        if share > 0.0:
            late = _one_of(trials * ending, chance / share)
            late = late // ending * steps + (steps - ending) + late % ending
            others = _one_of(trials * steps, (chance - share) / max(1.0 - share, 1e-6))
            at = torch.where(chance < share, late, others)
        return self._gather(self._packed.flatten(0, 3), tasks[:, None] * (self.capacity * steps) + at)

    def _gather(self, packed: Tensor, at: Tensor) -> Rows:
        """Entries of `packed`, `[entries, ...]`, at `at`, `[n, num]`, as rows `[n, num, ...]`, views of one tensor."""
        chosen = packed.index_select(0, at.flatten()).view(*at.shape, *packed.shape[1:])
        return Rows(*torch.split(chosen, self._widths, -1))


def _one_of(count: Tensor, chance: Tensor) -> Tensor:
    """Which of so many, `[n, 1]`, a number tells that is uniform but for rounding, `[n, num]`. Of none: 0."""
    return torch.minimum((chance * count).long(), count - 1).clamp(min=0)
