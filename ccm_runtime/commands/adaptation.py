"""What trials against a server come to: the adaptation curve, the score and its interval."""

import re

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ccm_runtime.messages import Agent

_RESAMPLES = 2_000


class Adaptation(BaseModel):
    """What trials against a server came to.

    Attributes:
        family: Task family.
        method: What trained the agent.
        agent_id: Name of the agent.
        tasks: Which tasks of the family.
        trials: How many, each on a task of its own.
        seed: What the tasks were drawn with.
        explore_episodes: K.
        returns: Return of each episode of the trial, mean over tasks.
        adaptation_score: Return of the first episode after exploring, as a share of the way from the floor (where
            returns can be negative) to the ceiling; `None` without a ceiling.
        interval: 95 % bootstrap interval of the score, over tasks.
        ceiling: Best return when the task is known, mean over tasks.
        floor: Return of random actions, mean over tasks.
        certainty: Mean certainty of the belief after each episode.
        seconds: Wall-clock time of all trials.
        steps_per_second: Environment steps a second, all sessions together.
    """

    family: str
    method: str
    agent_id: str
    tasks: str
    trials: int
    seed: int
    explore_episodes: int
    returns: list[float]
    adaptation_score: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    floor: float
    certainty: list[float]
    seconds: float
    steps_per_second: float


def summarize(
    agent: Agent,
    returns: NDArray[np.float64],
    certainties: NDArray[np.float64],
    *,
    family: str,
    split: str,
    seed: int,
    ceilings: NDArray[np.float32] | None,
    floor: float,
    seconds: float,
) -> Adaptation:
    """Score trials.

    Args:
        agent: What was served.
        returns: `[tasks, episodes]`.
        certainties: After each episode, `[tasks, episodes]`.
        family: The simulated family.
        split: Which of its tasks.
        seed: What the tasks were drawn with.
        ceilings: Best return of each task, `[tasks]`; `None`: unknown.
        floor: Return of random actions.
        seconds: Wall-clock time of the trials.
    """
    scored = returns[:, min(agent.explore_episodes, returns.shape[1] - 1)]
    ceiling = None if ceilings is None else float(ceilings.mean())
    score, interval = None, None
    if ceiling is not None:
        base = floor if floor < 0.0 else 0.0
        shares = (scored - base) / (ceiling - base)
        score, interval = float(shares.mean()), _bootstrap(shares, seed)
    return Adaptation(
        family=family,
        method=_method(agent),
        agent_id=agent.agent_id,
        tasks=split,
        trials=len(returns),
        seed=seed,
        explore_episodes=agent.explore_episodes,
        returns=[float(value) for value in returns.mean(0)],
        adaptation_score=score,
        interval=interval,
        ceiling=ceiling,
        floor=floor,
        certainty=[float(value) for value in certainties.mean(0)],
        seconds=seconds,
        steps_per_second=returns.size * agent.horizon / seconds,
    )


def _bootstrap(shares: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % interval of the mean over tasks."""
    rng = np.random.default_rng(seed)
    means = shares[rng.integers(len(shares), size=(_RESAMPLES, len(shares)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _method(agent: Agent) -> str:
    """The method in `FAMILY-METHOD-SEED` or `FAMILY-METHOD-SEED-DIGEST`; a name of another form, whole."""
    parts = re.fullmatch(r"(.+?)-\d+(-[0-9a-f]{8,})?", agent.agent_id.removeprefix(f"{agent.family}-"))
    return agent.agent_id if parts is None else parts.group(1)
