"""What one update is given: a meta-batch from the replay, and the random numbers of its losses.

Everything random is drawn here, so that the losses are functions of an agent, a batch and draws alone.
"""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

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


def sample_batch(replay: Replay, features: Tensor, config: Config, generator: torch.Generator) -> Batch:
    """Draw a meta-batch of distinct tasks and what the update needs of each."""
    many, device = config.meta_batch, generator.device
    tasks = _shuffled(len(features), generator)[:many]
    shapes = {"trials": (many, 1), "keys": (3, many, config.encoder.key_rows), "rows": (3, many, config.policy.rows)}
    chance = _cut(torch.rand(_entries(shapes), generator=generator, device=device), shapes)
    trials = replay.sample_trials(tasks, chance["trials"])
    return Batch(
        trials=Rows(*(field[:, 0] for field in trials)),
        keys=replay.sample_rows(tasks, chance["keys"]),
        rows=replay.sample_rows(tasks, chance["rows"]),
        features=features[tasks],
    )


def draw(config: Config, actions: int, generator: torch.Generator, *, encoder_alone: bool = False) -> Draws:
    """Draw what an update, or one of the encoder alone, leaves to chance.

    Args:
        config: Says what is asked for.
        actions: Entries of an action.
        generator: Draws it.
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
    device = generator.device
    return Draws(
        **_cut(torch.rand(_entries(uniform), generator=generator, device=device), uniform),
        **_cut(torch.randn(_entries(normal), generator=generator, device=device), normal),
    )


def _entries(shapes: dict[str, Shape]) -> int:
    return sum(map(prod, shapes.values()))


def _cut(numbers: Tensor, shapes: dict[str, Shape]) -> dict[str, Tensor]:
    """Cut a row of numbers into tensors of these shapes."""
    parts = torch.split(numbers, [prod(shape) for shape in shapes.values()], -1)
    return {name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}


def _shuffled(num: int, generator: torch.Generator) -> Tensor:
    """The numbers below `num` in random order; on a GPU by sorting, which a graph can capture for certain."""
    device = generator.device
    if device.type == "cuda":
        return torch.rand(num, generator=generator, device=device).argsort()
    return torch.randperm(num, generator=generator, device=device)
