"""Runs that differ in their seed alone and learn together; a run by itself is a cohort of one.

Each run keeps its own random streams, counters and tally. Its networks, moments and replay are parts of tensors that
hold those of all, so that one update teaches every seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ccm_runtime.errors import ConfigError
from ccm_training.batch import Batch, Draws, draw, sample_batch
from ccm_training.config import Config
from ccm_training.envs.family import BatchedEnv, Seeds, seeds_of
from ccm_training.envs.joined import JoinedEnvs
from ccm_training.envs.registry import get_family
from ccm_training.experiment import Experiment, Streams, adaptation_of, build_agent, entries_seen, task_features
from ccm_training.policy import CohortPolicy
from ccm_training.replay import Replay, Rows
from ccm_training.rollout import BatchPolicy, Wanderer
from ccm_training.stack import Agents, Single, Stack
from ccm_training.updates import Learner


@dataclass(frozen=True)
class Cohort:
    """Runs of the same settings, one for each seed.

    Attributes:
        runs: In the order of their seeds.
        replay: Of all of them, the tasks of the first run first.
    """

    runs: tuple[Experiment, ...]
    replay: Replay

    @property
    def first(self) -> Experiment:
        """A run to ask for what is the same in all: settings but for the seed, family, tasks."""
        return self.runs[0]

    @property
    def iteration(self) -> int:
        """Rounds of collecting and updating that were finished."""
        return self.first.counters.iteration

    @property
    def updates_done(self) -> int:
        """Updates of the iteration that is under way; 0 before it has collected."""
        return self.first.updates_done

    @property
    def time_s(self) -> float:
        """Wall-clock time, over all attempts."""
        return self.first.counters.time_s

    @property
    def learner(self) -> Learner:
        """Teaches all of them at once."""
        return self.first.learner

    @property
    def wanderer(self) -> Wanderer:
        """Draws held actions within the family's bounds."""
        return Wanderer.within(
            self.first.family.action,
            turn_probability=self.first.config.collect.turn_probability,
            generator=self.collecting,
            device=self.first.device,
        )

    @property
    def collecting(self) -> list[torch.Generator]:
        """The streams that trials are drawn from."""
        return [run.streams.collect for run in self.runs]

    @property
    def learning(self) -> list[torch.Generator]:
        """The streams that updates are drawn from."""
        return [run.streams.learn for run in self.runs]

    def simulations(self, tasks: Sequence[Tensor]) -> BatchedEnv:
        """Simulations of some tasks of each run, each `[n, params]`; seeded as if the run were alone."""
        given = list(zip(self.runs, tasks, strict=True))
        if len(given) > 1 and getattr(self.first.family, "takes_seeds", False):
            seeds = np.concatenate([seeds_of(run.env_seed, len(own)) for run, own in given])
            make = cast("Callable[[Tensor, Seeds], BatchedEnv]", self.first.family.make)
            return make(torch.cat(list(tasks)), seeds)
        envs = [run.family.make(own, run.env_seed) for run, own in given]
        return envs[0] if len(envs) == 1 else JoinedEnvs(envs)

    def policy_for(self, tasks: Sequence[Tensor]) -> BatchPolicy:
        """Each run's agent on simulations of its tasks."""
        agents = self.learner.agents
        if not isinstance(agents, Stack):
            return self.first.policy_for(tasks[0])
        told = task_features(self.first.family, torch.cat(list(tasks))) if self.first.config.what.told else None
        return CohortPolicy(agents, self.first.adaptation, told)

    def count(self, rows: Rows) -> None:
        """Count the env steps of some trials, as many of each run, those of the first first."""
        for run, own in zip(self.runs, rows.valid.chunk(len(self.runs)), strict=True):
            run.counters.env_steps += int(own.sum())

    def advance(self, **by: int) -> None:
        """Add to counters of every run: `advance(updates=1)`."""
        for run in self.runs:
            for name, amount in by.items():
                setattr(run.counters, name, getattr(run.counters, name) + amount)

    def took(self, seconds: float) -> None:
        """Note the wall-clock time, over all attempts."""
        for run in self.runs:
            run.counters.time_s = seconds

    def lesson(self, *, encoder_alone: bool = False) -> tuple[Batch, Draws]:
        """Draw what one update learns from; of several runs, their seeds come first."""
        config, actions = self.first.config, self.first.family.action.size
        batch = sample_batch(self.replay, self.first.features, config, *self.learning)
        return batch, draw(config, actions, *self.learning, encoder_alone=encoder_alone)


class Kept:
    """What an update may change of a run, as it is now: a run that waits for others of its cohort is put back to it."""

    def __init__(self, run: Experiment) -> None:
        self._run = run
        self._tensors = {name: value.clone() for name, value in run.agent.state_dict().items()}
        self._stream = run.streams.learn.get_state()

    def put_back(self) -> None:
        """Make the run what it was."""
        for name, value in self._run.agent.state_dict().items():
            value.copy_(self._tensors[name])
        self._run.streams.learn.set_state(self._stream)


def build_cohort(configs: Sequence[Config], device: torch.device, *, at_once: bool | None = None) -> Cohort:
    """Runs before their first step.

    Args:
        configs: Their settings, which differ in the seed alone.
        device: Where they learn.
        at_once: As in `Stack`; `None`: on a GPU.

    Raises:
        ConfigError: The settings contradict each other.
    """
    config = configs[0]
    if config.meta_batch > config.tasks.num_train:
        raise ConfigError(
            f"meta_batch {config.meta_batch} is larger than tasks.num_train {config.tasks.num_train}; "
            "a meta-batch holds distinct tasks"
        )
    family = get_family(config.family)
    adaptation = adaptation_of(config, family)
    tasks = torch.from_numpy(family.sample_tasks("train", config.tasks.num_train, config.tasks.seed)).to(device)
    agents = [build_agent(own, family, device) for own in configs]
    stacked: Agents = (
        Single(agents[0])
        if len(agents) == 1
        else Stack(agents, at_once=device.type == "cuda" if at_once is None else at_once)
    )
    learner = Learner(stacked, config, adaptation.explore_episodes, device)
    replay = Replay(
        tasks=len(configs) * len(tasks),
        capacity=config.collect.capacity,
        episodes=adaptation.episodes,
        horizon=family.horizon,
        observation=entries_seen(config, family),
        action=family.action.size,
        device=device,
    )
    runs = [
        Experiment(
            config=own,
            family=family,
            device=device,
            adaptation=adaptation,
            tasks=tasks,
            features=task_features(family, tasks),
            agent=agent,
            learner=learner,
            replay=part,
            streams=Streams.of(own.seed, device),
            place=place,
        )
        for place, (own, agent, part) in enumerate(zip(configs, agents, replay.parts(len(configs)), strict=True))
    ]
    return Cohort(tuple(runs), replay)
