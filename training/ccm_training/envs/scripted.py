"""Scripted episodes, in which families are compared with themselves and with what they promise."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccm_training.envs.family import Family

Array = NDArray[np.float32]


class Episodes(NamedTuple):
    """One episode of each of `n` simulations; what came after a simulation's end is zero.

    Attributes:
        observations: `[steps + 1, n, obs]`.
        rewards: `[steps, n]`.
        terminated: `[steps, n]`.
        lived: `[steps + 1, n]`: whether the episode was under way until that observation.
    """

    observations: Array
    rewards: Array
    terminated: NDArray[np.bool_]
    lived: NDArray[np.bool_]

    def only(self, row: int) -> "Episodes":
        """The episode of one simulation."""
        chosen = np.s_[:, row : row + 1]
        return Episodes(self.observations[chosen], self.rewards[chosen], self.terminated[chosen], self.lived[chosen])


class InNumpy:
    """A `BatchedEnv` of tensors as one of numpy arrays."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self) -> Array:
        """Begin an episode everywhere; `[n, obs]`."""
        observation: Array = self._env.reset().cpu().numpy()
        return observation

    def step(self, action: Array) -> Any:
        """Advance every simulation; `action` is `[n, act]`."""
        import torch  # noqa: PLC0415

        after = self._env.step(torch.from_numpy(action))
        return after._replace(**{name: part.cpu().numpy() for name, part in after._asdict().items()})


def script_of(family: Family, num: int, steps: int, hold: float = 0.8) -> Array:
    """Actions that are held for a while, half of them at the edge of the bounds, `[steps, num, act]`."""
    rng = np.random.default_rng(0)
    low, high = family.action.low_array, family.action.high_array
    shape = (num, family.action.size)
    script, action = np.empty((steps, *shape), np.float32), np.zeros(shape)
    for step in range(steps):
        inside = rng.uniform(-1.0, 1.0, shape)
        edge = inside / np.abs(inside).max(-1, keepdims=True)
        turned = np.where(rng.random((num, 1)) < 0.5, edge, inside)
        action = np.where((rng.random((num, 1)) < hold) & (step > 0), action, turned)
        script[step] = (high + low) / 2 + (high - low) / 2 * action
    return np.clip(script, low, high)


def run_episode(env: Any, script: Array) -> Episodes:
    """Run the script, actions `[steps, n, act]`, from a reset."""
    steps, num, _ = script.shape
    first = np.array(env.reset())
    observations = np.zeros((steps + 1, *first.shape), np.float32)
    rewards, terminated = np.zeros((steps, num), np.float32), np.zeros((steps, num), bool)
    lived = np.ones((steps + 1, num), bool)
    observations[0], over = first, np.zeros(num, bool)
    for step, action in enumerate(script):
        after = env.step(action)
        lived[step + 1] = ~over
        observations[step + 1][~over] = after.observation[~over]
        rewards[step][~over] = after.reward[~over]
        over |= after.terminated
        terminated[step] = over
    return Episodes(observations, rewards, terminated, lived)
