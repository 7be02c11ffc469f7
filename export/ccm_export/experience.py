"""Whole trials of an exported agent: what transitions, returns and beliefs are like on the tasks that it knows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccm_runtime.adapt import Adapter
from ccm_runtime.belief import Array, ExperienceStats
from ccm_runtime.belief_map import BeliefMap, principal_axes
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.policy import Policy
from ccm_training.envs.family import Family, Table

NUM_TASKS = 400
NUM_POINTS = 128  # of the map: enough to see, and a few kB
# Transitions and returns each raise the flag on one training task in 200.
QUANTILE = 0.995
_RIDGE = 0.01  # in units of each entry's variance: what never varies in training is not novel by rounding
_MARGIN = 1.01

# (episode, step, observation `[n, obs]`, what was told before it) -> what the agent is told.
Sensor = Callable[[int, int, Array, Array | None], Array]


class Trials(NamedTuple):
    """What happened.

    Attributes:
        transitions: Observation, action, reward and change of the observation, `[n, steps, .]`; not a number after
            the end of an episode that ended early.
        novelty: Of each transition, `[n, steps]`, likewise.
        returns: `[n, episodes]`.
        latents: Means of the beliefs at the end, `[n, latent]`.
    """

    transitions: NDArray[np.float64]
    novelty: NDArray[np.float64]
    returns: NDArray[np.float64]
    latents: NDArray[np.float64]


def run_trials(
    adapter: Adapter, family: Family, tasks: Table, *, seed: int = 0, sensor: Sensor | None = None
) -> Trials:
    """Run a trial on each task, with the deterministic policies, noise of its own and, if given, another sensor."""
    env, memories = family.simulate(tasks, seed), [adapter.start(seed=row) for row in range(len(tasks))]
    transitions, novelty, returns = [], [], []
    for episode in range(adapter.policy.adaptation.episodes):
        told = observed = env.reset()
        if sensor is not None:
            told = sensor(episode, 0, observed, None)
        taken = adapter.step(memories, [BeginEpisode(row) for row in told])
        memories = [memory for memory, _ in taken]
        action = np.array([reaction.action for _, reaction in taken])
        alive = np.ones(len(tasks), bool)
        returns.append(np.zeros(len(tasks)))
        for step in range(1, family.horizon + 1):
            after = env.step(action)
            new = after.observation if sensor is None else sensor(episode, step, after.observation, told)
            rewards = np.asarray(after.reward, np.float64)
            moved = np.concatenate((told, action, rewards[:, None], new - told), 1, dtype=np.float64)
            transitions.append(np.where(alive[:, None], moved, np.nan))
            novelty.append(np.full(len(tasks), np.nan))
            returns[-1] += np.where(alive, rewards, 0.0)
            rows = np.flatnonzero(alive)
            events = [Transition(new[row], float(rewards[row]), bool(after.terminated[row])) for row in rows]
            for row, (memory, reaction) in zip(rows, adapter.step([memories[r] for r in rows], events), strict=True):
                memories[row], novelty[-1][row] = memory, reaction.novelty
                if reaction.action is None:
                    alive[row] = False
                else:
                    action[row] = reaction.action
            told = new
            if not alive.any():
                break
    latents = np.array([memory.latent_mean for memory in memories], np.float64)
    return Trials(np.array(transitions).swapaxes(0, 1), np.array(novelty).T, np.array(returns).T, latents)


def experience(
    policy: Policy, family: Family, safety: SafetyLimits, *, seed: int = 0, num_tasks: int = NUM_TASKS
) -> tuple[ExperienceStats, BeliefMap]:
    """Return what transitions, returns and beliefs are like on tasks of the training split, under the limits."""
    tasks = family.sample_tasks("train", num_tasks, seed)
    trials = run_trials(Adapter.of(policy, safety), family, tasks, seed=seed)
    explored = min(policy.adaptation.explore_episodes, trials.returns.shape[1] - 1)
    return experience_stats(trials, explored), belief_map(trials.latents, tasks, family.task.labels)


def belief_map(latents: NDArray[np.float64], tasks: Table, labels: Sequence[str]) -> BeliefMap:
    """Return the plane in which latents `[n, latent]` of tasks `[n, params]` vary the most, and the first of them."""
    plane = BeliefMap(
        centre=_rounded(latents.mean(0)),
        axes=principal_axes(np.atleast_2d(np.cov(latents.T))),
        points=(),
        tasks=(),
        labels=tuple(labels),
    )
    points = plane.place(latents[:NUM_POINTS].tolist())
    shown = {"points": [_rounded(point) for point in points], "tasks": [_rounded(task) for task in tasks[:NUM_POINTS]]}
    return BeliefMap.model_validate(plane.model_dump() | shown)


def _rounded(row: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    return tuple(round(float(entry), 4) for entry in row)


def experience_stats(trials: Trials, explored: int) -> ExperienceStats:
    """Return what transitions and returns are like in trials whose first `explored` episodes were the explorer's."""
    rows = trials.transitions.reshape(-1, trials.transitions.shape[-1])
    rows = rows[np.isfinite(rows).all(1)]
    mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    precision = np.linalg.inv(np.cov(((rows - mean) / scale).T) + _RIDGE * np.eye(len(mean)))
    scaled = (trials.transitions - mean) / scale
    farthest = np.nanmax(np.sqrt(np.einsum("nti,ij,ntj->nt", scaled, precision, scaled)), 1)
    executed = trials.returns[:, explored:]
    return ExperienceStats(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        precision=tuple(tuple(row) for row in precision.tolist()),
        threshold=max(_MARGIN * float(np.quantile(farthest, QUANTILE)), 1e-6),
        typical_return=float(np.median(executed)),
        low_return=float(np.quantile(executed.min(1), 1.0 - QUANTILE)),
    )
