"""What a task family is: a distribution over tasks and a batched environment that simulates many of them at once.

Tasks are numpy tables, so that a client can draw and simulate them without torch; only `make` needs it.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.specs import BoxSpec

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "test", "ood"]
SPLITS: tuple[Split, ...] = ("train", "test", "ood")
Table = NDArray[np.float32]
Seeds = int | NDArray[np.uint64]
"""One for all simulations, or one for each, `[n]`: only families that say so (`takes_seeds = True`) are given these."""
Picture = NDArray[np.uint8]


def seeds_of(seeds: Seeds, num: int) -> NDArray[np.uint64]:
    """The seed of each of `num` simulations, `[num]`: `seeds + i` of a single one, from 0 again after 2^64 - 1."""
    return np.arange(num, dtype=np.uint64) + np.uint64(seeds) if np.ndim(seeds) == 0 else np.asarray(seeds, np.uint64)


class Step(NamedTuple):
    """What one step of `n` simulations gives.

    Attributes:
        observation: `[n, obs]`, after the step.
        reward: `[n]`.
        terminated: `[n]`, true where the task itself ended the episode.
    """

    observation: "Tensor"
    reward: "Tensor"
    terminated: "Tensor"


class BatchedEnv(Protocol):
    """`n` simulations that step together, each on its own task. There is no hidden reset."""

    @property
    def num_envs(self) -> int:
        """Number of simulations, `n`."""

    def reset(self, mask: "Tensor | None" = None) -> "Tensor":
        """Begin an episode everywhere, or where `mask`, booleans `[n]`, says; all observations, `[n, obs]`."""

    def step(self, action: "Tensor") -> Step:
        """Advance every simulation by one step.

        Args:
            action: `[n, act]`, in environment units.
        """

    def frame(self, index: int) -> Picture:
        """What simulation `index` looks like now, for a person; `[height, width, 3]` of bytes.

        Raises:
            RenderingError: It cannot be drawn here.
        """


class CapturableEnv(BatchedEnv, Protocol):
    """Simulations that a GPU can record and repeat: torch alone, on one device, of one shape, with nothing random.

    Families that make such say so: `capturable = True`.
    """

    def retask(self, tasks: "Tensor") -> None:
        """Go to other tasks, as many, `[n, params]`, in place."""


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
    def task(self) -> BoxSpec:
        """What varies: a name and a unit for each entry of a task, with bounds that hold for every split."""

    @property
    def horizon(self) -> int:
        """T, steps of an episode."""

    @property
    def explore_episodes(self) -> int:
        """K, the usual number of exploration episodes."""

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """`num` tasks, `[num, params]`; a function of its arguments alone, disjoint between splits."""

    def task_features(self, tasks: Table) -> Table:
        """The tasks as an oracle is told of them, `[n, features]`."""

    def simulate(self, tasks: Table, seed: int = 0) -> Any:
        """Simulations of these tasks, `[n, params]`: a `BatchedEnv` with numpy arrays in place of tensors.

        What is random in simulation `i` is a function of its task, of `seed + i` and of how many episodes it began.
        """

    def make(self, tasks: "Tensor", seed: int = 0) -> BatchedEnv:
        """The same simulations of tasks, `[n, params]`, in torch, on the tasks' device."""

    def ceiling(self, tasks: Table) -> NDArray[np.float32] | None:
        """Largest return of an episode when the task is known, `[n]`; `None` where only an oracle can tell."""
