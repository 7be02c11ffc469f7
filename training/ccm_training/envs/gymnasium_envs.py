"""Gymnasium environments that step together, in a plain loop: code that knows one environment allows no more."""

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import FamilyError, RenderingError
from ccm_runtime.specs import counted
from ccm_training.envs.family import Picture, Seeds, Step, Table, seeds_of
from ccm_training.envs.finite import check_finite

if TYPE_CHECKING:
    from ccm_training.envs.gymnasium_family import GymnasiumFamily

Env = gymnasium.Env[Any, Any]
Row = NDArray[np.float32]

_STEP = "observation, reward, terminated, truncated and info"


class GymnasiumEnvs:
    """`n` environments, each on its own task; a `BatchedEnv` in numpy.

    An episode that has terminated stands still, and pays nothing, until its reset.

    Args:
        family: Lends the environments.
        tasks: `[n, params]`.
        seed: Episode `k` of simulation `i` is seeded by `seed + i` (or by its own of several) and `k`.
    """

    def __init__(self, family: "GymnasiumFamily", tasks: Table, seed: Seeds) -> None:
        self.num_envs = len(tasks)
        self._family, self._tasks, self._seed = family, tasks, seeds_of(seed, len(tasks))
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
            chance = np.random.SeedSequence((int(self._seed[i]), int(self._num_episodes[i]))).generate_state(1)
            given = self._envs[i].reset(seed=int(chance[0]), options={"task": self._tasks[i].copy()})
            observation, _ = self._parts("reset", given, "observation and info")
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
            given = self._envs[i].step(actions[i])
            observation, paid, ended, truncated, _ = self._parts("step", given, _STEP)
            self._observation[i] = self._row(observation)
            try:
                reward[i], self._terminated[i] = float(paid), ended
            except (TypeError, ValueError):
                raise FamilyError(
                    f"{self._family.name}: step() gave the reward {paid!r} and terminated {ended!r}; expected one "
                    "number, and True or False"
                ) from None
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
        except NotImplementedError as error:
            raise RenderingError(f"{self._family.name}: the environment has no render()") from error
        if not isinstance(picture, np.ndarray):
            raise RenderingError(
                f"{self._family.name}: render() gave {type(picture).__name__}; expected a picture: let make_env pass "
                'render_mode="rgb_array" to the environment'
            )
        return picture.astype(np.uint8)

    def _parts(self, method: str, given: Any, expected: str) -> tuple[Any, ...]:
        """What a method of the environment gave; environments made for Gym before 0.26 give less."""
        size = 5 if method == "step" else 2
        if isinstance(given, tuple) and len(given) == size:
            return given
        got = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
        raise FamilyError(
            f"{self._family.name}: the environment's {method}() gave {got}; expected a tuple of {size}, {expected}, as "
            "Gymnasium asks for"
        )

    def _row(self, observation: Any) -> Row:
        try:
            row: Row = np.asarray(observation, np.float32)
        except (TypeError, ValueError):
            raise FamilyError(
                f"{self._family.name}: an observation is {type(observation).__name__}; expected "
                f"{counted(self._size, 'number')}, as the observation space says"
            ) from None
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
