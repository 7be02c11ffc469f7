"""A trial after an event, with what its policy does, before it is known whether that came in time."""

from typing import NamedTuple

from ccm_runtime.belief import Array
from ccm_runtime.guard import Guarded
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Reaction


class Proposal(NamedTuple):
    """A trial after an event whose action came in time.

    Attributes:
        memory: The trial.
        reaction: What to tell its client.
        previous: The command before this one, `[act]`; `None` at the beginning of an episode.
        last_safe: The last command before this one that needed no mending, `[act]`.
    """

    memory: Memory
    reaction: Reaction
    previous: Array | None
    last_safe: Array | None


def proposal_of(
    memory: Memory, guarded: Guarded | None, certain: float, novel: float, *, changed: bool = False
) -> Proposal:
    """Return the trial with the command that it is given, and what to tell its client."""
    trial, previous, last_safe = memory.trial, memory.command, memory.last_safe
    action, interventions = guarded or (None, ())
    if action is not None:
        memory = memory._replace(command=action, last_safe=last_safe if interventions else action)
    reaction = Reaction(
        action,
        trial.phase,
        trial.episodes_finished,
        trial.steps_in_episode,
        not trial.in_episode,
        certain,
        novel,
        interventions,
        changed,
    )
    return Proposal(memory, reaction, previous, last_safe)
