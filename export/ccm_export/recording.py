"""Trials of a trained agent on training tasks: where its beliefs lie, and real inputs to compare graphs on."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ccm_export.probes import Probe
from ccm_runtime.belief import Array, NoveltyStats, Transitions
from ccm_training.checkpoint import LoadedRun
from ccm_training.policy import AgentPolicy
from ccm_training.rollout import Trials, run_trials

MIN_TASKS = 400
QUANTILE = 0.99
_SHRINKAGE = 0.01


class Recording(NamedTuple):
    """What the trials showed.

    Attributes:
        novelty: Where the latents of explored training tasks lie.
        probe: Observations, beliefs and whole episodes that occurred.
    """

    novelty: NoveltyStats
    probe: Probe


def record(run: LoadedRun, *, rows: int = 256) -> Recording:
    """Run one deterministic trial on each of at least `MIN_TASKS` tasks of the training split.

    Args:
        run: Whose agent; what comes out is a function of it alone.
        rows: Most rows of the probe.
    """
    generator = torch.Generator().manual_seed(run.config.seed)
    policy = AgentPolicy(run.agent, run.adaptation)
    num = max(run.config.tasks.num_train, MIN_TASKS)
    tasks = torch.from_numpy(run.family.sample_tasks("train", num, run.config.tasks.seed))
    trials = run_trials(
        run.family.make(tasks, generator),
        policy,
        episodes=run.adaptation.episodes,
        noise=None,
        generator=generator,
    )
    last_explored = max(run.adaptation.explore_episodes - 1, 0)
    latents = policy.read(trials.beliefs[:, last_explored:]).mean.flatten(0, 1)
    return Recording(novelty_stats(latents.numpy()), _probe(policy, trials, rows, np.random.default_rng(0)))


def novelty_stats(latents: NDArray[np.float32]) -> NoveltyStats:
    """Centre, inverse covariance and 99 % threshold of latents `[m, latent]`.

    The covariance is shrunk towards a ball, so that directions in which the latents hardly vary do not make every new
    task novel.
    """
    mean = latents.mean(0, dtype=np.float64)
    offsets = latents - mean
    covariance = offsets.T @ offsets / len(latents)
    size = len(mean)
    covariance += np.eye(size) * max(_SHRINKAGE * float(np.trace(covariance)) / size, 1e-6)
    precision = np.linalg.inv(covariance)
    distances = np.sqrt(np.einsum("ni,ij,nj->n", offsets, precision, offsets))
    return NoveltyStats(
        mean=tuple(mean.tolist()),
        precision=tuple(tuple(row) for row in precision.tolist()),
        threshold=max(float(np.quantile(distances, QUANTILE)), 1e-6),
    )


def _probe(policy: AgentPolicy, trials: Trials, rows: int, rng: np.random.Generator) -> Probe:
    """Draw `rows` episodes that occurred, each with a step of it and the belief that it ended with."""
    fields = [field.flatten(0, 1).numpy() for field in trials.rows]
    beliefs = trials.beliefs.flatten(0, 1)
    drawn = rng.choice(len(beliefs), min(rows, len(beliefs)), replace=False)
    observation, action, reward, next_observation, _, valid = (field[drawn] for field in fields)
    step = rng.integers(observation.shape[1], size=len(drawn))
    latent = policy.read(beliefs[drawn])
    noise: Array = rng.standard_normal((len(drawn), policy.action_size)).astype(np.float32)
    return Probe(
        kind="recorded",
        observation=observation[np.arange(len(drawn)), step],
        belief=beliefs[drawn].numpy(),
        latent=latent.mean.numpy(),
        noise=noise,
        transitions=Transitions(observation, action, reward, next_observation, valid),
    )
