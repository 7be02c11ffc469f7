"""Trials as the rows of one batch for the networks, and back."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.memory import Memory, action_of
from ccm_runtime.messages import Transition
from ccm_runtime.specs import finite

Moved = tuple[int, Memory, Transition]  # a row, its trial before its transition, and the transition


def as_rows(vectors: Sequence[Array]) -> Array:
    """Return vectors as the rows of a matrix, without the price of `np.stack`."""
    return vectors[0][None] if len(vectors) == 1 else np.concatenate(vectors).reshape(len(vectors), -1)


def gather(rows: Sequence[Folded]) -> Folded:
    """Return single rows as one batch."""
    return Folded(
        as_rows([row.belief for row in rows]),
        as_rows([row.latent_mean for row in rows]),
        as_rows([row.latent_std for row in rows]),
    )


def pick(folded: Folded, row: int) -> Folded:
    """Return a single row of a batch."""
    return Folded(folded.belief[row], folded.latent_mean[row], folded.latent_std[row])


def usable(folded: Folded) -> bool:
    """Return whether all is finite."""
    return finite(folded.belief) and finite(folded.latent_mean) and finite(folded.latent_std)


def transitions_of(moved: Sequence[Moved], seen: Array) -> Transitions:
    """Return what moved as transitions, each `[m, 1, .]`; `seen` is what every trial sees now, `[n, input]`."""
    after = seen if len(moved) == len(seen) else seen[[row for row, _, _ in moved]]
    return Transitions(
        as_rows([memory.observation for _, memory, _ in moved])[:, None],
        as_rows([action_of(memory, event) for _, memory, event in moved])[:, None],
        np.array([event.reward for _, _, event in moved], np.float32)[:, None, None],
        after[:, None],
        _all_valid(len(moved)),
    )


@cache
def _all_valid(num: int) -> Array:
    """Return `[num, 1, 1]` ones, which nobody writes to."""
    return np.ones((num, 1, 1), np.float32)


def padding(input_size: int, action_size: int, num: int = 1) -> Transitions:
    """Return `num` steps in which nothing happened, for one belief."""
    observation, action = np.zeros((1, num, input_size), np.float32), np.zeros((1, num, action_size), np.float32)
    nothing = np.zeros((1, num, 1), np.float32)
    return Transitions(observation, action, nothing, observation, nothing)
