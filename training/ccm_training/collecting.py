"""Collecting: trials of the explorer and the executor on training tasks, for the replay."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ccm_training.capture import Captured
from ccm_training.cohort import Cohort
from ccm_training.envs.family import BatchedEnv, CapturableEnv
from ccm_training.replay import Rows
from ccm_training.rollout import BatchPolicy, Noise, run_trials
from ccm_training.stopping import drawn_again_if_stopped


class Collector:
    """Runs a trial on each of some training tasks of every seed: K episodes of the explorer, then the executor.

    On a GPU all steps of all trials are one graph, where the family's simulations can be captured.
    """

    def __init__(self, cohort: Cohort) -> None:
        first = cohort.first
        self._cohort, self._wanderer, self._streams = cohort, cohort.wanderer, cohort.collecting
        self._every = len(first.tasks)
        self._num = min(first.config.collect.tasks, self._every)
        self._stays = (
            first.device.type == "cuda" and getattr(first.family, "capturable", False) and not first.config.what.told
        )
        self._there: tuple[BatchedEnv, BatchPolicy] | None = None
        self._captured = Captured(self._trials, streams=self._streams, device=first.device)

    def __call__(self) -> None:
        """Collect once."""
        cohort, device = self._cohort, self._cohort.first.device
        with drawn_again_if_stopped(*self._streams):
            chosen = [torch.randperm(self._every, generator=one, device=device)[: self._num] for one in self._streams]
            self._go_to([run.tasks[own] for run, own in zip(cohort.runs, chosen, strict=True)])
            rows = self._captured() if self._stays else self._trials()
        cohort.replay.add(torch.cat([place * self._every + own for place, own in enumerate(chosen)]), rows)
        cohort.count(rows)

    def _go_to(self, tasks: Sequence[Tensor]) -> None:
        """Have simulations of these tasks, and who acts there; what is captured stays where it is."""
        if self._stays and self._there is not None:
            cast("CapturableEnv", self._there[0]).retask(torch.cat(list(tasks)))
        else:
            self._there = self._cohort.simulations(tasks), self._cohort.policy_for(tasks)

    def _trials(self) -> Rows:
        assert self._there is not None, "there are simulations"  # noqa: S101 (our own invariant)
        config, (env, policy) = self._cohort.first.config, self._there
        noise = Noise(
            env.num_envs,
            self._wanderer,
            size=policy.action_size,
            correlation=config.collect.noise_correlation,
            stroll_probability=config.collect.stroll_probability,
            generator=self._streams,
        )
        episodes = self._cohort.first.adaptation.episodes
        return run_trials(env, policy, episodes=episodes, noise=noise, generator=self._streams).rows
