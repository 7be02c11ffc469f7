"""Trials of a trained agent on training tasks: where its beliefs lie, and real inputs to compare graphs on."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccm_export.probes import Probe
from ccm_runtime.belief import Array, NoveltyStats, Transitions
from ccm_training.checkpoint import LoadedRun
from ccm_training.replay import Rows
from ccm_training.rollout import BatchPolicy, Trials, run_trials

MIN_TASKS = 400
QUANTILE = 0.99
_SHRINKAGE = 0.01
_MARGIN = 1.01  # who has seen nothing yet must not be novel by rounding


class TrainingTrials(NamedTuple):
    """What the trials showed.

    Attributes:
        novelty: Where the latents of training tasks lie, at any time of a trial: from the prior to its end.
        probe: Observations, beliefs and whole episodes that occurred.
    """

    novelty: NoveltyStats
    probe: Probe


def run_training_trials(run: LoadedRun, *, rows: int = 256) -> TrainingTrials:
    """Run one deterministic trial on each of at least `MIN_TASKS` tasks of the training split.

    Args:
        run: Whose agent; what comes out is a function of it alone.
        rows: Most rows of the probe.
    """
    generator = torch.Generator().manual_seed(run.config.seed)
    policy = run.policy_for()
    num = max(run.config.tasks.num_train, MIN_TASKS)
    tasks = torch.from_numpy(run.family.sample_tasks("train", num, run.config.tasks.seed))
    trials = run_trials(
        run.family.make(tasks),
        policy,
        episodes=run.adaptation.episodes,
        noise=None,
        generator=generator,
    )
    novelty = novelty_stats(_latents(policy, trials.rows).numpy())
    return TrainingTrials(novelty, _probe(policy, trials, rows, np.random.default_rng(0)))


def novelty_stats(latents: NDArray[np.float32]) -> NoveltyStats:
    """Centre and inverse covariance of latents, and the distance that 99 % of the trials never exceed.

    The covariance is shrunk towards a ball, so that directions in which the latents hardly vary do not make every new
    task novel.

    Args:
        latents: Of trials, from before the first transition to after the last, `[n, times, latent]`.
    """
    mean = latents.mean((0, 1), dtype=np.float64)
    offsets = latents - mean
    size = len(mean)
    covariance = np.einsum("nti,ntj->ij", offsets, offsets) / (latents.size / size)
    covariance += np.eye(size) * max(_SHRINKAGE * float(np.trace(covariance)) / size, 1e-6)
    precision = np.linalg.inv(covariance)
    farthest = np.sqrt(np.einsum("nti,ij,ntj->nt", offsets, precision, offsets)).max(1)
    return NoveltyStats(
        mean=tuple(mean.tolist()),
        precision=tuple(tuple(row) for row in precision.tolist()),
        threshold=max(_MARGIN * float(np.quantile(farthest, QUANTILE)), 1e-6),
    )


@torch.no_grad()
def _latents(policy: BatchPolicy, rows: Rows) -> Tensor:
    """Latents `[n, times, latent]` before and after every transition of trials `[n, episodes, horizon, ...]`.

    All of them, and not only the last: novelty is told from the first step on, when every task is still at the prior.
    """
    belief = policy.initial_belief(len(rows.reward))
    latents = [policy.read(belief).mean]
    for step in zip(*(field.flatten(1, 2).unbind(1) for field in rows), strict=True):
        belief = policy.fold(belief, Rows(*step))
        latents.append(policy.read(belief).mean)
    return torch.stack(latents, 1)


def _probe(policy: BatchPolicy, trials: Trials, rows: int, rng: np.random.Generator) -> Probe:
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
