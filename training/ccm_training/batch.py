"""What one update is given: a meta-batch from the replay, and the random numbers of its losses.

Everything random is drawn here, so that the losses are functions of an agent, a batch and draws alone. Each seed of a
cohort draws from a stream of its own, and every field then has the seeds first.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ccm_training.config import Config
from ccm_training.replay import Replay, Rows


class Batch(NamedTuple):
    """What one update learns from, for M distinct tasks.

    Attributes:
        trials: One whole trial of each task, fields `[M, episodes, horizon, ...]`: queries, contexts and the
            explorer's transitions.
        keys: Transitions of many trials of each task, `[M, key_rows, ...]`.
        rows: Transitions of each task for the executor, `[M, rows, ...]`.
        features: The tasks as an oracle is told of them, `[M, features]`.
    """

    trials: Rows
    keys: Rows
    rows: Rows
    features: Tensor


class Draws(NamedTuple):
    """What the losses of one update leave to chance; without entries where they ask for none.

    Attributes:
        queries: Which prefix each query is, uniform, `[M, queries]`.
        contexts: Of the executor's latents: a prefix of any length, one past the exploration, and which of the two;
            uniform, `[3, M, rows]`.
        predicted: Which prefix predicts each transition, uniform, `[M, rows]`.
        explorer_rows: Which transitions the explorer learns from, uniform, `[M, explorer_rows]`.
        query_noise: Normal, `[M, queries, latent]`.
        latent_noise: Normal, `[M, rows, latent]`.
        prediction_noise: Normal, `[M, rows, latent]`.
        executor_noise: Of its next action and of its action, normal, `[2, M * rows, act]`.
        explorer_noise: The same, `[2, M * explorer_rows, act]`.
    """

    queries: Tensor
    contexts: Tensor
    predicted: Tensor
    explorer_rows: Tensor
    query_noise: Tensor
    latent_noise: Tensor
    prediction_noise: Tensor
    executor_noise: Tensor
    explorer_noise: Tensor


Shape = tuple[int, ...]
_NONE: Shape = (0,)


def sample_batch(replay: Replay, features: Tensor, config: Config, *streams: torch.Generator) -> Batch:
    """Draw a meta-batch of distinct tasks and what the update needs of each.

    Args:
        replay: Of all seeds: the tasks of the first come first.
        features: The tasks as an oracle is told of them, `[tasks, features]`; each seed has the same.
        config: Says how much is asked for.
        streams: One for each seed.
    """
    seeds, tasks, many = len(streams), len(features), config.meta_batch
    shapes: dict[str, Shape] = {
        "order": (tasks,),
        "trials": (many, 1),
        "keys": (many, config.encoder.key_rows),
        "rows": (many, config.policy.rows),
    }
    chance = _cut(_pooled(torch.rand, shapes, streams), shapes)
    chosen = chance["order"].argsort(-1)[:, :many]
    stored = (chosen + torch.arange(0, seeds * tasks, tasks, device=chosen.device)[:, None]).flatten()
    trials = replay.sample_trials(stored, chance["trials"].flatten(0, 1))
    own = config.policy.own_rows if config.what.explorer else 0.0
    batch = Batch(
        trials=Rows(*(field[:, 0] for field in trials)),
        keys=replay.sample_rows(stored, chance["keys"].flatten(0, 1)),
        rows=replay.sample_rows(stored, chance["rows"].flatten(0, 1), last=config.trial.execute_episodes, share=own),
        features=features[chosen.flatten()],
    )
    return batch if seeds == 1 else tree_map(lambda field: field.unflatten(0, (seeds, many)), batch)


def draw(config: Config, actions: int, *streams: torch.Generator, encoder_alone: bool = False) -> Draws:
    """Draw what an update, or one of the encoder alone, leaves to chance.

    Args:
        config: Says what is asked for.
        actions: Entries of an action.
        streams: One for each seed.
        encoder_alone: Whether only the encoder's loss is to be computed.
    """
    many, rows, told = config.meta_batch, config.policy.rows, config.what.told
    sampled, policies = config.trial.latent == "sample", not encoder_alone
    explores = policies and config.what.explorer
    predicts = config.encoder.prediction_weight > 0.0 and not told
    explorer_rows, latent = config.policy.explorer_rows, config.networks.latent
    uniform: dict[str, Shape] = {
        "queries": _NONE if told else (many, config.encoder.queries),
        "contexts": (3, many, rows) if policies and not told else _NONE,
        "predicted": (many, rows) if predicts else _NONE,
        "explorer_rows": (many, explorer_rows) if explores else _NONE,
    }
    normal: dict[str, Shape] = {
        "query_noise": (many, config.encoder.queries, latent) if sampled and not told else _NONE,
        "latent_noise": (many, rows, latent) if sampled and policies and not told else _NONE,
        "prediction_noise": (many, rows, latent) if sampled and predicts else _NONE,
        "executor_noise": (2, many * rows, actions) if policies else _NONE,
        "explorer_noise": (2, many * explorer_rows, actions) if explores else _NONE,
    }
    uniforms, normals = _pooled(torch.rand, uniform, streams), _pooled(torch.randn, normal, streams)
    if len(streams) == 1:
        uniforms, normals = uniforms[0], normals[0]
    return Draws(**_cut(uniforms, uniform), **_cut(normals, normal))


def _pooled(kind: Callable[..., Tensor], shapes: dict[str, Shape], streams: Sequence[torch.Generator]) -> Tensor:
    """All random numbers that these shapes need, for each stream from itself; `[streams, numbers]`."""
    total = sum(map(prod, shapes.values()))
    return torch.stack([kind(total, generator=stream, device=stream.device) for stream in streams])


def _cut(numbers: Tensor, shapes: dict[str, Shape]) -> dict[str, Tensor]:
    """Cut numbers, `[..., numbers]`, into tensors of these shapes, `[..., *shape]`."""
    parts = torch.split(numbers, [prod(shape) for shape in shapes.values()], -1)
    lead = numbers.shape[:-1]
    return {name: part.view(*lead, *shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
