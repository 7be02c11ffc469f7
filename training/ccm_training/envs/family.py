"""What a task family is: a distribution over tasks and a batched environment that simulates many of them at once."""

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ccm_runtime.specs import BoxSpec

Split = Literal["train", "test", "ood"]


class Step(NamedTuple):
    """What one step of `n` simulations gives.

    Attributes:
        observation: `[n, obs]`, after the step.
        reward: `[n]`.
        terminated: `[n]`, true where the task itself ended the episode.
    """

    observation: Tensor
    reward: Tensor
    terminated: Tensor


class BatchedEnv(Protocol):
    """`n` simulations that step together, each on its own task. There is no hidden reset."""

    @property
    def num_envs(self) -> int:
        """Number of simulations, `n`."""

    def reset(self) -> Tensor:
        """Begin an episode everywhere; the first observations, `[n, obs]`."""

    def step(self, action: Tensor) -> Step:
        """Advance every simulation by one step.

        Args:
            action: `[n, act]`, in environment units.
        """


class Family(Protocol):
    """A family of tasks. A task is a row of a parameter table `[n, params]`."""

    @property
    def name(self) -> str:
        """Its id, e.g. `sparse-point-robot`."""

    @property
    def observation(self) -> BoxSpec:
        """What the agent sees."""

    @property
    def action(self) -> BoxSpec:
        """What the agent does."""

    @property
    def horizon(self) -> int:
        """T, steps of an episode."""

    @property
    def explore_episodes(self) -> int:
        """K, the usual number of exploration episodes."""

    def sample_tasks(self, split: Split, num: int, seed: int) -> Tensor:
        """`num` tasks, `[num, params]`; a function of its arguments alone, disjoint between splits."""

    def task_features(self, tasks: Tensor) -> Tensor:
        """The tasks as an oracle is told of them, `[n, features]`."""

    def make(self, tasks: Tensor, generator: torch.Generator) -> BatchedEnv:
        """Simulations of these tasks, on the tasks' device; `generator` draws the initial states."""

    def ceiling(self, tasks: Tensor) -> Tensor | None:
        """Largest return of an episode when the task is known, `[n]`; `None` where only an oracle can tell."""
