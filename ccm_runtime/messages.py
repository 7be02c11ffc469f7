"""What a client and a server tell each other, as plain values. `wire.py` turns them into protobuf and back.

Vectors are float32 in environment units, in the order of the agent's specs.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ccm_runtime.belief import Array
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import Phase


class Intervention(StrEnum):
    """What the guard had to mend in a policy's action."""

    BOUND = "bound"
    RATE = "rate"
    NOT_FINITE = "not-finite"
    LATE = "late"
    SAFE = "safe"


class SafeReason(StrEnum):
    """Why a session is SAFE: its actions are the fallback until an episode begins that leaves SAFE."""

    MISSES = "misses"
    INTERVENTIONS = "interventions"


@dataclass(frozen=True, slots=True)
class BeginEpisode:
    """The environment was reset.

    Attributes:
        observation: The first observation, `[obs]`.
        leave_safe: Let the policies act again, if the session is SAFE.
        abandon: An episode that is under way does not count, and begins again.
    """

    observation: Array
    leave_safe: bool = False
    abandon: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the environment finished.

    Attributes:
        observation: Observation after the step, `[obs]`.
        reward: The environment's own reward.
        terminated: The task itself ended the episode.
        truncated: Something outside the task ended it.
        applied_action: The action that was truly applied, `[act]`; `None` if it was the one that was given.
    """

    observation: Array
    reward: float
    terminated: bool = False
    truncated: bool = False
    applied_action: Array | None = None


Event = BeginEpisode | Transition


class Reaction(NamedTuple):
    """What an agent does and knows after an event; empty of everything that only a server adds.

    Attributes:
        action: What to do next, `[act]`; `None` once the episode is over.
        phase: Phase of the current episode or, once it is over, of the next one.
        episode: Number of the current episode, from 0, or of the next one.
        step: Transitions of the current episode so far.
        episode_over: Whether the episode has ended.
        certainty: 0 (nothing known of the task) to 1 (all known).
        novelty: How far this is from what training tasks showed, of whose trials about 97 % stay below 1; 0: unknown.
        interventions: What the guard had to mend.
        task_changed: The episode that has just ended showed that the task has changed: exploring begins anew.
    """

    action: Array | None
    phase: Phase
    episode: int
    step: int
    episode_over: bool
    certainty: float
    novelty: float
    interventions: tuple[Intervention, ...] = ()
    task_changed: bool = False


class Answer(NamedTuple):
    """A server's answer to one event.

    Attributes:
        sequence: The event's number.
        reaction: What the agent does and knows.
        valid_for_ms: Do not apply the action later than this after it arrived.
        durable_sequence: Every event up to this one survives a crash of the server; 0: sessions are not durable.
        total_ms: From the event's arrival to its answer.
        infer_ms: Of that, inside the networks.
        draining: The server is shutting down.
        safe: Why the session is SAFE; `None`: it is not.
        version_changed: The episode was the last one with that version of the agent; the next explores with another.
    """

    sequence: int
    reaction: Reaction
    valid_for_ms: int = 0
    durable_sequence: int = 0
    total_ms: float = 0.0
    infer_ms: float = 0.0
    draining: bool = False
    safe: SafeReason | None = None
    version_changed: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a task: a belief `[belief]`, with the digest of the bundle that made it."""

    bundle_digest: str
    belief: Array


@dataclass(frozen=True, slots=True)
class Agent:
    """What is served, `name` by the server's word for it: its training, specs, episodes K and N, horizon T, sizes."""

    agent_id: str
    family: str
    bundle_digest: str
    observation: BoxSpec
    action: BoxSpec
    explore_episodes: int
    episodes: int
    horizon: int
    belief_size: int
    latent_size: int
    server_version: str
    method: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session is to run, and what its client expects of the server (empty or 0: anything).

    Attributes:
        seed: Seed of the session's own noise, an unsigned 64-bit number.
        stochastic: Sample actions instead of taking each policy's deterministic one.
        expected_family: Task family.
        expected_observation_size: Length of an observation.
        expected_action_size: Length of an action.
        expected_bundle_digest: SHA-256 of the bundle's manifest.
        context: Where to begin; `None`: knowing nothing.
        explore_episodes: Episodes of the explorer; `None`: the agent's K.
        idempotency_key: Opening twice with one key gives one session; empty: always a new one.
        re_explore: Forget what is known and explore anew when an episode shows that the task has changed.
        agent: Name of the agent; empty: the server's default one.
    """

    seed: int = 0
    stochastic: bool = False
    expected_family: str = ""
    expected_observation_size: int = 0
    expected_action_size: int = 0
    expected_bundle_digest: str = ""
    context: Context | None = None
    explore_episodes: int | None = None
    idempotency_key: str = ""
    re_explore: bool = False
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a session is that was taken over.

    Attributes:
        last_answer: What its last event was answered with; `None` before the first.
        returns: Return of every finished episode.
        return_so_far: Of the episode under way.
        phase: Of the episode under way or, between episodes, of the next one.
    """

    last_answer: Answer | None
    returns: tuple[float, ...]
    return_so_far: float
    phase: Phase


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened or resumed; `next_sequence` says where to go on.

    `standing` is where it was taken over, and `client`, which a server notes and does not tell, by whom.
    """

    session_id: str
    token: str = field(repr=False)
    agent: Agent
    next_sequence: int
    idle_limit_ms: int
    standing: Standing | None = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session that has ended: the return of every finished episode, and what it knew of its task.

    `context` is `None` when the session was gone already.
    """

    returns: tuple[float, ...] = ()
    context: Context | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder makes of transitions: a context, the posterior `[latent]`, certainty and novelty."""

    context: Context
    latent_mean: Array
    latent_std: Array
    certainty: float
    novelty: float


@dataclass(frozen=True, slots=True)
class EncodedTransition:
    """A whole transition, for a stateless call: `[obs]`, `[act]`, reward, `[obs]`."""

    observation: Array
    action: Array
    reward: float
    next_observation: Array


@dataclass(frozen=True, slots=True)
class Acted:
    """A stateless action `[act]`, certainty, novelty, and what the guard had to mend."""

    action: Array
    certainty: float
    novelty: float
    interventions: tuple[Intervention, ...] = ()


def vector(values: object) -> Array:
    """Return a sequence of numbers as a float32 vector."""
    return np.array(values, np.float32)
