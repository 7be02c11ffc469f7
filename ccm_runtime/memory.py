"""Everything that a trial carries from one event to the next, as a value, and what an event makes of it."""

from typing import NamedTuple

import numpy as np

from ccm_runtime.belief import Array, Folded
from ccm_runtime.errors import TrialOrderError
from ccm_runtime.manifest import Adaptation
from ccm_runtime.messages import BeginEpisode, EncodedTransition, Transition
from ccm_runtime.policy import Policy
from ccm_runtime.trial import Closed, EpisodeBegan, ExplorationCompleted, Phase, Stepped, Trial, advance

ACTION_NOISE, _LATENT_NOISE = 0, 1
_STEPPED = Stepped()


class Memory(NamedTuple):
    """Everything that a trial carries from one event to the next, as a value.

    Attributes:
        trial: Where the trial is.
        belief: What is known of the task, `[belief]`.
        latent_mean: The belief's reading, `[latent]`.
        latent_std: Its standard deviation, `[latent]`.
        latent: What the executor is given in this episode, `[latent]`.
        observation: The last observation as the policies see it, `[input]`, zeros before the first.
        command: The last action that was given (or applied), `[act]`; `None` between episodes.
        last_safe: The last action that needed no mending, `[act]`.
        seed: Seed of the trial's own noise.
        stochastic: Whether actions are sampled.
        num_events: Events so far; with the seed, it determines the next noise.
        returns: Return of every finished episode.
        return_so_far: Return of the episode under way.
        owed: Transitions that were answered without the networks and are not in the belief yet, oldest first.
        re_explore: Episodes to explore for when the task has changed; 0: that is not watched.
    """

    trial: Trial
    belief: Array
    latent_mean: Array
    latent_std: Array
    latent: Array
    observation: Array
    command: Array | None = None
    last_safe: Array | None = None
    seed: int = 0
    stochastic: bool = False
    num_events: int = 0
    returns: tuple[float, ...] = ()
    return_so_far: float = 0.0
    owed: tuple[EncodedTransition, ...] = ()
    re_explore: int = 0


def begin(policy: Policy, memory: Memory, event: BeginEpisode, seen: Array) -> Memory:
    """Return the trial after the beginning of an episode, with the latent that it begins with."""
    begun = memory._replace(
        trial=advance(memory.trial, EpisodeBegan(event.abandon)),
        latent=memory.latent_mean,
        observation=seen,
        command=None,
        num_events=memory.num_events + 1,
        return_so_far=0.0,
    )
    if policy.adaptation.latent == "mean":
        return begun
    drawn = noise_of(begun, _LATENT_NOISE, policy.belief.latent_size)
    return begun._replace(latent=memory.latent_mean + memory.latent_std * drawn)


def absorb(policy: Policy, memory: Memory, event: Transition, known: Folded, seen: Array, *, certain: float) -> Memory:
    """Return the trial after a transition, with what is known now (one row)."""
    adaptation = policy.adaptation
    ended = event.terminated or event.truncated
    trial = advance(memory.trial, Stepped(event.terminated, event.truncated) if ended else _STEPPED)
    over = not trial.in_episode
    if over and adaptation.certain_at is not None and memory.trial.phase is Phase.EXPLORE:
        trial = advance(trial, ExplorationCompleted()) if certain >= adaptation.certain_at else trial
    total = memory.return_so_far + event.reward
    return Memory(
        trial=trial,
        belief=known.belief,
        latent_mean=known.latent_mean,
        latent_std=known.latent_std,
        latent=known.latent_mean if follows(adaptation) else memory.latent,
        observation=seen,
        command=None if over else action_of(memory, event),
        last_safe=memory.last_safe,
        seed=memory.seed,
        stochastic=memory.stochastic,
        num_events=memory.num_events + 1,
        returns=(*memory.returns, total) if over else memory.returns,
        return_so_far=0.0 if over else total,
        re_explore=memory.re_explore,
    )


def close(memory: Memory) -> Memory:
    """Return the trial, over."""
    if memory.trial.closed:
        raise TrialOrderError("the trial is closed already")
    return memory._replace(trial=advance(memory.trial, Closed()))


def follows(adaptation: Adaptation) -> bool:
    """Return whether the latent follows the belief within an episode."""
    return adaptation.while_executing and adaptation.latent == "mean"


def known_of(memory: Memory) -> Folded:
    """Return what is known of the task (one row)."""
    return Folded(memory.belief, memory.latent_mean, memory.latent_std)


def action_of(memory: Memory, event: Transition) -> Array:
    """Return the action that a transition was made with, `[act]`."""
    applied = memory.command if event.applied_action is None else event.applied_action
    assert applied is not None, "a transition follows an action"  # noqa: S101 (our own invariant)
    return applied


def noise_of(memory: Memory, purpose: int, size: int) -> Array:
    """Return standard-normal noise `[size]`, a function of the trial's seed, its number of events and the purpose."""
    bits = np.random.Philox(key=[memory.seed, purpose], counter=[0, memory.num_events, 0, 0])
    return np.random.Generator(bits).standard_normal(size, np.float32)
