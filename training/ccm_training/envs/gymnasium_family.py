"""A family of any Gymnasium environments: what varies, how to make one, how to draw tasks; the rest follows.

    class Pendulums(GymnasiumFamily):
        task = BoxSpec(name="task", labels=("gravity",), units=("m/s2",), low=(2.0,), high=(15.0,))
        horizon = 100

        def make_env(self):
            return TaskWrapper(gymnasium.make("Pendulum-v1"), set_gravity)

        def draw_tasks(self, rng, num, split):
            return rng.uniform(self.task.low, self.task.high, (num, 1))

docs/how-to/use-your-own-environment.md takes such a file to a served agent. Only `make` needs torch.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import FamilyError
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import SPLITS, BatchedEnv, Seeds, Split, Table
from ccm_training.envs.gymnasium_envs import Env, GymnasiumEnvs, Row

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Env", "GymnasiumFamily", "Row", "TaskWrapper"]


class TaskWrapper(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of another package that takes a task: `reset(options={"task": row})`.

    Args:
        env: The environment.
        set_task: Puts a task, `[params]`, into the environment; called before each reset that has one.
    """

    def __init__(self, env: Env, set_task: Callable[[Env, Row], None]) -> None:
        super().__init__(env)
        self._set_task = set_task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, on another task if `options` has one."""
        others = dict(options or {})
        if "task" in others:
            self._set_task(self.env, np.asarray(others.pop("task"), np.float32))
        return self.env.reset(seed=seed, options=others or None)


class GymnasiumFamily(ABC):
    """A family of Gymnasium environments; its author gives `task`, `horizon`, `make_env` and `draw_tasks`.

    Attributes:
        task: What varies, with bounds that hold for every split.
        horizon: T, steps of an episode. The environment may terminate earlier, but not truncate.
        explore_episodes: K, the usual number of exploration episodes.
        observation_labels: A name for each entry of an observation; none: `observation_0` and so on.
        observation_units: A unit for each, `1` where it has none; none: empty for all, as nobody said. Bundles carry
            both, and a client that expects others is refused.
        action_labels: The same of an action.
        action_units: The same.
    """

    task: BoxSpec
    horizon: int
    explore_episodes: int = 1
    observation_labels: Sequence[str] = ()
    observation_units: Sequence[str] = ()
    action_labels: Sequence[str] = ()
    action_units: Sequence[str] = ()
    takes_seeds: ClassVar[bool] = True

    @abstractmethod
    def make_env(self) -> Env:
        """Make one environment, whose `reset(options={"task": row})` sets the task, `row` being `[params]`.

        It is used for many episodes and tasks. `render_mode="rgb_array"` lets it be drawn.
        """

    @abstractmethod
    def draw_tasks(self, rng: np.random.Generator, num: int, split: Split) -> ArrayLike:
        """`num` tasks, `[num, params]`, from `rng` and nothing else; `split` is `train`, `test` or `ood`."""

    def task_features(self, tasks: Table) -> Table:
        """The tasks as an oracle is told of them, `[n, features]`: bounded entries scaled to -1..1."""
        low, high = self.task.low_array, self.task.high_array
        bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
        middle = np.where(bounded, (low + high) / 2, 0.0)
        reach = np.where(bounded, (high - low) / 2, 1.0)
        return ((tasks - middle) / reach).astype(np.float32)

    def ceiling(self, tasks: Table) -> NDArray[np.float32] | None:
        """Largest return of an episode when the task is known, `[n]`; `None`: only an oracle can tell."""
        del tasks
        return None

    @property
    def name(self) -> str:
        """How a config names it: `package.module:Family`."""
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @cached_property
    def observation(self) -> BoxSpec:
        """What the agent sees, from the environment's observation space."""
        return self._spec("observation", self._spaces[0])

    @cached_property
    def action(self) -> BoxSpec:
        """What the agent does, from the environment's action space."""
        spec = self._spec("action", self._spaces[1])
        for label, low, high in zip(spec.labels, spec.low, spec.high, strict=True):
            if low is None or high is None or low == high:
                raise FamilyError(
                    f"{self.name}: {label} has the bounds [{low}, {high}]; expected a finite low < high for every "
                    "entry, as policies act between them: wrap the environment in "
                    "gymnasium.wrappers.TransformAction with such a Box"
                )
        return spec

    def sample_tasks(self, split: Split, num: int, seed: int) -> Table:
        """`num` tasks, `[num, params]`; each split draws from a generator of its own.

        Raises:
            FamilyError: What was drawn does not fit `task`.
        """
        drawn = self.draw_tasks(np.random.default_rng((seed, SPLITS.index(split))), num, split)
        try:
            tasks: Table = np.asarray(drawn, np.float32)
        except (TypeError, ValueError) as error:
            raise FamilyError(
                f"{self.name}: draw_tasks({split!r}) gave {type(drawn).__name__}, which is no table of numbers: {error}"
            ) from error
        if tasks.shape != (num, self.task.size):
            raise FamilyError(
                f"{self.name}: draw_tasks({split!r}) gave shape {list(tasks.shape)}; expected [{num}, {self.task.size}]"
                f", a row for each task with {', '.join(self.task.labels)}"
            )
        within = (tasks >= self.task.low_array) & (tasks <= self.task.high_array)  # NaN is in no bounds
        if not within.all():
            row, entry = np.argwhere(~within)[0]
            raise FamilyError(
                f"{self.name}: draw_tasks({split!r}) gave {self.task.labels[entry]} {tasks[row, entry]:g}, outside "
                f"[{self.task.low[entry]}, {self.task.high[entry]}]; draw within the bounds of `task`, or widen them"
            )
        return tasks

    def simulate(self, tasks: Table, seed: Seeds = 0) -> GymnasiumEnvs:
        """Simulations of these tasks, `[n, params]`, in numpy: one environment for each."""
        return GymnasiumEnvs(self, np.asarray(tasks, np.float32), seed)

    def make(self, tasks: "Tensor", seed: Seeds = 0) -> BatchedEnv:
        """The same simulations in torch, on the tasks' device."""
        from ccm_training.envs.bridge import TorchEnv  # noqa: PLC0415  (clients have no torch)

        return TorchEnv(self.simulate(tasks.cpu().numpy(), seed), tasks.device)

    def lend(self, num: int, borrower: object) -> list[Env]:
        """Environments for `borrower`, which come back when it is forgotten: making them may cost far more."""
        spare = self._spare
        envs = [spare.pop() if spare else self._made() for _ in range(num)]
        weakref.finalize(borrower, spare.extend, envs).atexit = False
        return envs

    @cached_property
    def _spare(self) -> list[Env]:
        return []

    @cached_property
    def _spaces(self) -> tuple[Any, Any]:
        env = self._made()
        self._spare.append(env)
        return env.observation_space, env.action_space

    def _made(self) -> Env:
        env = self.make_env()
        if not isinstance(env, gymnasium.Env):
            raise FamilyError(f"{self.name}: make_env() gave {type(env).__name__}; expected a gymnasium.Env")
        return env

    def _spec(self, name: str, space: Any) -> BoxSpec:
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not np.issubdtype(space.dtype, np.floating):
            raise FamilyError(
                f"{self.name}: the {name} space is {space}; expected a Box of one dimension and floating type: wrap "
                f"the environment so that it has one, for instance in gymnasium.{_FLATTENS[name]}"
            )
        num = space.shape[0]
        return BoxSpec(
            name=name,
            labels=self._told(f"{name}_labels", num) or tuple(f"{name}_{entry}" for entry in range(num)),
            units=self._told(f"{name}_units", num) or ("",) * num,
            low=tuple(_bound(value) for value in space.low),
            high=tuple(_bound(value) for value in space.high),
        )

    def _told(self, attribute: str, num: int) -> tuple[str, ...]:
        """Names or units of `num` entries as the author gives them; empty where none are given."""
        given: Any = getattr(self, attribute)
        whole = isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(e, str) for e in given)
        if not whole or len(given) not in {0, num}:
            raise FamilyError(
                f"{self.name}: {attribute} is {given!r}; expected a list of texts, one for each entry of the space "
                f"({num}), or ()"
            )
        return tuple(given)


_FLATTENS = {"observation": "wrappers.FlattenObservation", "action": "ActionWrapper"}


def _bound(value: Any) -> float | None:
    """A bound of a space; the largest float of its type stands for none."""
    return float(value) if abs(float(value)) < float(np.finfo(np.float32).max) else None
