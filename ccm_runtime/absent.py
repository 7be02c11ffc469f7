"""Sessions that are not held here, or not any more: what their owners are told, and a look at the last ones."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import replace

from ccm_runtime.errors import ContextMismatchError, SessionUnknownError
from ccm_runtime.memory import close
from ccm_runtime.messages import Context, SessionClosed
from ccm_runtime.session import Session

# Answers to the last closes, for clients whose answer was lost on its way.
MAX_FAREWELLS = 256
# Sessions that can be looked at after their end.
MAX_ENDED = 20


class Absent:
    """Remembers the sessions that were closed last, and those that rest in the store as their bundle is not served.

    Attributes:
        ended: The sessions that were closed last, the last one at the end.
        resting: Digests of the bundles of sessions that rest, by their tenants and names; the same to its end.
    """

    def __init__(self) -> None:
        self.ended: deque[Session] = deque(maxlen=MAX_ENDED)
        self.resting: Mapping[tuple[str, str], str] = {}
        self._farewells: OrderedDict[tuple[str, str, str], SessionClosed] = OrderedDict()

    def close(self, session: Session, token: str) -> SessionClosed:
        """End the trial of a session that its owner has just closed; return what its owner is told."""
        memory = close(session.memory)
        self.ended.append(replace(session, memory=memory))
        closed = SessionClosed(memory.returns, Context(session.bundle_digest, memory.belief))
        self._farewells[session.tenant, session.session_id, token] = closed
        if len(self._farewells) > MAX_FAREWELLS:
            self._farewells.popitem(last=False)
        return closed

    def farewell(self, session_id: str, token: str, tenant: str) -> SessionClosed:
        """Return what the owner of a session was told when it was closed; of one that is long gone, nothing."""
        return self._farewells.get((tenant, session_id, token), SessionClosed())

    def explain(self, session_id: str, token: str, tenant: str, *, owns: bool) -> None:
        """Tell why a tenant has no such session, where that is known.

        Args:
            session_id: Its name.
            token: What was shown for it.
            tenant: Who asks; of another tenant's session nothing is known.
            owns: Whether that is its token.

        Raises:
            SessionUnknownError: It was closed.
            ContextMismatchError: It rests in the store.
        """
        if (tenant, session_id, token) in self._farewells:
            raise SessionUnknownError("the session was closed; open a new one") from None
        digest = self.resting.get((tenant, session_id))
        if digest is not None and owns:
            raise ContextMismatchError(
                f"the session goes on with bundle {digest[:12]} alone, which this server did not have when it started; "
                "start the server again with that bundle, or open a new session"
            ) from None
