"""What a server does with its agents' sessions, apart from gRPC: describe, open, step, close."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from ccm_runtime.absent import Absent
from ccm_runtime.adapt import Adapter
from ccm_runtime.batching import Stepper
from ccm_runtime.condition import acts
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import (
    CcmError,
    DeviceLostError,
    ServerUnreachableError,
    SessionUnknownError,
    SpecError,
    StoreUnavailableError,
)
from ccm_runtime.event_core import MovedOnError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.judge import Judge
from ccm_runtime.log import logger
from ccm_runtime.manifest import SafetyLimits
from ccm_runtime.messages import Agent, Answer, Context, Event, Opened, SessionClosed, SessionOptions, Standing
from ccm_runtime.metrics import Metrics
from ccm_runtime.opening import MAX_KEY_LENGTH, Opening, check_acts
from ccm_runtime.patience import Patience
from ccm_runtime.recall import Recall
from ccm_runtime.recorder import Recorder
from ccm_runtime.recovery import find, join, store_of
from ccm_runtime.roster import Roster
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.shadow import Shadow
from ccm_runtime.sharing import Sharing, moved
from ccm_runtime.store import SharedStore, Store
from ccm_runtime.traces import Stages
from ccm_runtime.versions import ServedAgent, Version
from ccm_runtime.vigil import VigilLimits

__all__ = ["Hosting", "ServedAgent"]


class Hosting:
    """Agents and their sessions.

    Attributes:
        table: The sessions.
        absent: Those that are not held, or not any more.
        roster: The agents, and what steps the sessions of each version of them.
        metrics: Their counts.
        group_commit: What makes them durable; `None` where no store is set.
        patience: What gives up the jobs of a change of versions that hang.
        recall: What finds the versions of sessions that come from elsewhere.
        sharing: What takes them over from other servers; `None` where no store is shared.
        judge: What counts what becomes of their events.
        device_failed: Is told the digest of a version whose GPU has failed, on whatever thread its networks ran.
        recorder: What writes down their events; `None` where none is to.
        log: Their log.
        idle_limit_s: How long a session may be idle, and a stream silent.
        action_deadline_s: How long an action may take; `None`: as long as the networks do.
    """

    def __init__(
        self,
        agents: ServedAgent | Sequence[ServedAgent],
        table: SessionTable,
        config: ServerConfig,
        stages: Stages | None = None,
    ) -> None:
        self.table = table
        self._stages = stages
        self.idle_limit_s = config.idle_limit_s
        deadline_ms = config.action_deadline_ms
        self.action_deadline_s = None if deadline_ms is None else deadline_ms / 1000
        self.log = logger(config.log_level)
        self._config = config
        self.absent = Absent()
        self._store = store_of(config, self.log)
        self.group_commit = None if self._store is None else self._commits_to(self._store)
        table.journal = self.group_commit
        self.device_failed: Callable[[str], None] = lambda _: None
        served = [agents] if isinstance(agents, ServedAgent) else agents
        self.recorder = (
            None
            if config.record is None
            else Recorder(config.record, config.record_max_mb << 20, self._agent_of, self.log)
        )
        self.roster = Roster(served, self._version, config.max_versions)
        self.patience = Patience(config.load_limit_s)
        self.recall = Recall(self.roster, self.patience, self.log)
        self.sharing = self._shared()
        self.metrics = Metrics(table, self.roster, self.group_commit, self.recorder)
        self.metrics.sharing = self.sharing
        self._opening = Opening(table, self.roster, self.sharing, self.metrics, self.log, re_explore=config.re_explore)
        self.judge = Judge(self.roster, table, self.metrics, config.max_candidate_faults, self.log)

    @property
    def agent(self) -> Agent:
        """What clients are told of the default agent."""
        return self.roster.rollout().current.agent

    @property
    def adapter(self) -> Adapter:
        """What steps new sessions of the default agent."""
        return self.roster.rollout().current.adapter

    @property
    def shadow(self) -> Shadow | None:
        """What is told all that the default agent's sessions are told, and not obeyed; `None`: nothing is."""
        return self.judge.shadow

    def cast_shadow(self, served: ServedAgent) -> None:
        """Let a version be told all that the default agent's sessions are told; raises ConfigError if it cannot be."""
        self.judge.shadow = self.metrics.shadow = Shadow(served, self.roster.rollout().current, self.log)

    def recover(self, load: Callable[[str], ServedAgent | None] = lambda _: None) -> None:
        """Go on with the sessions of the store, if there is one; call it once, before the first event.

        Args:
            load: Returns the version with a bundle of this digest, for sessions that were opened with an earlier one.

        Raises:
            ConfigError: The store cannot be used, and the policy is to refuse.
            DeviceLostError: The GPU failed as the sessions' beliefs were to be read; they stay in the store.
        """
        if self._store is None or self.group_commit is None:
            return
        self.recall.load = load
        if isinstance(self._store, SharedStore):
            found = join(self._store)
        else:
            found = find(self._store, cache(self.recall.adapter), self._config, self.log)
        sessions = [stored.session for stored in found.resumed]
        resting = (stored.session for stored in found.resting)
        self.absent.resting = {(one.tenant, one.session_id): one.bundle_digest for one in resting}
        self.table.restore(found.secret, sessions)
        self.group_commit.watch(lambda: self.table, sessions, well=found.well)

    async def leave(self) -> None:
        """Make what is left durable, and let the store go."""
        self.roster.stop()
        if self.shadow is not None:
            self.shadow.stop()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.stop)
        if self.group_commit is None:
            return
        try:
            await self.group_commit.close()
        except StoreUnavailableError as error:
            self.log.error("sessions not saved", why=str(error), num_sessions=len(self.table))  # noqa: TRY400

    async def open(self, options: SessionOptions, tenant: str = "") -> Opened:
        """Begin a tenant's trial, or return the one begun under the same idempotency key; durable once it returns.

        Raises:
            ServerUnreachableError: The server is shutting down; or it shares its sessions, and its networks do not run.
            AgentUnknownError: No agent is called so.
            ContextMismatchError: The client expects another agent, or its context is another bundle's.
            SessionLimitError: The table is full.
            SpecError: The context or the key does not fit.
            ConfigError: The number of exploring episodes is absurd.
            StoreUnavailableError: The store fails, and the policy is to refuse.
        """
        if self.group_commit is not None:
            self.group_commit.check()
        if self.roster.draining:
            raise ServerUnreachableError("the server is shutting down and opens no more sessions; go elsewhere")
        session = await self._opening.open(options, tenant)
        await self._settle()
        if self.sharing is not None and self.table.find(session.session_id) is None:
            raise ServerUnreachableError("the same session was opened at another server at once; open it again")
        return self._opened(session)

    async def fetch(self, session_id: str, token: str, tenant: str = "", client: str | None = None) -> bool:
        """Hold a session that servers share, for its owner; return whether it is another one than was held here.

        Args:
            session_id: Its name.
            token: Its token.
            tenant: Whose it must be.
            client: Who must have it; `None`: anybody.

        Raises:
            SessionTakenError: Another client has it.
            SessionUnknownError: It is another tenant's, or nobody here can read it.
            SessionLimitError: There is no room for it here.
            ServerUnreachableError: This server is shutting down, or does not serve its bundle.
            StoreUnavailableError: The store fails, and this server does not hold the session.
            DeviceLostError: The GPU failed as its belief was to be read; the session stays where it was.
        """
        if self.sharing is None or not self.table.owns(session_id, token):
            return False
        before = self.table.find(session_id)
        if before is None and self.roster.draining:
            raise ServerUnreachableError("the server is shutting down and takes no more sessions; go elsewhere")
        if before is None:
            check_acts(self.roster)
        if client is not None:
            await self.sharing.check_client(session_id, tenant, client)
        await self.sharing.take(session_id, tenant)
        return self.table.find(session_id) is not before

    async def told_all(self) -> None:
        """Wait until the servers that share sessions know what was closed here; raises StoreUnavailableError."""
        if self.sharing is not None:
            await self._settle()

    def resume(self, session_id: str, token: str, client: str = "", tenant: str = "") -> Opened:
        """Go on with a session that is held, as the client that has it.

        Raises:
            SessionUnknownError: There is none, or the token is not its token.
            SessionTakenError: Another client has it.
            ContextMismatchError: Its bundle is not served here.
        """
        session = self._owned(session_id, token, tenant)
        session.check_client(client)
        return replace(self._opened(self.table.keep(session)), client=client)

    async def take_over(self, session_id: str, token: str, client: str, tenant: str = "") -> Opened:
        """Give a session that is held to a client, with where it is; durable once it returns.

        What is told in the name of another client is refused from then on; what was told before has been answered.

        Raises:
            SpecError: The client has no name, or one that is too long.
            SessionUnknownError: There is none, or the token is not its token.
            ContextMismatchError: Its bundle is not served here.
            ServerUnreachableError: It went to another server meanwhile.
            StoreUnavailableError: The store fails, and the policy is to refuse.
        """
        if not 1 <= len(client) <= MAX_KEY_LENGTH:  # without a name it would be whoever opened the session
            raise SpecError(
                f"client: expected a name of 1 to {MAX_KEY_LENGTH} characters, at random, to take a session over; got "
                f"{len(client)}"
            )
        await self.roster.of(self._owned(session_id, token, tenant)).stepper.settled(session_id)
        self.table.keep(replace(self._owned(session_id, token, tenant), client=client))
        await self._settle()
        session = self.table.find(session_id)
        if session is None:
            raise moved()
        session.check_client(client)  # yet another one came meanwhile
        memory = session.memory
        standing = Standing(session.last_answer, memory.returns, memory.return_so_far, memory.trial.phase)
        return replace(self._opened(session), standing=standing, client=client)

    async def step(self, session_id: str, sequence: int, event: Event) -> Answer:
        """Take one event of a session from its owner; raises what `Stepper.step` raises."""
        version = self.roster.of(self.table.find(session_id))
        try:
            return await version.stepper.step(session_id, sequence, event)
        except DeviceLostError:
            self.judge.failed(version)
            raise
        except CcmError:
            raise
        except MovedOnError:  # while this event was on its way, the one before it ended an episode
            return await self.step(session_id, sequence, event)
        except Exception:
            self.judge.failed(version)
            raise

    def close(self, session_id: str, token: str, client: str = "", tenant: str = "") -> SessionClosed:
        """End a trial; one that was just closed ends as it did before, one that is gone is an empty answer.

        Raises:
            SessionUnknownError: The token is not the session's.
            SessionTakenError: Another client has it.
        """
        session = self.table.close(session_id, token, client)
        if session is None:
            return self.absent.farewell(session_id, token, tenant)
        closed = self.absent.close(session, token)
        self.log.info("session closed", session_id=session_id, num_episodes=len(closed.returns))
        return closed

    def asked(self, agent: str, context: Context | None) -> Version:
        """Return what answers a call without a session: its context's bundle, if that is loaded, or else the current.

        Raises:
            AgentUnknownError: No agent is called so.
        """
        current = self.roster.rollout(agent).current
        made_by = None if context is None else self.roster.find(context.bundle_digest)
        return made_by if made_by is not None and (not agent or made_by.agent.name == agent) else current

    def tidy(self) -> None:
        """Remove idle sessions, and drop versions that nobody needs any more."""
        self.table.expire()
        for version in self.roster.drop_idle(Counter(session.bundle_digest for session in self.table)):
            self.log.info("version dropped", agent=version.agent.name, version=version.name)

    def settled(self) -> bool:
        """Return whether no session is in the middle of an episode that can go on."""
        return not any(session.memory.trial.in_episode and acts(self.roster.of(session)) for session in self.table)

    def _owned(self, session_id: str, token: str, tenant: str) -> Session:
        """Return a session to its owner, who is told why there is none, where that is known."""
        try:
            return self.table.get(session_id, token)
        except SessionUnknownError:
            self.absent.explain(session_id, token, tenant, owns=self.table.owns(session_id, token))
            raise

    async def _settle(self) -> None:
        """Wait until what was done is durable; who goes on without a store need not wait for it."""
        if self.group_commit is None:
            return
        try:
            await self.group_commit.flush()
        except StoreUnavailableError:
            self.group_commit.check()

    def _commits_to(self, store: Store | SharedStore) -> GroupCommit:
        config = self._config
        return GroupCommit(
            store,
            interval_s=config.store_commit_ms / 1000,
            on_failure=config.store_failure,
        )

    def _shared(self) -> Sharing | None:
        if self.group_commit is None or not isinstance(self._store, SharedStore):
            return None
        return Sharing(self._store, self.group_commit, self.table, self.recall.version, self.log)

    def _opened(self, session: Session) -> Opened:
        return Opened(
            session_id=session.session_id,
            token=self.table.token(session.session_id),
            agent=self.roster.of(session).agent,
            next_sequence=session.next_sequence,
            idle_limit_ms=int(self.idle_limit_s * 1000),
        )

    def _version(self, served: ServedAgent) -> Version:
        config, digest = self._config, served.digest
        adapter = served.adapter()
        stepper = Stepper(
            adapter,
            self.table,
            digest=digest,
            max_batch=config.max_batch,
            action_valid_ms=config.action_valid_ms,
            action_deadline_ms=config.action_deadline_ms,
            limits=VigilLimits(config.max_misses, config.max_interventions),
            group_commit=self.group_commit,
            recorder=self.recorder,
            stages=self._stages,
            took=lambda session, event, answer: self.judge.took(digest, session, event, answer),
        )
        version = Version(served, adapter, stepper)
        # It holds no version: one that is dropped must go at once, with its networks.
        version.watch_device(lambda: self.device_failed(digest))
        return version

    def _agent_of(self, digest: str) -> tuple[str, SafetyLimits | None]:
        """Return the name and the limits of the agent in a bundle; empty if it is not loaded any more."""
        version = self.roster.find(digest)
        return ("", None) if version is None else (version.agent.agent_id, version.manifest.safety)
