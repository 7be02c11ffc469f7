"""A task of a family as a Gymnasium environment, with the numbers of the batched simulation. No torch is needed."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ccm_runtime.errors import ConfigError, SpecError
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.family import Split
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

Array = NDArray[np.float32]


class TaskEnv(gymnasium.Env[Array, Array]):
    """One task of a family at a time.

    A reset with a task or a seed begins a new trial; a bare reset begins the next episode of the same task. An
    episode is truncated at the family's horizon. `info["task"]` always names the task.

        env = gymnasium.make("ccm/HardPointRobotAligned-v0")
        env.reset(options={"task": [0.8, 0.8]})  # this task
        env.reset(seed=7)                        # a task of the test split, by the seed
        env.reset()                              # the same task again

    Args:
        family: Name of the family.
        split: Which tasks are drawn where none is given.
        render_mode: `rgb_array`: `render` draws the episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(self, family: str, *, split: Split = "test", render_mode: str | None = None) -> None:
        if render_mode not in {None, "rgb_array"}:
            raise ConfigError(f"render_mode: expected 'rgb_array' or None, got {render_mode!r}")
        self.family = get_family(family)
        self.split: Split = split
        self.render_mode = render_mode
        self.observation_space = _space(self.family.observation)
        self.action_space = _space(self.family.action)
        self._task = self.family.sample_tasks(split, 1, 0)[0]
        self._env = SimulatedTask(self.family, self._task)
        self._began = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Draws a task, unless one is given.
            options: `{"task": [...]}` sets the task, `[params]`.

        Returns:
            The first observation, `[obs]`, and `{"task": [params]}`.

        Raises:
            SpecError: The task has another size or is not finite.
        """
        super().reset(seed=seed)
        given = (options or {}).get("task")
        if given is None and seed is None and self._began:
            observation, _ = self._env.reset()
            return observation.copy(), {"task": self._task.copy()}
        chance = int(self.np_random.integers(2**31))
        self._task = self.family.sample_tasks(self.split, 1, chance)[0] if given is None else self._checked(given)
        self._began = True
        observation, _ = self._env.reset(seed=chance, options={"task": self._task})
        return observation.copy(), {"task": self._task.copy()}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Act; `action` is `[act]` in environment units, and is clipped to its bounds."""
        observation, reward, terminated, truncated, _ = self._env.step(action)
        return observation.copy(), reward, terminated, truncated, {"task": self._task.copy()}

    def render(self) -> Any:
        """Return a picture of the episode, `[height, width, 3]` of bytes; `None` without a render mode."""
        return None if self.render_mode is None else self._env.frame()

    def _checked(self, task: ArrayLike) -> Array:
        size = len(self._task)
        try:
            array = np.array(task, np.float32)
        except (TypeError, ValueError):
            array = np.empty(0, np.float32)
        if array.shape != (size,) or not np.isfinite(array).all():
            raise SpecError(f"task: {self.family.name} expects {size} finite numbers, got {task!r}")
        return array


def _space(spec: BoxSpec) -> spaces.Box[Any]:
    return spaces.Box(spec.low_array, spec.high_array, dtype=np.float32)
