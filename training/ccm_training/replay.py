"""Replay of whole trials: for each training task a ring of trials, each K exploration and then execution episodes."""

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

    def add(self, tasks: Tensor, trials: Rows) -> None:
        """Store one trial for each of these distinct tasks; fields are `[n, episodes, horizon, ...]`."""
        slot = self.written[tasks] % self.capacity
        for store, new in zip(self.rows, trials, strict=True):
            store[tasks, slot] = new
        self.written[tasks] += 1

    def sample_trials(self, tasks: Tensor, num: int, generator: torch.Generator, *, recent: int | None = None) -> Rows:
        """`num` trials of each task, `[n, num, episodes, horizon, ...]`, of the latest `recent` if given."""
        written = self.written[tasks]
        stored = written.clamp(max=self.capacity)
        reach = stored if recent is None else stored.clamp(max=recent)
        chance = torch.rand(len(tasks), num, generator=generator, device=tasks.device)
        age = (chance * reach[:, None]).long()
        slot = (written[:, None] - 1 - age) % self.capacity
        return self._gather(self._packed.flatten(0, 1), tasks[:, None] * self.capacity + slot)

    def sample_rows(self, tasks: Tensor, num: int, generator: torch.Generator, *, episodes: int | None = None) -> Rows:
        """`num` transitions of each task, `[n, num, ...]`, from each trial's first `episodes` if given.

        Padding may be among them; mask by `valid`.
        """
        stored = self.written[tasks].clamp(max=self.capacity)[:, None]
        shape = (len(tasks), num)
        chance = torch.rand(3, *shape, generator=generator, device=tasks.device)
        slot = (chance[0] * stored).long()
        episode = (chance[1] * (episodes or self.episodes)).long()
        step = (chance[2] * self.horizon).long()
        at = ((tasks[:, None] * self.capacity + slot) * self.episodes + episode) * self.horizon + step
        return self._gather(self._packed.flatten(0, 3), at)

    def _gather(self, packed: Tensor, at: Tensor) -> Rows:
        """Entries of `packed`, `[entries, ...]`, at `at`, `[n, num]`, as rows `[n, num, ...]`."""
        chosen = packed.index_select(0, at.flatten()).view(*at.shape, *packed.shape[1:])
        return Rows(*(field.contiguous() for field in torch.split(chosen, self._widths, -1)))
