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
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import FamilyError, RenderingError
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import SPLITS, BatchedEnv, Picture, Split, Step, Table
from ccm_training.envs.finite import check_finite

if TYPE_CHECKING:
    from torch import Tensor

Env = gymnasium.Env[Any, Any]
Row = NDArray[np.float32]


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
    """

    task: BoxSpec
    horizon: int
    explore_episodes: int = 1

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
        tasks: Table = np.asarray(drawn, np.float32)
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

    def simulate(self, tasks: Table, seed: int = 0) -> "GymnasiumEnvs":
        """Simulations of these tasks, `[n, params]`, in numpy: one environment for each."""
        return GymnasiumEnvs(self, np.asarray(tasks, np.float32), seed)

    def make(self, tasks: "Tensor", seed: int = 0) -> BatchedEnv:
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
                "the environment so that it has one, for instance in gymnasium.wrappers.FlattenObservation"
            )
        entries = range(space.shape[0])
        return BoxSpec(
            name=name,
            labels=tuple(f"{name}_{entry}" for entry in entries),
            units=("1",) * len(entries),
            low=tuple(_bound(value) for value in space.low),
            high=tuple(_bound(value) for value in space.high),
        )


class GymnasiumEnvs:
    """Gymnasium environments that step together, each on its own task; see `BatchedEnv`.

    An episode that has terminated stands still, and pays nothing, until its reset.

    Args:
        family: Lends the environments.
        tasks: `[n, params]`.
        seed: Episode `k` of simulation `i` is seeded by `seed + i` and `k`.
    """

    def __init__(self, family: GymnasiumFamily, tasks: Table, seed: int) -> None:
        self.num_envs = len(tasks)
        self._family, self._tasks, self._seed = family, tasks, seed
        self._action, self._size = family.action, family.observation.size
        self._envs = family.lend(self.num_envs, self)
        self._observation = np.zeros((self.num_envs, self._size), np.float32)
        self._terminated = np.ones(self.num_envs, bool)
        self._num_episodes = np.zeros(self.num_envs, int)
        self._num_steps = np.zeros(self.num_envs, int)

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Table:
        """Begin an episode everywhere, or where `mask`, `[n]`, says; all observations, `[n, obs]`."""
        self._observation = self._observation.copy()
        for i in range(self.num_envs) if mask is None else np.flatnonzero(mask):
            chance = np.random.SeedSequence((self._seed + int(i), int(self._num_episodes[i]))).generate_state(1)
            observation, _ = self._envs[i].reset(seed=int(chance[0]), options={"task": self._tasks[i].copy()})
            self._observation[i] = self._row(observation)
            self._num_episodes[i] += 1
            self._num_steps[i] = 0
            self._terminated[i] = False
        check_finite(self._family.name, self._tasks, 0, observation=self._observation)
        return self._observation

    def step(self, action: ArrayLike) -> Step:
        """Advance every simulation whose episode is under way; `action`, `[n, act]`, is clipped to its bounds."""
        actions = np.clip(np.asarray(action, np.float32), self._action.low_array, self._action.high_array)
        self._observation, self._terminated = self._observation.copy(), self._terminated.copy()
        reward = np.zeros(self.num_envs, np.float32)
        for i in np.flatnonzero(~self._terminated):
            observation, reward[i], self._terminated[i], truncated, _ = self._envs[i].step(actions[i])
            self._observation[i] = self._row(observation)
            self._num_steps[i] += 1
            if truncated and not self._terminated[i] and self._num_steps[i] < self._family.horizon:
                raise self._truncated_early(int(self._num_steps[i]))
        steps = int(self._num_steps.max(initial=0))
        check_finite(self._family.name, self._tasks, steps, observation=self._observation, reward=reward)
        return Step(self._observation, reward, self._terminated)  # type: ignore[arg-type]  # numpy's twin of it

    def frame(self, index: int) -> Picture:
        """What the environment draws.

        Raises:
            RenderingError: It draws nothing, or not here.
        """
        try:
            picture = self._envs[index].render()
        except DependencyNotInstalled as error:
            raise RenderingError(f"{self._family.name}: cannot be drawn here: {error}") from error
        if not isinstance(picture, np.ndarray):
            raise RenderingError(
                f"{self._family.name}: render() gave {type(picture).__name__}; expected a picture: let make_env pass "
                'render_mode="rgb_array" to the environment'
            )
        return picture.astype(np.uint8)

    def _row(self, observation: Any) -> Row:
        row: Row = np.asarray(observation, np.float32)
        if row.shape != (self._size,):
            raise FamilyError(
                f"{self._family.name}: an observation has shape {list(row.shape)}; expected [{self._size}], as the "
                "observation space says"
            )
        return row

    def _truncated_early(self, steps: int) -> FamilyError:
        horizon = self._family.horizon
        return FamilyError(
            f"{self._family.name}: the environment truncated an episode after {steps} of {horizon} steps; only the "
            "family's horizon may: make the environment without a time limit (gymnasium.make(..., "
            f"max_episode_steps=-1)), or set horizon = {steps}"
        )


def _bound(value: Any) -> float | None:
    """A bound of a space; the largest float of its type stands for none."""
    return float(value) if abs(float(value)) < float(np.finfo(np.float32).max) else None
