"""Trials as the method's released code collects them: one environment, one step at a time, the same networks."""

from typing import Any

import numpy as np
import torch

from ccm_training.policy import AgentPolicy
from ccm_training.replay import Rows
from ccm_training.rollout import Noise

CAPACITY = 20_000


class OneByOne:
    """Runs a trial after the other and appends each transition to arrays.

    Args:
        env: One of Gymnasium's.
        policy: Who acts.
        noise: Keeps trials different; as in batched collection, but for one simulation.
        episodes: Of a trial; the first with the explorer.
        horizon: Steps of an episode.
    """

    def __init__(self, env: Any, policy: AgentPolicy, noise: Noise, *, episodes: int, horizon: int) -> None:
        self._env, self._policy, self._noise = env, policy, noise
        self._episodes, self._horizon = episodes, horizon
        observation, action = env.observation_space.shape[0], env.action_space.shape[0]
        self._store = Rows(*(np.zeros((CAPACITY, size)) for size in (observation, action, 1, observation, 1, 1)))
        self._written = 0

    @torch.no_grad()
    def trial(self) -> int:
        """One trial; returns its env steps."""
        belief = self._policy.initial_belief(1)
        for episode in range(self._episodes):
            seen, _ = self._env.reset()
            self._noise.restart()
            for _ in range(self._horizon):
                observation = torch.as_tensor(seen, dtype=torch.float32)[None]
                noise = self._noise.draw()
                if episode == 0:
                    action = self._policy.explore(observation, belief, noise)
                else:
                    action = self._policy.execute(observation, self._policy.read(belief).mean, noise)
                control = self._noise.disturb(action)[0].numpy()
                after, reward, terminated, _, _ = self._env.step(control)
                row = (seen, control, reward, after, float(terminated), 1.0)
                for store, value in zip(self._store, row, strict=True):
                    store[self._written] = value
                self._written = (self._written + 1) % CAPACITY
                belief = self._policy.fold(
                    belief, Rows(*(torch.as_tensor(value, dtype=torch.float32).reshape(1, -1) for value in row))
                )
                seen = after
        return self._episodes * self._horizon
