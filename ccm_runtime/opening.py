"""How a session is opened: once under its key, with the version that it is to have, as its client expects it."""

from typing import Any

from ccm_runtime.condition import acts
from ccm_runtime.errors import ContextMismatchError, ServerUnreachableError, SpecError, StoreUnavailableError
from ccm_runtime.memory import Memory
from ccm_runtime.messages import Agent, SessionOptions
from ccm_runtime.metrics import Metrics
from ccm_runtime.roster import Roster
from ccm_runtime.session import Session, SessionTable, new_name
from ccm_runtime.sharing import Sharing
from ccm_runtime.versions import Version

MAX_KEY_LENGTH = 128


class Opening:
    """Opens sessions.

    Args:
        table: Takes them in.
        roster: Tells which version each one is to have.
        sharing: Asks the servers that share sessions for one of the same key; `None`: there are none.
        metrics: Counts them.
        log: Is told of each.
        re_explore: Whether all of them explore anew when their task has changed; else those that ask.
    """

    def __init__(
        self,
        table: SessionTable,
        roster: Roster,
        sharing: Sharing | None,
        metrics: Metrics,
        log: Any,
        *,
        re_explore: bool,
    ) -> None:
        self._table = table
        self._roster = roster
        self._sharing = sharing
        self._metrics = metrics
        self._re_explore = re_explore
        self._log = log

    async def open(self, options: SessionOptions, tenant: str) -> Session:
        """Return a tenant's new session, or the one that was opened under the same key; it may not be durable yet.

        Raises:
            ServerUnreachableError: The server shares its sessions, and its networks do not run.
            AgentUnknownError: No agent is called so.
            ContextMismatchError: The client expects another agent, or its context is another bundle's.
            SessionLimitError: The table is full.
            SpecError: The context or the key does not fit.
            ConfigError: The number of exploring episodes is absurd.
        """
        if len(options.idempotency_key) > MAX_KEY_LENGTH:
            raise SpecError(f"idempotency_key: expected at most {MAX_KEY_LENGTH} characters")
        session_id, epoch = await self._named(options, tenant)
        session = self._known(options, tenant)
        if session is None:
            return await self._open(options, tenant, session_id, epoch)
        _check_expectations(options, self._roster.of(session).agent)
        return session

    async def _named(self, options: SessionOptions, tenant: str) -> tuple[str, int]:
        """Return the name and the epoch of a session to open; servers that share it give one key one name."""
        if self._sharing is None or not options.idempotency_key:
            return new_name(), 0
        check_acts(self._roster)
        session_id = self._table.name_of(options.idempotency_key, tenant)
        try:
            return session_id, await self._sharing.take(session_id, tenant)
        except StoreUnavailableError:  # who goes on without a store need not wait for it
            return session_id, 0

    def _known(self, options: SessionOptions, tenant: str) -> Session | None:
        """Return the session that the tenant opened under this key, as used now."""
        known = self._table.find_key(options.idempotency_key, tenant) if options.idempotency_key else None
        return known and self._table.keep(known)

    async def _open(self, options: SessionOptions, tenant: str, session_id: str, epoch: int) -> Session:
        insisted = options.expected_bundle_digest or (options.context.bundle_digest if options.context else "")
        version = self._roster.rollout(options.agent).chosen(session_id, insisted)
        _check_expectations(options, version.agent)
        with version.in_use():
            memory = await version.stepper.beside(lambda: self._start(version, options))
            known = self._known(options, tenant)  # the same call may have come again meanwhile
            return known or self._begin((session_id, epoch), version, memory, options, tenant)

    def _start(self, version: Version, options: SessionOptions) -> Memory:
        return version.adapter.start(
            seed=options.seed,
            stochastic=options.stochastic,
            explore_episodes=options.explore_episodes,
            belief=version.own(options.context),
            re_explore=options.re_explore or self._re_explore,
        )

    def _begin(
        self, named: tuple[str, int], version: Version, memory: Memory, options: SessionOptions, tenant: str
    ) -> Session:
        session_id, epoch = named
        key, digest = options.idempotency_key, version.digest
        session = self._table.open(memory, key, tenant, digest, session_id=session_id, epoch=epoch)
        self._metrics.num_opened += 1
        version.tally.num_opened += 1
        self._log.info("session opened", session_id=session_id, version=version.name, num_sessions=len(self._table))
        return session


def check_acts(roster: Roster) -> None:
    """Take no session from another server that nothing could be done with here (ServerUnreachableError)."""
    if not all(map(acts, roster.versions)):
        raise ServerUnreachableError("the server's networks do not run any more; go elsewhere")


def _check_expectations(options: SessionOptions, agent: Agent) -> None:
    """Refuse, now and not at the first step, a client that expects another agent."""
    expectations = (
        ("task family", options.expected_family, agent.family),
        ("observation size", options.expected_observation_size, agent.observation.size),
        ("action size", options.expected_action_size, agent.action.size),
        ("bundle", options.expected_bundle_digest, agent.bundle_digest),
    )
    for what, expected, served in expectations:
        if expected and expected != served:
            raise ContextMismatchError(f"the client expects the {what} {expected}; this server's is {served}")
