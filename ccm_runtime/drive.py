"""The Gymnasium loop, for any environment that follows its interface; Gymnasium itself is not needed."""

import math
from numbers import Integral
from typing import Any, Protocol

from ccm_runtime.async_session import AsyncSession
from ccm_runtime.belief import Array
from ccm_runtime.client import Session
from ccm_runtime.errors import ConfigError, SpecError
from ccm_runtime.messages import Agent
from ccm_runtime.pilot import Pilot
from ccm_runtime.specs import as_reward, as_vector, counted


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
    *,
    abandon: bool = False,
) -> list[float]:
    """Run episodes of a trial; the return of each.

    Args:
        env: The environment, all episodes on one task.
        session: The trial; with a `Pilot`, the environment goes on safely while the server is silent.
        episodes: How many; `None`: a whole trial as the agent was evaluated (N).
        seed: Seed of the first reset.
        options: Options of every reset, e.g. `{"task": ...}`.
        abandon: The first episode takes the place of one that is under way, as after an error of the environment.

    Raises:
        ConfigError: It is no session, or the number of episodes cannot be.
        SpecError: The environment is none of Gymnasium's interface, or its observations or actions do not fit.
    """
    if not isinstance(session, (Session, Pilot)):
        raise ConfigError(f"session: expected a Session or a Pilot, got {type(session).__name__}")
    shape, number = _shape(env, session.agent), _number(episodes, session.agent)
    returns = []
    for episode in range(number):
        observation = _began(env.reset(seed=seed if episode == 0 else None, options=options))
        action: Array | None = session.begin_episode(observation, abandon=abandon and episode == 0)
        returned = 0.0
        while action is not None:
            observation, reward, terminated, truncated = _moved(env.step(action.reshape(shape)))
            action = session.act(observation, reward, terminated=terminated, truncated=truncated)
            returned += as_reward(reward)
        returns.append(returned)
    return returns


async def drive_async(
    env: Environment,
    session: AsyncSession,
    episodes: int | None = None,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    *,
    abandon: bool = False,
) -> list[float]:
    """Run episodes of a trial on an event loop; see `drive`. Each `env.step` blocks the loop while it runs."""
    if not isinstance(session, AsyncSession):
        raise ConfigError(f"session: expected an AsyncSession, got {type(session).__name__}")
    shape, number = _shape(env, session.agent), _number(episodes, session.agent)
    returns = []
    for episode in range(number):
        observation = _began(env.reset(seed=seed if episode == 0 else None, options=options))
        action: Array | None = await session.begin_episode(observation, abandon=abandon and episode == 0)
        returned = 0.0
        while action is not None:
            observation, reward, terminated, truncated = _moved(env.step(action.reshape(shape)))
            action = await session.act(observation, reward, terminated=terminated, truncated=truncated)
            returned += as_reward(reward)
        returns.append(returned)
    return returns


def _shape(env: Environment, agent: Agent) -> tuple[int, ...]:
    """Return the shape of the environment's actions, which are as many numbers as the agent's (SpecError)."""
    space, does = getattr(env, "action_space", None), agent.action
    shape = getattr(space, "shape", None)
    discrete = hasattr(space, "n")
    if not isinstance(shape, tuple) or math.prod(shape) != does.size or discrete:
        got = f"one of shape {shape}" if isinstance(shape, tuple) and not discrete else space
        raise SpecError(
            f"action_space: expected a Box of {counted(does.size, 'number')} ({', '.join(does.labels)}), as the "
            f"agent's actions are, got {got}"
        )
    return shape


def _number(episodes: int | None, agent: Agent) -> int:
    """Return how many episodes to run (ConfigError)."""
    if episodes is None:
        return agent.episodes
    if not isinstance(episodes, Integral) or episodes < 0:
        raise ConfigError(f"episodes: expected a whole number from 0 up, or None; got {episodes!r}")
    return int(episodes)


def _began(given: Any) -> Array:
    """Return the observation that a reset gave, flat (SpecError)."""
    return as_vector("observation", _tuple("reset", given, ("observation", "info"))[0])


def _moved(given: Any) -> tuple[Array, Any, Any, Any]:
    """Return observation, flat, reward, terminated and truncated of a step (SpecError)."""
    wanted = ("observation", "reward", "terminated", "truncated", "info")
    observation, reward, terminated, truncated, _ = _tuple("step", given, wanted)
    return as_vector("observation", observation), reward, terminated, truncated


def _tuple(method: str, given: Any, wanted: tuple[str, ...]) -> tuple[Any, ...]:
    if isinstance(given, tuple) and len(given) == len(wanted):
        return given
    got = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
    raise SpecError(
        f"the environment's {method}() gave {got}; expected a tuple of {len(wanted)}, {', '.join(wanted)}, as "
        "Gymnasium asks for"
    )
