"""The point robots as a plain environment in numpy, one at a time."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class PlainPointRobot:
    """One goal, or two in sequence.

    Args:
        radius: How near a goal pays, in m.
        horizon: Steps of an episode.
    """

    def __init__(self, *, radius: float, horizon: int) -> None:
        self._radius, self._horizon = radius, horizon

    def reset(self, goals: Array) -> Array:
        """Begin an episode with these goals, `[goals, 2]`."""
        self._goals, self._touched, self._steps = goals, False, 0
        self._position = np.zeros(2)
        return self._position

    def step(self, action: Array) -> tuple[Array, float, bool, bool]:
        """Move by `action`, `[2]` in m."""
        self._position = self._position + np.clip(action, -0.1, 0.1)
        self._steps += 1
        distance = float(np.linalg.norm(self._position - self._goals[0]))
        if len(self._goals) == 1 or not self._touched:
            reward = 1.0 - distance if distance <= self._radius else 0.0
            self._touched = distance <= self._radius / 2
        else:
            to_second = float(np.linalg.norm(self._position - self._goals[1]))
            reward = 6.0 - to_second if to_second <= self._radius else 1.0
        return self._position, reward, False, self._steps >= self._horizon
