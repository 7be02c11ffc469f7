"""What callers hand to a client, checked before anything is sent: what cannot be is refused by its name."""

from collections.abc import Iterable

from ccm_runtime.errors import ConfigError, SpecError
from ccm_runtime.messages import Context, EncodedTransition
from ccm_runtime.specs import BoxSpec, as_reward, as_vector
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase


def check_context(context: object) -> Context | None:
    """Return a context whose belief is a vector, or `None`; raises SpecError."""
    if context is None:
        return None
    if not isinstance(context, Context):
        raise SpecError(
            f"context: expected the Context of encode() or of a session's close(), or None; got {_kind(context)}"
        )
    digest = check_text("context.bundle_digest", context.bundle_digest)
    return Context(digest, as_vector("context.belief", context.belief))


def check_transitions(transitions: object) -> list[EncodedTransition]:
    """Return whole transitions, in order; raises SpecError."""
    if not isinstance(transitions, Iterable) or isinstance(transitions, EncodedTransition):
        raise SpecError(f"transitions: expected a list of EncodedTransition, got {_kind(transitions)}")
    return [_check_transition(transition, number) for number, transition in enumerate(transitions)]


def _check_transition(transition: object, number: int) -> EncodedTransition:
    if not isinstance(transition, EncodedTransition):
        raise SpecError(
            f"transition {number}: expected an EncodedTransition(observation, action, reward, next_observation), "
            f"got {_kind(transition)}"
        )
    try:
        return EncodedTransition(
            as_vector("observation", transition.observation),
            as_vector("action", transition.action),
            as_reward(transition.reward),
            as_vector("next_observation", transition.next_observation),
        )
    except SpecError as error:
        raise SpecError(f"transition {number}: {error}") from None


def check_phase(phase: object) -> Phase:
    """Return a phase that has a policy; raises SpecError."""
    if isinstance(phase, str) and phase in (Phase.EXPLORE, Phase.EXECUTE):
        return Phase(phase)
    raise SpecError(f"phase: expected Phase.EXPLORE or Phase.EXECUTE, got {phase!r}")


def check_ticket(ticket: object) -> Ticket:
    """Return a session's ticket; raises ConfigError."""
    if not isinstance(ticket, Ticket):
        raise ConfigError(f"ticket: expected session.ticket, or Ticket.load(path) of a saved one; got {_kind(ticket)}")
    check_text("ticket.session_id", ticket.session_id)
    if not isinstance(ticket.token, str):  # which is not shown
        raise ConfigError(f"ticket.token: expected a text, got {_kind(ticket.token)}")
    return ticket


def check_spec(name: str, spec: object) -> BoxSpec | None:
    """Return a spec, or `None`; raises ConfigError."""
    if spec is None or isinstance(spec, BoxSpec):
        return spec
    raise ConfigError(f"{name}: expected a BoxSpec, such as session.agent.observation, or None; got {_kind(spec)}")


def check_text(name: str, text: object) -> str:
    """Return a text that can be sent; `None` is the empty one. Raises ConfigError."""
    if text is None:
        return ""
    if not isinstance(text, str) or not text.isprintable():
        raise ConfigError(f"{name}: expected a text of one line, got {text!r}")
    return text


def _kind(value: object) -> str:
    return type(value).__name__
