"""Everything that one run holds: tasks, networks, replay, random streams and counters."""

from dataclasses import asdict, dataclass, field
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from ccm_runtime.errors import ProviderUnavailableError
from ccm_runtime.manifest import Adaptation
from ccm_training.agent import Agent
from ccm_training.config import Config
from ccm_training.envs.family import Family
from ccm_training.policy import AgentPolicy
from ccm_training.replay import Replay
from ccm_training.rollout import BatchPolicy
from ccm_training.tally import Tally
from ccm_training.updates import Learner


@dataclass
class Counters:
    """How far a run has come.

    Attributes:
        iteration: Rounds of collecting and updating that were finished.
        env_steps: Of training; evaluations do not count.
        warmup_trials: Of each training task.
        pretrain_updates: Updates of the encoder alone.
        pretrain_best: Best accuracy of these so far.
        pretrain_best_at: After how many of them.
        pretrained: Whether they are over.
        updates: Of the whole method; some of them may belong to an iteration that is not finished yet.
        time_s: Wall-clock time, over all attempts.
    """

    iteration: int = 0
    env_steps: int = 0
    warmup_trials: int = 0
    pretrain_updates: int = 0
    pretrain_best: float = 0.0
    pretrain_best_at: int = 0
    pretrained: bool = False
    updates: int = 0
    time_s: float = 0.0


@dataclass
class Streams:
    """Independent random streams, all functions of the seed.

    Attributes:
        collect: Tasks, environments and noise of training trials.
        learn: Batches and the update's own samples.
    """

    collect: torch.Generator
    learn: torch.Generator

    @classmethod
    def of(cls, seed: int, device: torch.device) -> Self:
        """As they are before the first step."""
        collect, learn = np.random.SeedSequence(seed).generate_state(2).tolist()
        return cls(torch.Generator(device).manual_seed(collect), torch.Generator(device).manual_seed(learn))

    def named(self) -> dict[str, torch.Generator]:
        """By name, for checkpoints."""
        return {"collect": self.collect, "learn": self.learn}


class Run(Protocol):
    """A run in memory, whatever its method: what is saved, logged and tried of it."""

    counters: Counters

    @property
    def config(self) -> Config:
        """Its settings."""

    @property
    def family(self) -> Family:
        """Its tasks' family."""

    @property
    def device(self) -> torch.device:
        """Where it learns."""

    @property
    def agent(self) -> nn.Module:
        """What learns."""

    @property
    def streams(self) -> Streams:
        """What it draws from."""

    @property
    def tally(self) -> Tally:
        """What its updates said since the last report."""

    @property
    def updates_done(self) -> int:
        """Updates of the iteration that is under way."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that learning changes, by name."""

    def policy_for(self, tasks: Tensor) -> BatchPolicy:
        """Its agent for simulations of these tasks."""


@dataclass
class Experiment:
    """A run in memory.

    Attributes:
        learner: Teaches its agent, alone or with those of the other seeds of its cohort.
        place: Its own among them.
    """

    config: Config
    family: Family
    device: torch.device
    adaptation: Adaptation
    tasks: Tensor
    features: Tensor
    agent: Agent
    learner: Learner
    replay: Replay
    streams: Streams
    place: int = 0
    counters: Counters = field(default_factory=Counters)
    tally: Tally = field(default_factory=Tally)

    @property
    def updates_done(self) -> int:
        """Updates of the iteration that is under way; 0 before it has collected."""
        return self.counters.updates - self.counters.iteration * self.config.updates_per_iteration

    @property
    def policy(self) -> AgentPolicy:
        """The agent as it stands."""
        return AgentPolicy(self.agent, self.adaptation)

    @property
    def env_seed(self) -> int:
        """Seed of the next simulations: a function of the run's seed and of how far it has come."""
        return simulation_seed(self.config, self.counters)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that learning changes, by name: its own part of what a cohort shares."""
        tensors = {f"agent.{name}": value for name, value in self.agent.state_dict().items()}
        tensors |= {f"replay.{name}": value for name, value in self.replay.rows._asdict().items()}
        tensors["replay.written"] = self.replay.written
        moments = self.learner.moments(self.place)
        return tensors | {f"optimizer.{name}": value for name, value in moments.items()}

    def policy_for(self, tasks: Tensor) -> AgentPolicy:
        """The agent for simulations of these tasks; only an oracle looks at them."""
        features = task_features(self.family, tasks) if self.config.what.told else None
        return AgentPolicy(self.agent, self.adaptation, features)


def simulation_seed(config: Config, counters: Counters) -> int:
    """Seed of a run's next simulations."""
    return int(np.random.SeedSequence((config.seed, counters.env_steps)).generate_state(1)[0])


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device.

    Raises:
        ProviderUnavailableError: CUDA was asked for and does not work here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        raise ProviderUnavailableError(
            f"--device cuda: torch {torch.__version__} ({built}) finds no usable CUDA device"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def adaptation_of(config: Config, family: Family) -> Adaptation:
    """How trials of this run go."""
    explore = family.explore_episodes if config.trial.explore_episodes is None else config.trial.explore_episodes
    if config.what.told:
        explore = 0
    return Adaptation(
        explore_episodes=explore,
        episodes=explore + config.trial.execute_episodes,
        horizon=family.horizon,
        while_executing=config.trial.while_executing,
        certain_at=config.trial.certain_at,
        latent=config.trial.latent,
        explore_with="belief" if config.what.explorer else "latent",
        observe_reward=config.trial.observe_reward,
    )


def task_features(family: Family, tasks: Tensor) -> Tensor:
    """The tasks as an oracle is told of them, `[n, features]`."""
    return torch.from_numpy(family.task_features(tasks.cpu().numpy())).to(tasks.device)


def entries_seen(config: Config, family: Family) -> int:
    """Entries of an observation as the agent sees it."""
    return family.observation.size + int(config.trial.observe_reward)


def build_agent(config: Config, family: Family, device: torch.device) -> Agent:
    """The run's networks with their first weights, which are a function of the seed alone."""
    features = family.task_features(family.sample_tasks("train", 1, 0)).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        agent = Agent(
            observations=entries_seen(config, family),
            action_low=torch.from_numpy(family.action.low_array),
            action_high=torch.from_numpy(family.action.high_array),
            latent=config.networks.latent,
            hidden=config.networks.hidden,
            encoder_hidden=config.networks.encoder_hidden,
            temperature=config.policy.temperature,
            task_features=features if config.what.told else 0,
        )
    return agent.to(device)


def counters_of(tree: dict[str, float]) -> Counters:
    """Counters from a checkpoint's JSON."""
    known = asdict(Counters())
    return Counters(**{name: type(known[name])(value) for name, value in tree.items() if name in known})
