"""Protobuf messages of `ccm_runtime.v1` <-> the values of `messages.py`. For errors, see `statuses.py`.

`*_to_proto` writes a value, `*_from_proto` reads one and refuses a message that says nothing (SpecError). Sizes and
bounds of vectors are checked by whoever holds their specs.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ccm_runtime.belief import Array
from ccm_runtime.errors import ConfigError, SpecError
from ccm_runtime.messages import (
    Acted,
    Agent,
    Answer,
    BeginEpisode,
    Context,
    Encoded,
    EncodedTransition,
    Event,
    Intervention,
    Opened,
    Reaction,
    SafeReason,
    SessionClosed,
    SessionOptions,
    Standing,
    Transition,
    vector,
)
from ccm_runtime.specs import BoxSpec
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedScalarFieldContainer

_PHASES = {Phase.EXPLORE: pb.PHASE_EXPLORE, Phase.EXECUTE: pb.PHASE_EXECUTE, Phase.CLOSED: pb.PHASE_CLOSED}
_PHASES_BACK: dict[int, Phase] = {number: phase for phase, number in _PHASES.items()}
_INTERVENTIONS = {
    Intervention.BOUND: pb.GUARD_INTERVENTION_BOUND,
    Intervention.RATE: pb.GUARD_INTERVENTION_RATE,
    Intervention.NOT_FINITE: pb.GUARD_INTERVENTION_NOT_FINITE,
    Intervention.LATE: pb.GUARD_INTERVENTION_LATE,
    Intervention.SAFE: pb.GUARD_INTERVENTION_SAFE,
}
_INTERVENTIONS_BACK: dict[int, Intervention] = {number: intervention for intervention, number in _INTERVENTIONS.items()}
_SAFE = {
    None: pb.SAFE_REASON_UNSPECIFIED,
    SafeReason.MISSES: pb.SAFE_REASON_MISSES,
    SafeReason.INTERVENTIONS: pb.SAFE_REASON_INTERVENTIONS,
}
_SAFE_BACK: dict[int, SafeReason | None] = {number: reason for reason, number in _SAFE.items()}


def phase_from_proto(number: int) -> Phase | None:
    """Return the phase of a wire number; `None` if it is unspecified or of a later version."""
    return _PHASES_BACK.get(number)


def safe_to_proto(reason: SafeReason | None) -> pb.SafeReason:
    """Write why a session is SAFE, if it is."""
    return _SAFE[reason]


def safe_from_proto(number: int) -> SafeReason | None:
    """Read why a session is SAFE, if it is; a reason of a later version counts as misses, not as none."""
    return _SAFE_BACK.get(number, SafeReason.MISSES)


def box_to_proto(spec: BoxSpec) -> pb.BoxSpec:
    """Write a spec; a missing bound becomes an infinity."""
    return pb.BoxSpec(
        name=spec.name, labels=spec.labels, units=spec.units, low=spec.low_array.tolist(), high=spec.high_array.tolist()
    )


def box_from_proto(message: pb.BoxSpec) -> BoxSpec:
    """Read a spec; an infinity becomes a missing bound."""
    return BoxSpec(
        name=message.name,
        labels=tuple(message.labels),
        units=tuple(message.units),
        low=tuple(None if math.isinf(bound) else bound for bound in message.low),
        high=tuple(None if math.isinf(bound) else bound for bound in message.high),
    )


def agent_to_proto(agent: Agent) -> pb.Agent:
    """Write what is served."""
    return pb.Agent(
        agent_id=agent.agent_id,
        family=agent.family,
        bundle_digest=agent.bundle_digest,
        observation=box_to_proto(agent.observation),
        action=box_to_proto(agent.action),
        explore_episodes=agent.explore_episodes,
        episodes=agent.episodes,
        horizon=agent.horizon,
        belief_size=agent.belief_size,
        latent_size=agent.latent_size,
        server_version=agent.server_version,
        method=agent.method,
        name=agent.name,
    )


def agent_from_proto(message: pb.Agent) -> Agent:
    """Read what is served."""
    return Agent(
        agent_id=message.agent_id,
        family=message.family,
        bundle_digest=message.bundle_digest,
        observation=box_from_proto(message.observation),
        action=box_from_proto(message.action),
        explore_episodes=message.explore_episodes,
        episodes=message.episodes,
        horizon=message.horizon,
        belief_size=message.belief_size,
        latent_size=message.latent_size,
        server_version=message.server_version,
        method=message.method,
        name=message.name,
    )


def context_to_proto(context: Context) -> pb.Context:
    """Write a context."""
    return pb.Context(bundle_digest=context.bundle_digest, belief=context.belief.tolist())


def context_from_proto(message: pb.Context) -> Context:
    """Read a context."""
    return Context(message.bundle_digest, vector(message.belief))


def options_to_proto(options: SessionOptions) -> pb.OpenSessionRequest:
    """Write how a session is to run.

    Raises:
        ConfigError: A number is negative, too large or not whole.
    """
    episodes = 0 if options.explore_episodes is None else options.explore_episodes
    for name, value, bits in (("seed", options.seed, 64), ("explore_episodes", episodes, 32)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value < 2**bits:
            raise ConfigError(f"{name}: expected a whole number from 0 to 2^{bits} - 1, got {value!r}")
    return pb.OpenSessionRequest(
        seed=options.seed,
        stochastic=options.stochastic,
        expected_family=options.expected_family,
        expected_observation_size=options.expected_observation_size,
        expected_action_size=options.expected_action_size,
        expected_bundle_digest=options.expected_bundle_digest,
        context=None if options.context is None else context_to_proto(options.context),
        explore_episodes=options.explore_episodes,
        idempotency_key=options.idempotency_key,
        re_explore=options.re_explore,
        agent=options.agent,
    )


def options_from_proto(message: pb.OpenSessionRequest) -> SessionOptions:
    """Read how a session is to run."""
    return SessionOptions(
        seed=message.seed,
        stochastic=message.stochastic,
        expected_family=message.expected_family,
        expected_observation_size=message.expected_observation_size,
        expected_action_size=message.expected_action_size,
        expected_bundle_digest=message.expected_bundle_digest,
        context=context_from_proto(message.context) if message.HasField("context") else None,
        explore_episodes=message.explore_episodes if message.HasField("explore_episodes") else None,
        idempotency_key=message.idempotency_key,
        re_explore=message.re_explore,
        agent=message.agent,
    )


def opened_to_proto(opened: Opened) -> pb.OpenSessionResponse:
    """Write a session that was opened or resumed."""
    return pb.OpenSessionResponse(
        session_id=opened.session_id,
        token=opened.token,
        agent=agent_to_proto(opened.agent),
        next_sequence=opened.next_sequence,
        idle_limit_ms=opened.idle_limit_ms,
        standing=None if opened.standing is None else _standing_to_proto(opened.standing),
    )


def opened_from_proto(message: pb.OpenSessionResponse) -> Opened:
    """Read a session that was opened or resumed."""
    return Opened(
        session_id=message.session_id,
        token=message.token,
        agent=agent_from_proto(message.agent),
        next_sequence=message.next_sequence,
        idle_limit_ms=message.idle_limit_ms,
        standing=_standing_from_proto(message.standing) if message.HasField("standing") else None,
    )


def _standing_to_proto(standing: Standing) -> pb.Standing:
    return pb.Standing(
        last_answer=None if standing.last_answer is None else answer_to_proto(standing.last_answer),
        returns=standing.returns,
        return_so_far=standing.return_so_far,
        phase=_PHASES[standing.phase],
    )


def _standing_from_proto(message: pb.Standing) -> Standing:
    phase = phase_from_proto(message.phase)
    if phase is None:
        raise SpecError(f"the session has the unknown phase {message.phase}")
    return Standing(
        last_answer=answer_from_proto(message.last_answer) if message.HasField("last_answer") else None,
        returns=tuple(message.returns),
        return_so_far=message.return_so_far,
        phase=phase,
    )


def event_to_proto(sequence: int, event: Event) -> pb.Event:
    """Write an event with its number."""
    match event:
        case BeginEpisode():
            begin = pb.BeginEpisode(
                observation=event.observation.tolist(), leave_safe=event.leave_safe, abandon=event.abandon
            )
            return pb.Event(sequence=sequence, begin_episode=begin)
        case Transition():
            applied = () if event.applied_action is None else event.applied_action.tolist()
            transition = pb.Transition(
                observation=event.observation.tolist(),
                reward=event.reward,
                terminated=event.terminated,
                truncated=event.truncated,
                applied_action=applied,
            )
            return pb.Event(sequence=sequence, transition=transition)


def event_from_proto(message: pb.Event) -> tuple[int, Event]:
    """Read an event and its number.

    Raises:
        SpecError: It is of no kind that this version knows.
    """
    kind = message.WhichOneof("kind")
    if kind == "begin_episode":
        began = message.begin_episode
        return message.sequence, BeginEpisode(_floats(began.observation), began.leave_safe, began.abandon)
    if kind == "transition":
        moved = message.transition
        applied = _floats(moved.applied_action) if moved.applied_action else None
        observation = _floats(moved.observation)
        return message.sequence, Transition(observation, moved.reward, moved.terminated, moved.truncated, applied)
    raise SpecError("the event has no kind; set begin_episode or transition")


def answer_to_proto(answer: Answer) -> pb.Answer:
    """Write an answer."""
    message = pb.Answer()
    write_answer(answer, message)
    return message


def write_answer(answer: Answer, message: pb.Answer) -> None:
    """Write an answer into an empty message: half the price of a message that is built and copied."""
    reaction = answer.reaction
    message.sequence = answer.sequence
    if reaction.action is not None:
        message.action.extend(reaction.action.tolist())
    message.phase = _PHASES[reaction.phase]
    message.episode = reaction.episode
    message.step = reaction.step
    message.episode_over = reaction.episode_over
    message.certainty = reaction.certainty
    message.novelty = reaction.novelty
    message.valid_for_ms = answer.valid_for_ms
    message.durable_sequence = answer.durable_sequence
    message.interventions.extend([_INTERVENTIONS[entry] for entry in reaction.interventions])
    message.timing.total_ms = answer.total_ms
    message.timing.infer_ms = answer.infer_ms
    message.draining = answer.draining
    message.safe_reason = _SAFE[answer.safe]
    message.task_changed = reaction.task_changed
    message.version_changed = answer.version_changed


def answer_from_proto(message: pb.Answer) -> Answer:
    """Read an answer.

    Raises:
        SpecError: Its phase is none that this version knows.
    """
    phase = phase_from_proto(message.phase)
    if phase is None:
        raise SpecError(f"answer {message.sequence} has the unknown phase {message.phase}")
    reaction = Reaction(
        action=vector(message.action) if message.action else None,
        phase=phase,
        episode=message.episode,
        step=message.step,
        episode_over=message.episode_over,
        certainty=message.certainty,
        novelty=message.novelty,
        interventions=_interventions(message.interventions),
        task_changed=message.task_changed,
    )
    return Answer(
        sequence=message.sequence,
        reaction=reaction,
        valid_for_ms=message.valid_for_ms,
        durable_sequence=message.durable_sequence,
        total_ms=message.timing.total_ms,
        infer_ms=message.timing.infer_ms,
        draining=message.draining,
        safe=safe_from_proto(message.safe_reason),
        version_changed=message.version_changed,
    )


def closed_to_proto(closed: SessionClosed) -> pb.CloseSessionResponse:
    """Write the end of a session."""
    context = None if closed.context is None else context_to_proto(closed.context)
    return pb.CloseSessionResponse(returns=closed.returns, context=context)


def closed_from_proto(message: pb.CloseSessionResponse) -> SessionClosed:
    """Read the end of a session."""
    context = context_from_proto(message.context) if message.HasField("context") else None
    return SessionClosed(tuple(message.returns), context)


def transition_to_proto(transition: EncodedTransition) -> pb.EncodedTransition:
    """Write a whole transition."""
    return pb.EncodedTransition(
        observation=transition.observation.tolist(),
        action=transition.action.tolist(),
        reward=transition.reward,
        next_observation=transition.next_observation.tolist(),
    )


def transition_from_proto(message: pb.EncodedTransition) -> EncodedTransition:
    """Read a whole transition."""
    return EncodedTransition(
        vector(message.observation), vector(message.action), message.reward, vector(message.next_observation)
    )


def encoded_to_proto(encoded: Encoded) -> pb.EncodeResponse:
    """Write what an encoder made of transitions."""
    return pb.EncodeResponse(
        context=context_to_proto(encoded.context),
        latent_mean=encoded.latent_mean.tolist(),
        latent_std=encoded.latent_std.tolist(),
        certainty=encoded.certainty,
        novelty=encoded.novelty,
    )


def encoded_from_proto(message: pb.EncodeResponse) -> Encoded:
    """Read what an encoder made of transitions."""
    return Encoded(
        context=context_from_proto(message.context),
        latent_mean=vector(message.latent_mean),
        latent_std=vector(message.latent_std),
        certainty=message.certainty,
        novelty=message.novelty,
    )


def acted_to_proto(acted: Acted) -> pb.ActResponse:
    """Write a stateless action."""
    return pb.ActResponse(
        action=acted.action.tolist(),
        certainty=acted.certainty,
        novelty=acted.novelty,
        interventions=[_INTERVENTIONS[entry] for entry in acted.interventions],
    )


def acted_from_proto(message: pb.ActResponse) -> Acted:
    """Read a stateless action."""
    return Acted(
        vector(message.action), message.certainty, message.novelty, interventions=_interventions(message.interventions)
    )


def act_request(
    context: Context | None,
    observation: object,
    phase: Phase = Phase.EXECUTE,
    noise: object = (),
    *,
    agent: str = "",
    previous_action: object = (),
) -> pb.ActRequest:
    """Write the request for a stateless action."""
    return pb.ActRequest(
        context=None if context is None else context_to_proto(context),
        observation=vector(observation).tolist(),
        phase=_PHASES[phase],
        noise=vector(noise).tolist(),
        agent=agent,
        previous_action=vector(previous_action).tolist(),
    )


def encode_request(context: Context | None, transitions: list[EncodedTransition], agent: str = "") -> pb.EncodeRequest:
    """Write the request to fold transitions into a context."""
    return pb.EncodeRequest(
        context=None if context is None else context_to_proto(context),
        transitions=[transition_to_proto(transition) for transition in transitions],
        agent=agent,
    )


def _interventions(numbers: Iterable[int]) -> tuple[Intervention, ...]:
    """Return the interventions of wire numbers, without those of a later version."""
    known = (_INTERVENTIONS_BACK.get(number) for number in numbers)
    return tuple(entry for entry in known if entry is not None)


def _floats(field: "RepeatedScalarFieldContainer[float]") -> Array:
    """Return a repeated field as a vector, at a third of the price of `np.array`."""
    return np.fromiter(field, np.float32, len(field))
