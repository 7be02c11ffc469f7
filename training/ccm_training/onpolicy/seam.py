"""Where a method that learns on-policy plugs in: what it gives to training, and the run that training gives to it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ccm_runtime.manifest import Adaptation
from ccm_training.config import Config
from ccm_training.envs.family import BatchedEnv, Family
from ccm_training.experiment import Counters, Streams, adaptation_of, simulation_seed
from ccm_training.replay import Rows
from ccm_training.rollout import BatchPolicy
from ccm_training.tally import Tally

Metrics = dict[str, Tensor]


class OnPolicyLearner(Protocol):
    """Teaches one agent."""

    def warm_up(self, trials: Rows) -> None:
        """Take what it wants (scales, first memories) from trials under random held directions.

        Args:
            trials: Of every training task, fields `[tasks, trials, episodes, horizon, ...]`.
        """

    def iterate(self, run: "OnPolicyRun") -> Iterator[Metrics]:
        """Collect with the agent as it is, learn and forget; yields the metrics of each update, `[]` each, after it.

        Simulations come from `run.simulations` and are counted by `run.count`. What is collected is drawn from
        `run.streams.collect`, what updates draw from `run.streams.learn`. A run that is stopped inside is put back to
        before: parameters, streams and all of `tensors` but those named `replay.`; these may be written only after the
        last metrics.
        """

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers from one iteration to the next, by name: kept in checkpoints, and restored in place."""


class OnPolicyMethod(Protocol):
    """A row of `registry.ON_POLICY`."""

    def agent(self, config: Config, family: Family) -> nn.Module:
        """Networks and scales with their first values; torch's own stream is seeded with the run's seed."""

    def policy(self, agent: Any, config: Config, adaptation: Adaptation) -> BatchPolicy:
        """How the agent goes through a trial."""

    def learner(self, agent: Any, config: Config, adaptation: Adaptation, num_tasks: int) -> OnPolicyLearner:
        """Teaches the agent, on the device that it is on; there are so many training tasks."""


@dataclass
class OnPolicyRun:
    """A run in memory: what `Experiment` is to the other methods."""

    config: Config
    family: Family
    device: torch.device
    adaptation: Adaptation
    tasks: Tensor
    method: OnPolicyMethod
    agent: nn.Module
    learner: OnPolicyLearner
    streams: Streams
    counters: Counters = field(default_factory=Counters)
    tally: Tally = field(default_factory=Tally)

    updates_done = 0
    """Of the iteration under way, as a checkpoint sees it: it holds whole iterations only."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that learning changes, by name."""
        return {f"agent.{name}": value for name, value in self.agent.state_dict().items()} | self.learner.tensors()

    def policy_for(self, tasks: Tensor) -> BatchPolicy:
        """The agent for simulations of these tasks, of which it is not told."""
        del tasks
        return self.method.policy(self.agent, self.config, self.adaptation)

    def simulations(self, tasks: Tensor) -> BatchedEnv:
        """New simulations of tasks `[n, params]`; seeded by the run's seed and by how far it has come."""
        return self.family.make(tasks, simulation_seed(self.config, self.counters))

    def some_tasks(self) -> Tensor:
        """Which training tasks an iteration collects on, rows of `tasks`, `[collect.tasks]`; all different."""
        num, stream = min(self.config.collect.tasks, len(self.tasks)), self.streams.collect
        return torch.randperm(len(self.tasks), generator=stream, device=self.device)[:num]

    def count(self, rows: Rows) -> None:
        """Count the env steps of some transitions."""
        self.counters.env_steps += int(rows.valid.sum())


def build_on_policy(config: Config, method: OnPolicyMethod, family: Family, device: torch.device) -> OnPolicyRun:
    """A run before its first step."""
    adaptation = adaptation_of(config, family)
    tasks = torch.from_numpy(family.sample_tasks("train", config.tasks.num_train, config.tasks.seed)).to(device)
    agent = first_agent(config, method, family).to(device)
    return OnPolicyRun(
        config=config,
        family=family,
        device=device,
        adaptation=adaptation,
        tasks=tasks,
        method=method,
        agent=agent,
        learner=method.learner(agent, config, adaptation, len(tasks)),
        streams=Streams.of(config.seed, device),
    )


def first_agent(config: Config, method: OnPolicyMethod, family: Family) -> nn.Module:
    """The method's networks with their first weights, which are a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return method.agent(config, family)
