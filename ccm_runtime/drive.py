"""The Gymnasium loop, for any environment that follows its interface; Gymnasium itself is not needed."""

from typing import Any, Protocol

import numpy as np

from ccm_runtime.async_client import AsyncSession
from ccm_runtime.belief import Array
from ccm_runtime.client import Session
from ccm_runtime.pilot import Pilot


class Environment(Protocol):
    """What is needed of a `gymnasium.Env` with `Box` observations and actions."""

    @property
    def action_space(self) -> Any:
        """Its `shape` is the shape of an action."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: observation and info."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act: observation, reward, terminated, truncated and info."""


def drive(
    env: Environment,
    session: Session | Pilot,
    episodes: int | None = None,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
) -> list[float]:
    """Run episodes of a trial; the return of each.

    Args:
        env: The environment, all episodes on one task.
        session: The trial; with a `Pilot`, the environment goes on safely while the server is silent.
        episodes: How many; `None`: a whole trial as the agent was evaluated (N).
        seed: Seed of the first reset.
        options: Options of every reset, e.g. `{"task": ...}`.
    """
    shape = env.action_space.shape
    first = len(session.returns)
    for episode in range(session.agent.episodes if episodes is None else episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None, options=options)
        action: Array | None = session.begin_episode(np.ravel(observation))
        while action is not None:
            observation, reward, terminated, truncated, _ = env.step(action.reshape(shape))
            action = session.act(np.ravel(observation), reward, terminated=terminated, truncated=truncated)
    return list(session.returns[first:])


async def drive_async(
    env: Environment,
    session: AsyncSession,
    episodes: int | None = None,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
) -> list[float]:
    """Run episodes of a trial on an event loop; see `drive`. Each `env.step` blocks the loop while it runs."""
    shape = env.action_space.shape
    first = len(session.returns)
    for episode in range(session.agent.episodes if episodes is None else episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None, options=options)
        action: Array | None = await session.begin_episode(np.ravel(observation))
        while action is not None:
            observation, reward, terminated, truncated, _ = env.step(action.reshape(shape))
            action = await session.act(np.ravel(observation), reward, terminated=terminated, truncated=truncated)
    return list(session.returns[first:])
