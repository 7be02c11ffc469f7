"""Servers on one store: hold a session when its client comes for it, and let it go when its client went elsewhere.

A server holds only the sessions that clients came to it for. Whoever resumes a session claims it: the claim raises the
session's epoch, and what another server still writes under a lower one is refused by the store. Such a server learns of
it when it next writes, drops its copy, and ends the session's stream; until then it calls nothing durable any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ccm_runtime.errors import RecordCorruptError, ServerUnreachableError, SpecError, StoreUnavailableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.records import from_bytes
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.store import Seen, SharedStore
from ccm_runtime.versions import Version


@dataclass(slots=True)
class SharingCounts:
    """Sessions that came from other servers, and that went to them."""

    num_taken: int = 0
    num_given: int = 0


class _Together:
    """Asks the store about sessions: about all at once that clients come for while an answer is on its way."""

    def __init__(self, commits: GroupCommit, question: Callable[[Sequence[str]], dict[str, Seen]]) -> None:
        self._commits = commits
        self._question = question
        self._waiting: dict[str, asyncio.Future[Seen | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, session_id: str) -> Seen | None:
        """Return what the store says of a session; raises StoreUnavailableError."""
        answer = self._waiting.get(session_id)
        if answer is None:
            answer = self._waiting[session_id] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(answer)

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                await self._ask(asked)
        finally:
            self._asking = None

    async def _ask(self, asked: "dict[str, asyncio.Future[Seen | None]]") -> None:
        try:
            found = await self._commits.ask(partial(self._question, list(asked)))
        except Exception as error:  # whoever waits is told
            for answer in asked.values():
                answer.set_exception(StoreUnavailableError(str(error)))
        else:
            for session_id, answer in asked.items():
                answer.set_result(found.get(session_id))


class Sharing:
    """Takes sessions over from the other servers of a store.

    Attributes:
        counts: How many came and went.

    Args:
        store: What is shared.
        commits: What writes this server's sessions to it.
        table: This server's sessions.
        version_with: Returns what steps sessions of the bundle with a digest, loading it if it can be; `None`: nothing.
        log: Is told what comes and goes.
    """

    def __init__(
        self,
        store: SharedStore,
        commits: GroupCommit,
        table: SessionTable,
        version_with: Callable[[str], Awaitable[Version | None]],
        log: Any,
    ) -> None:
        self.counts = SharingCounts()
        self._store = store
        self._commits = commits
        self._table = table
        self._version_with = version_with
        self._log = log
        self._under_way: dict[tuple[str, str], asyncio.Task[int]] = {}
        self._looks, self._claims = _Together(commits, store.look), _Together(commits, store.claim)
        commits.on_lost = self._lose

    async def take(self, session_id: str, tenant: str) -> int:
        """Hold a session of a tenant, if there is one; return the epoch of one that is begun in its place.

        Whatever this server held of it is then as new as the store's, or replaced by that.

        Raises:
            StoreUnavailableError: The store fails, and this server does not hold the session or goes on without none.
            SessionUnknownError: It is another tenant's, or what is stored of it cannot be read.
            SessionLimitError: There is no room for it here.
            ServerUnreachableError: Its bundle is not served here; another server may.
            DeviceLostError: The GPU failed as its belief was to be read; the session stays where it was.
        """
        one = session_id, tenant
        task = self._under_way.get(one)
        if task is None:  # who comes for a session that is being taken waits for that
            task = self._under_way[one] = asyncio.create_task(self._take(session_id, tenant))
            task.add_done_callback(lambda done: (self._under_way.pop(one), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def check_client(self, session_id: str, tenant: str, client: str) -> None:
        """Refuse, before anything moves, whoever does not have a stored session of a tenant any more.

        Raises:
            SessionTakenError: Another client has it.
            SessionUnknownError: It is another tenant's, or what is stored of it cannot be read.
        """
        try:
            seen = await self._look(session_id)
        except StoreUnavailableError:  # then nothing moves
            return
        if seen is not None and seen.data:
            self._read(session_id, tenant, seen).check_client(client)

    async def _take(self, session_id: str, tenant: str) -> int:
        try:
            return await self._settle(session_id, tenant)
        except StoreUnavailableError:
            self._commits.check()
            if self._table.find(session_id) is None:
                raise
            return 0

    async def _settle(self, session_id: str, tenant: str) -> int:
        seen = await self._look(session_id)
        held = self._table.find(session_id)
        if held is not None and _is_ahead(held, seen):
            if seen is None or not seen.mine:  # the store has lost what it had
                self._commits.changed(held)
            return held.epoch
        if seen is None:
            return 0
        if seen.data:
            await self._take_over(session_id, tenant, seen)
        elif held is not None:  # it was closed elsewhere
            self._lose(session_id, held.epoch)
        return seen.epoch + 1

    async def _look(self, session_id: str) -> Seen | None:
        """Return what is stored, once nothing is stored any more of what this server has just closed."""
        seen, again = None, True
        while again:
            if self._commits.removes(session_id):
                await self._commits.flush()
            seen = await self._looks.ask(session_id)
            again = self._commits.removes(session_id)
        return seen

    async def _take_over(self, session_id: str, tenant: str, seen: Seen) -> None:
        session = self._read(session_id, tenant, seen)
        version = await self._version_with(session.bundle_digest)
        if version is None:
            raise ServerUnreachableError(
                f"the session's bundle, {session.bundle_digest[:12]}, is not served here; resume it elsewhere"
            )
        with version.in_use():
            await self._check(session, version)
            with nullcontext() if self._table.find(session_id) else self._table.expecting(tenant):
                claimed = await self._claims.ask(session_id)
                if claimed is None:
                    raise self._table.unknown()
                session = replace(self._read(session_id, tenant, claimed), epoch=claimed.epoch)
                self._table.take_in(session)
        self._commits.taken(session)
        self.counts.num_taken += 1
        self._log.info("session taken over", session_id=session_id, epoch=session.epoch)

    def _read(self, session_id: str, tenant: str, seen: Seen) -> Session:
        """Return the session in a record, which is left where it is if a later version or nobody can read it."""
        try:
            session = from_bytes(seen.data).session
        except RecordCorruptError as error:
            self._log.warning("session not readable", session_id=session_id, why=str(error))
            raise self._table.unknown() from None
        if (session.session_id, session.tenant) != (session_id, tenant):
            raise self._table.unknown()
        return session

    async def _check(self, session: Session, version: Version) -> None:
        try:
            await version.stepper.beside(partial(version.adapter.check_belief, session.memory.belief))
        except SpecError as error:
            self._log.warning("session not readable", session_id=session.session_id, why=str(error))
            raise self._table.unknown() from None

    def _lose(self, session_id: str, epoch: int) -> bool:
        """Let a session go that another server holds; return whether it is not held here (again)."""
        held = self._table.find(session_id)
        if held is None:  # it was idle or closed here before this server learned of it
            return True
        if held.epoch != epoch:
            return False
        self._table.let_go(held)
        self._commits.let_go(session_id)
        self.counts.num_given += 1
        self._log.info("session went to another server", session_id=session_id, epoch=epoch)
        return True


def moved() -> ServerUnreachableError:
    """Return what the stream of a session that is not held here any more ends with: its client resumes it."""
    return ServerUnreachableError("the session is not held here any more; resume it, here or at another server")


def _is_ahead(held: Session, seen: Seen | None) -> bool:
    """Return whether what this server holds of a session is at least as new as what the store has."""
    return seen is None or held.epoch > seen.epoch or (held.epoch == seen.epoch and seen.mine)
