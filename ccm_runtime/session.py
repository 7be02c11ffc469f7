"""Sessions: a trial with an owner, sequence numbers and a cached answer; and the bounded table that holds them.

No clock, socket or randomness of its own is in here; they are arguments.
"""

import hashlib
import hmac
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from ccm_runtime.errors import SessionLimitError, SessionTakenError, SessionUnknownError, StepGapError
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Answer
from ccm_runtime.specs import counted
from ccm_runtime.vigil import WATCHFUL, Vigil

NAME_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Session:
    """One trial of one client, as a value.

    Attributes:
        session_id: Its name; no secret.
        memory: The trial.
        last_answer: What the last event was answered with; `None` before the first.
        idempotency_key: The client's own name for it, or empty.
        tenant: Whose it is; empty where the server knows one tenant.
        vigil: What was seen of its last actions, and whether it is SAFE.
        bundle_digest: Of the bundle that it was opened with: its belief means nothing to another one.
        epoch: Under which a server holds it, where several share their sessions: it grows with every change of hands.
        client: Who took it over last, by its own word; empty: whoever opened it has it.
    """

    session_id: str
    memory: Memory
    last_answer: Answer | None = None
    idempotency_key: str = ""
    tenant: str = ""
    vigil: Vigil = WATCHFUL
    bundle_digest: str = ""
    epoch: int = 0
    client: str = ""

    @property
    def next_sequence(self) -> int:
        """The number that the next event must carry."""
        return 1 if self.last_answer is None else self.last_answer.sequence + 1

    def recall(self, sequence: int) -> Answer | None:
        """Return the answer that a repeated number got before, or `None` if the number is the next one.

        Raises:
            StepGapError: The number is neither the last nor the next.
        """
        if sequence == self.next_sequence:
            return None
        if self.last_answer is not None and sequence == self.last_answer.sequence:
            return self.last_answer
        raise StepGapError(
            f"event {sequence} does not follow; the session expects event {self.next_sequence}", self.next_sequence
        )

    def check_client(self, client: str) -> None:
        """Refuse whoever does not have the session any more (SessionTakenError)."""
        if client != self.client:
            raise SessionTakenError(
                "another client has taken the session over, and drives it; leave it alone, or take it over again"
            )

    def vigilant(self, vigil: Vigil) -> "Session":
        """Return the session with another vigil."""
        return self if vigil is self.vigil else replace(self, vigil=vigil)

    def answered(self, memory: Memory, answer: Answer, vigil: Vigil = WATCHFUL) -> "Session":
        """Return the session after an event."""
        return Session(
            self.session_id,
            memory,
            answer,
            self.idempotency_key,
            self.tenant,
            vigil,
            self.bundle_digest,
            self.epoch,
            self.client,
        )


def new_name() -> str:
    """Return a name for a session, at random."""
    return secrets.token_hex(NAME_LENGTH // 2)


class Journal(Protocol):
    """Is told of every change to the sessions of a table, to make it durable."""

    def changed(self, session: Session) -> None:
        """Take note of a session's new value."""

    def removed(self, session: Session) -> None:
        """Take note that a session is gone."""


class SessionTable:
    """All sessions of a server, at most `max_sessions` (of a tenant, `max_tenant_sessions`), each until it is idle.

    A token is derived from the table's secret and the session's name, so no token is stored.

    Attributes:
        journal: Is told of every change; `None`: nobody is.
    """

    def __init__(
        self,
        max_sessions: int,
        idle_limit_s: float,
        clock: Callable[[], float] = time.monotonic,
        secret: bytes | None = None,
        max_tenant_sessions: int | None = None,
    ) -> None:
        self.journal: Journal | None = None
        self.max_sessions = max_sessions
        self.max_tenant_sessions = max_sessions if max_tenant_sessions is None else max_tenant_sessions
        self.idle_limit_s = idle_limit_s
        self._clock = clock
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # the longest idle one first
        self._last_used_s: dict[str, float] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._num_of: Counter[str] = Counter()
        self._expected: Counter[str] = Counter()  # on their way here

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def token(self, session_id: str) -> str:
        """Return the token that proves the ownership of a session."""
        return hmac.digest(self._secret, session_id.encode(), "sha256").hex()

    def owns(self, session_id: str, token: str) -> bool:
        """Return whether a token is a session's, in constant time."""
        return hmac.compare_digest(self.token(session_id).encode(), token.encode())

    def name_of(self, idempotency_key: str, tenant: str) -> str:
        """Return the one name of what a tenant opens under a key, at whichever server that has this secret."""
        named = b"name\0" + hashlib.sha256(tenant.encode()).digest() + idempotency_key.encode()
        return hmac.digest(self._secret, named, "sha256").hex()[:NAME_LENGTH]

    def find_key(self, idempotency_key: str, tenant: str = "") -> Session | None:
        """Return the session that a tenant opened under a key, if there still is one."""
        self.expire()
        session_id = self._by_key.get((tenant, idempotency_key))
        return None if session_id is None else self._sessions[session_id]

    def open(
        self,
        memory: Memory,
        idempotency_key: str = "",
        tenant: str = "",
        bundle_digest: str = "",
        *,
        session_id: str = "",
        epoch: int = 0,
    ) -> Session:
        """Return a new session; without a name, of one drawn at random.

        Raises:
            SessionLimitError: The table is full, or the tenant's share of it.
        """
        self.check_room(tenant)
        session = Session(
            session_id or new_name(),
            memory,
            idempotency_key=idempotency_key,
            tenant=tenant,
            bundle_digest=bundle_digest,
            epoch=epoch,
        )
        self._count(session)
        return self.keep(session)

    def check_room(self, tenant: str = "") -> None:
        """Refuse one more session of a tenant (SessionLimitError), if the table or the tenant's share of it is full."""
        self.expire()
        if len(self._sessions) + self._expected.total() >= self.max_sessions:
            raise SessionLimitError(
                f"the server already holds its maximum of {counted(self.max_sessions, 'session')}; close one, "
                "or raise --max-sessions"
            )
        if self._num_of[tenant] + self._expected[tenant] >= self.max_tenant_sessions:
            raise SessionLimitError(
                f"this tenant already holds its maximum of {counted(self.max_tenant_sessions, 'session')}; close one, "
                "or raise --max-tenant-sessions"
            )

    @contextmanager
    def expecting(self, tenant: str = "") -> Iterator[None]:
        """Keep room for one more session of a tenant; raises SessionLimitError if there is none."""
        self.check_room(tenant)
        self._expected[tenant] += 1
        try:
            yield
        finally:
            self._expected[tenant] -= 1
            self._expected += Counter()  # drops what is 0

    def check_tenant(self, session_id: str, tenant: str) -> None:
        """Refuse another tenant's session as if there were none (SessionUnknownError)."""
        session = self._sessions.get(session_id)
        if session is not None and session.tenant != tenant:
            raise self.unknown()

    def get(self, session_id: str, token: str) -> Session:
        """Return a session to its owner.

        Raises:
            SessionUnknownError: There is none of that name (any more), or the token is not its token.
        """
        self.expire()
        session = self._sessions.get(session_id)
        # Compare in any case, so that the answer takes as long for a name that is not there.
        owns = self.owns(session_id, token)
        if session is None or not owns:
            raise self.unknown()
        return session

    def held(self, session_id: str) -> Session:
        """Return a session to whoever has shown already that it is theirs.

        Raises:
            SessionUnknownError: It is gone.
        """
        self.expire()
        session = self._sessions.get(session_id)
        if session is None:
            raise self.unknown()
        return session

    def find(self, session_id: str) -> Session | None:
        """Return a session as it is now, to whoever owns the table; `None` if it is gone."""
        return self._sessions.get(session_id)

    def replace(self, session: Session) -> None:
        """Store the session's new value; it is not used by this."""
        if self.journal is not None:
            self.journal.changed(session)
        self._sessions[session.session_id] = session

    def keep(self, session: Session) -> Session:
        """Store the session's new value, as used now, and return it."""
        if self.journal is not None and self._sessions.get(session.session_id) is not session:
            self.journal.changed(session)
        self._sessions[session.session_id] = session
        self._sessions.move_to_end(session.session_id)
        self._last_used_s[session.session_id] = self._clock()
        return session

    def restore(self, secret: bytes, sessions: Iterable[Session]) -> None:
        """Take in the secret and the sessions of an earlier server, as used now."""
        self._secret = secret
        for session in sessions:
            self.take_in(session)

    def take_in(self, session: Session) -> None:
        """Take in a session that is durable already, as used now; it replaces what was held under its name."""
        if (held := self._sessions.get(session.session_id)) is not None:
            self.let_go(held)
        self._sessions[session.session_id] = session
        self._last_used_s[session.session_id] = self._clock()
        self._count(session)

    def close(self, session_id: str, token: str, client: str = "") -> Session | None:
        """Remove a session and return it; `None` if it is gone already.

        Raises:
            SessionUnknownError: The token is not the session's.
            SessionTakenError: Another client has it.
        """
        if session_id not in self._sessions:
            return None
        session = self.get(session_id, token)
        session.check_client(client)
        self._remove(session)
        return session

    def expire(self) -> int:
        """Remove every session that has been idle for too long; return how many."""
        oldest_s = self._clock() - self.idle_limit_s
        num_expired = 0
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if self._last_used_s[session.session_id] >= oldest_s:
                break
            self._remove(session)
            num_expired += 1
        return num_expired

    def _remove(self, session: Session) -> None:
        if self.journal is not None:
            self.journal.removed(session)
        self.let_go(session)

    def let_go(self, session: Session) -> None:
        """Hold a session no longer; it goes on elsewhere."""
        del self._sessions[session.session_id], self._last_used_s[session.session_id]
        self._by_key.pop((session.tenant, session.idempotency_key), None)
        self._num_of[session.tenant] -= 1
        if not self._num_of[session.tenant]:
            del self._num_of[session.tenant]

    def _count(self, session: Session) -> None:
        self._num_of[session.tenant] += 1
        if session.idempotency_key:
            self._by_key[session.tenant, session.idempotency_key] = session.session_id

    def unknown(self) -> SessionUnknownError:
        """Return what whoever asks for a session that is not there is told."""
        return SessionUnknownError(
            f"no such session: it was closed, was idle for longer than {self.idle_limit_s:g} s, the server began anew "
            "without its --store, or the token is another session's; open a new one"
        )
