"""Trials that show how good a run's contexts are: several of each held-out task, noisy, as training collects them."""

import math

import torch
from torch import Tensor

from ccm_training import belief as beliefs
from ccm_training import losses
from ccm_training.agent import Agent
from ccm_training.checkpoint import LoadedRun
from ccm_training.diagnostics import ContextQuality, certain_after, effective_rank, retrieval, silhouette
from ccm_training.replay import Rows
from ccm_training.rollout import Noise, Trials, Wanderer, run_trials

_TRIALS = 8  # of each task; an even number
_SEED = 0  # of noise and environments


def quality_of_context(run: LoadedRun) -> ContextQuality:
    """What a run's beliefs say of held-out tasks, as many as a meta-batch has.

    Args:
        run: Whose method has an encoder.
    """
    num, generator = run.config.meta_batch, torch.Generator().manual_seed(_SEED)
    found = _noisy_trials(run, generator)
    latents = _last_latents(run, found)
    contrast = None
    if isinstance(run.agent, Agent) and run.config.encoder.contrastive_weight > 0.0:
        rows = Rows(*(field.reshape(num, _TRIALS, *field.shape[1:]) for field in found.rows))
        contrast = _contrast(run.agent, run.config.encoder.key_rows, rows, latents, generator)
    certainty = found.certainty.mean(0).tolist()
    table = latents.numpy()
    return ContextQuality(
        tasks=num,
        trials=_TRIALS,
        accuracy=None if contrast is None else contrast.accuracy.item(),
        information=None if contrast is None else math.log(num) - contrast.loss.item(),
        chance=1.0 / num,
        bound=math.log(num),
        retrieval=retrieval(table),
        silhouette=silhouette(table),
        effective_rank=effective_rank(table),
        certainty=certainty,
        certain_after=certain_after(certainty),
    )


def latents_of_trials(run: LoadedRun) -> Tensor:
    """The latents of which `quality_of_context` speaks, `[tasks, trials, latent]`."""
    return _last_latents(run, _noisy_trials(run, torch.Generator().manual_seed(_SEED)))


def _last_latents(run: LoadedRun, found: Trials) -> Tensor:
    latents = run.policy_for().read(found.beliefs[:, -1]).mean
    return latents.reshape(run.config.meta_batch, -1, latents.shape[-1])


def _noisy_trials(run: LoadedRun, generator: torch.Generator) -> Trials:
    """So many trials of each task, one after another."""
    collect, action = run.config.collect, run.family.action
    tasks = torch.from_numpy(run.family.sample_tasks("test", run.config.meta_batch, run.config.tasks.seed))
    every = tasks.repeat_interleave(_TRIALS, 0)
    wanderer = Wanderer.within(
        action, turn_probability=collect.turn_probability, generator=generator, device=tasks.device
    )
    return run_trials(
        run.family.make(every, _SEED),
        run.policy_for(),
        episodes=run.adaptation.episodes,
        noise=Noise(len(every), wanderer, size=action.size, correlation=collect.noise_correlation, generator=generator),
        generator=generator,
    )


@torch.no_grad()
def _contrast(agent: Agent, key_rows: int, rows: Rows, latents: Tensor, generator: torch.Generator) -> losses.Contrast:
    """InfoNCE of the second half of the trials against keys of transitions of the first, `[tasks, trials, ...]`."""
    half = rows.reward.shape[1] // 2
    told = Rows(*(field[:, :half].flatten(1, 3) for field in rows))
    drawn = torch.randperm(told.reward.shape[1], generator=generator)[:key_rows]
    keys = agent.factors(Rows(*(field[:, drawn] for field in told)), agent.momentum_encoder).sum(1)
    return losses.contrastive_loss(latents[:, half:], beliefs.read(keys).mean, agent.bilinear)
