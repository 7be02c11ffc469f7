"""What a client expects of an agent, and refuses another one for."""

from dataclasses import dataclass

from ccm_runtime.arguments import check_spec, check_text
from ccm_runtime.errors import ContextMismatchError
from ccm_runtime.messages import Agent
from ccm_runtime.specs import BoxSpec


@dataclass(frozen=True, slots=True)
class Expected:
    """What must hold of an agent; what is empty or `None` may be anything.

    Attributes:
        family: Its task family.
        bundle_digest: Digest of its bundle.
        observation: Spec of its observations.
        action: Spec of its actions.
    """

    family: str = ""
    bundle_digest: str = ""
    observation: BoxSpec | None = None
    action: BoxSpec | None = None

    def check(self, agent: Agent) -> None:
        """Refuse an agent that is not the one that is expected (ContextMismatchError)."""
        for what, wanted, found in (
            ("task family", self.family, agent.family),
            ("bundle", self.bundle_digest, agent.bundle_digest),
        ):
            if wanted and wanted != found:
                raise ContextMismatchError(f"the client expects the {what} {wanted}; this session's is {found}")
        for expected, served in ((self.observation, agent.observation), (self.action, agent.action)):
            if expected is not None:
                _check_spec(expected, served)


def expected_of(family: object, bundle_digest: object, observation: object, action: object) -> Expected:
    """Return what a caller says that it expects; raises ConfigError."""
    return Expected(
        check_text("expected_family", family),
        check_text("expected_bundle_digest", bundle_digest),
        check_spec("expected_observation", observation),
        check_spec("expected_action", action),
    )


def _check_spec(expected: BoxSpec, served: BoxSpec) -> None:
    """Refuse vectors whose entries mean something else."""
    for what in ("labels", "units", "low", "high"):
        wanted, found = getattr(expected, what), getattr(served, what)
        if wanted != found:
            raise ContextMismatchError(
                f"the client expects {expected.name}s with the {what} {wanted}; this server's have {found}"
            )
