"""What trials come to: the adaptation curve, the adaptation score with its interval, the ceiling and the floor.

In numpy alone: the same for trials in this process (`ccm evaluate`) and against a server (`ccm adapt`), which need no
torch.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from ccm_training.diagnostics import ContextQuality
from ccm_training.envs.family import Family, Table
from ccm_training.statistics import Estimate, estimate


class Evaluation(BaseModel):
    """What an agent does on tasks that it may never have seen.

    Attributes:
        family: Task family.
        method: What trained the agent.
        tasks: Split that the tasks came from.
        trials: Number of tasks, one trial each.
        seed: Tasks, floor and interval are functions of it.
        explore_episodes: K.
        returns: Mean return of each episode of the trial.
        adaptation_score: First executor episode's mean return over the mean ceiling (both less the floor where
            returns can be negative); `None` without a ceiling above the floor.
        interval: 95 % bootstrap interval of the score over tasks.
        ceiling: Mean return of the best policy that knows the task.
        floor: Mean return of random actions.
        certainty: Mean certainty of the belief after each episode.
        seconds: Wall-clock time of the trials.
        context: What the beliefs are worth by themselves; only at the end of a run, for a method that has any.
        task_scores: Of each trial, `[trials]`, to six decimals: what the adaptation score is the mean of, or the first
            executor episode's return where there is no such score.
    """

    family: str
    method: str
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
    context: ContextQuality | None = None
    task_scores: list[float]


def evaluation_of(
    returns: ArrayLike,
    certainty: ArrayLike,
    family: Family,
    tasks: Table,
    *,
    method: str,
    split: str,
    explore_episodes: int,
    seed: int,
    seconds: float,
    ceiling: float | None = None,
    floor: float | None = None,
) -> Evaluation:
    """Score trials.

    Args:
        returns: Of each episode of each trial, `[n, episodes]`.
        certainty: After each of these episodes, `[n, episodes]`.
        family: Where the tasks come from.
        tasks: `[n, params]`.
        method: What trained the agent.
        split: Name of the tasks' split.
        explore_episodes: K; the episode after these is scored.
        seed: What the tasks were drawn with.
        seconds: Wall-clock time of the trials.
        ceiling: Mean return of the best policy that knows the task; `None`: the family's own, if it has one.
        floor: Mean return of random actions on these tasks, `floor_of`, if it is known already.
    """
    curve = np.asarray(returns, np.float64)
    ceilings = family.ceiling(tasks) if ceiling is None else None
    ceiling = ceiling if ceilings is None else float(ceilings.mean())
    floor = floor_of(family, tasks, seed) if floor is None else floor
    scored = curve[:, min(explore_episodes, curve.shape[1] - 1)]
    shares, score = shares_of(scored, ceiling, floor), score_of(scored, ceiling, floor, seed)
    return Evaluation(
        family=family.name,
        method=method,
        tasks=split,
        trials=len(tasks),
        seed=seed,
        explore_episodes=explore_episodes,
        returns=curve.mean(0).tolist(),
        adaptation_score=None if score is None else score.value,
        interval=None if score is None else (score.low, score.high),
        ceiling=ceiling,
        floor=floor,
        certainty=np.asarray(certainty, np.float64).mean(0).tolist(),
        seconds=seconds,
        task_scores=np.round(scored if shares is None else shares, 6).tolist(),
    )


def score_of(returns: ArrayLike, ceiling: float | None, floor: float, seed: int = 0) -> Estimate | None:
    """Adaptation score of the first executor episodes, `[n]`; `None` without a ceiling above the floor."""
    shares = shares_of(returns, ceiling, floor)
    return None if shares is None else estimate(shares, np.mean, seed=seed)


def shares_of(returns: ArrayLike, ceiling: float | None, floor: float) -> NDArray[np.float64] | None:
    """Each return's share of the mean ceiling, `[n]`; `None` without a ceiling above the floor."""
    if ceiling is None or ceiling <= floor:
        return None
    base = min(floor, 0.0)
    return (np.asarray(returns, np.float64) - base) / (ceiling - base)


def floor_of(family: Family, tasks: Table, seed: int = 0, episodes: int = 4) -> float:
    """Mean return of so many episodes of uniformly random actions on each task, `[n, params]`."""
    rng = np.random.default_rng(seed)
    low, high = family.action.low_array, family.action.high_array
    env = family.simulate(np.repeat(tasks, episodes, axis=0), seed)
    env.reset()
    total, under_way = 0.0, np.ones(env.num_envs, bool)
    for _ in range(family.horizon):
        after = env.step(rng.uniform(low, high, (env.num_envs, len(low))).astype(np.float32))
        total += after.reward[under_way].sum()
        under_way &= ~after.terminated
    return float(total / env.num_envs)
