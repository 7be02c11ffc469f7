"""Transitions that were answered without the networks: owed to the belief, and folded into it later."""

from collections.abc import Sequence

import numpy as np

from ccm_runtime.belief import Folded, Transitions
from ccm_runtime.errors import ServerBusyError
from ccm_runtime.memory import Memory, follows, known_of
from ccm_runtime.messages import EncodedTransition
from ccm_runtime.policy import Policy
from ccm_runtime.rows import as_rows, pick, usable

MAX_OWED = 1_024
"""Transitions that a trial may owe its belief."""
_CHUNK = 64  # folded at a time


def check_room(memory: Memory) -> None:
    """Raise ServerBusyError where the trial owes too much already."""
    if len(memory.owed) >= MAX_OWED:
        raise ServerBusyError(
            f"the networks have not answered for {MAX_OWED} transitions, the most that a session may owe its "
            "belief; stop, and look at the server"
        )


def catch_up(policy: Policy, memory: Memory, num_left: int = 0) -> Memory:
    """Return the trial with what it owes folded into its belief, but for the `num_left` newest transitions."""
    known, due = known_of(memory), memory.owed[: max(0, len(memory.owed) - num_left)]
    for begin in range(0, len(due), _CHUNK):
        chunk = due[begin : begin + _CHUNK]
        folded = _fold(policy, known, chunk)
        if not usable(folded):  # one of them is a freak; the others still count
            folded = known
            for one in chunk:
                folded = alone if usable(alone := _fold(policy, folded, (one,))) else folded
        known = folded
    return caught_up(policy, memory, known, len(due))


def caught_up(policy: Policy, memory: Memory, known: Folded, num_owed: int) -> Memory:
    """Return the trial with a belief (one row) that holds the first `num_owed` of what it owes."""
    return memory._replace(
        belief=known.belief,
        latent_mean=known.latent_mean,
        latent_std=known.latent_std,
        latent=known.latent_mean if follows(policy.adaptation) else memory.latent,
        owed=memory.owed[num_owed:],
    )


def _fold(policy: Policy, known: Folded, moved: Sequence[EncodedTransition]) -> Folded:
    """Return what is known (one row) after whole transitions."""
    transitions = Transitions(
        as_rows([one.observation for one in moved])[None],
        as_rows([one.action for one in moved])[None],
        np.array([[[one.reward] for one in moved]], np.float32),
        as_rows([one.next_observation for one in moved])[None],
        np.ones((1, len(moved), 1), np.float32),
    )
    return pick(policy.fold(known.belief[None], transitions), 0)
