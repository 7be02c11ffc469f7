"""What a server does with its agent's sessions, apart from gRPC: describe, open, step, close."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from ccm_runtime import __version__
from ccm_runtime.adapt import Adapter, Memory, close
from ccm_runtime.batching import Stepper
from ccm_runtime.belief import Array
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ContextMismatchError, ServerUnreachableError, SpecError, StoreUnavailableError
from ccm_runtime.group_commit import GroupCommit
from ccm_runtime.log import logger
from ccm_runtime.manifest import Manifest
from ccm_runtime.messages import Agent, Answer, Context, Event, Opened, SessionClosed, SessionOptions
from ccm_runtime.metrics import Metrics
from ccm_runtime.policy import Policy
from ccm_runtime.recorder import Recorder
from ccm_runtime.recovery import find, store_of
from ccm_runtime.session import Session, SessionTable
from ccm_runtime.store import Store
from ccm_runtime.vigil import VigilLimits

MAX_KEY_LENGTH = 128
# Answers to the last closes, for clients whose answer was lost on its way.
MAX_FAREWELLS = 256
# Sessions that can be looked at after their end.
MAX_ENDED = 20


@dataclass(frozen=True, slots=True)
class ServedAgent:
    """A policy with the contract it is served under; `digest` is that of the manifest's text."""

    policy: Policy
    manifest: Manifest
    digest: str

    def adapter(self) -> Adapter:
        """Return the agent's adapter, under the bundle's limits."""
        manifest = self.manifest
        return Adapter.of(self.policy, manifest.safety, manifest.novelty, manifest.experience)

    def describe(self) -> Agent:
        """Return what clients are told of it."""
        manifest = self.manifest
        return Agent(
            agent_id=manifest.agent_id,
            family=manifest.family,
            bundle_digest=self.digest,
            observation=manifest.observation,
            action=manifest.action,
            explore_episodes=manifest.adaptation.explore_episodes,
            episodes=manifest.adaptation.episodes,
            horizon=manifest.adaptation.horizon,
            belief_size=manifest.belief.size,
            latent_size=manifest.belief.latent_size,
            server_version=__version__,
            method=manifest.provenance.method,
        )


class Hosting:
    """One agent and its sessions.

    Attributes:
        agent: What clients are told.
        adapter: What steps the sessions.
        table: The sessions.
        stepper: What batches their events.
        metrics: Their counts.
        group_commit: What makes them durable; `None` where no store is set.
        recorder: What writes down their events; `None` where none is to.
        log: Their log.
        ended: The sessions that were closed last, the last one at the end.
        idle_limit_s: How long a session may be idle, and a stream silent.
    """

    def __init__(self, served: ServedAgent, table: SessionTable, config: ServerConfig) -> None:
        self.agent = served.describe()
        self.adapter = served.adapter()
        self.table = table
        self.idle_limit_s = config.idle_limit_s
        self.log = logger(config.log_level)
        self._config = config
        self.ended: deque[Session] = deque(maxlen=MAX_ENDED)
        self._farewells: OrderedDict[tuple[str, str], SessionClosed] = OrderedDict()
        self._store = store_of(config, self.log)
        self.group_commit = None if self._store is None else self._commits_to(self._store)
        table.journal = self.group_commit
        self.recorder = (
            None
            if config.record is None
            else Recorder(config.record, config.record_max_mb << 20, self.agent.agent_id, self.log)
        )
        self.stepper = Stepper(
            self.adapter,
            table,
            max_batch=config.max_batch,
            action_valid_ms=config.action_valid_ms,
            action_deadline_ms=config.action_deadline_ms,
            limits=VigilLimits(config.max_misses, config.max_interventions),
            group_commit=self.group_commit,
            recorder=self.recorder,
        )
        self.metrics = Metrics(
            table,
            self.stepper,
            self.group_commit,
            self.agent,
            device=getattr(served.policy, "device", "none"),
            recorder=self.recorder,
        )

    def recover(self) -> None:
        """Go on with the sessions of the store, if there is one; call it once, before the first event.

        Raises:
            ConfigError: The store cannot be used, and the policy is to refuse.
        """
        if self._store is None or self.group_commit is None:
            return
        found = find(self._store, self.adapter, self.agent.bundle_digest, self._config, self.log)
        sessions = [stored.session for stored in found.resumed]
        self.table.restore(found.secret, sessions)
        self.group_commit.watch(lambda: self.table, sessions, well=found.well)

    async def leave(self) -> None:
        """Make what is left durable, and let the store go."""
        self.stepper.stop()
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
            ServerUnreachableError: The server is shutting down.
            ContextMismatchError: The client expects another agent, or its context is another bundle's.
            SessionLimitError: The table is full.
            SpecError: The context or the key does not fit.
            ConfigError: The number of exploring episodes is absurd.
            StoreUnavailableError: The store fails, and the policy is to refuse.
        """
        if self.group_commit is not None:
            self.group_commit.check()
        if self.stepper.draining:
            raise ServerUnreachableError("the server is shutting down and opens no more sessions; go elsewhere")
        if len(options.idempotency_key) > MAX_KEY_LENGTH:
            raise SpecError(f"idempotency_key: expected at most {MAX_KEY_LENGTH} characters")
        self._check_expectations(options)
        session = self._known(options, tenant)
        if session is None:
            memory = await self.stepper.beside(lambda: self._start(options))
            # The same call may have come again meanwhile.
            session = self._known(options, tenant) or self._begin(memory, options, tenant)
        await self._settle()
        return self._opened(session)

    def resume(self, session_id: str, token: str) -> Opened:
        """Go on with a session.

        Raises:
            SessionUnknownError: There is none, or the token is not its token.
        """
        return self._opened(self.table.keep(self.table.get(session_id, token)))

    async def step(self, session_id: str, sequence: int, event: Event) -> Answer:
        """Take one event of a session from its owner; raises what `Stepper.step` raises."""
        answer = await self.stepper.step(session_id, sequence, event)
        self.metrics.stepped(answer)
        return answer

    def close(self, session_id: str, token: str) -> SessionClosed:
        """End a trial; one that was just closed ends as it did before, one that is gone is an empty answer.

        Raises:
            SessionUnknownError: The token is not the session's.
        """
        session = self.table.close(session_id, token)
        if session is None:
            return self._farewells.get((session_id, token), SessionClosed())
        memory = close(session.memory)
        self.ended.append(replace(session, memory=memory))
        self.log.info("session closed", session_id=session_id, num_episodes=len(memory.returns))
        closed = SessionClosed(memory.returns, Context(self.agent.bundle_digest, memory.belief))
        self._farewells[session_id, token] = closed
        if len(self._farewells) > MAX_FAREWELLS:
            self._farewells.popitem(last=False)
        return closed

    def own(self, context: Context) -> Array:
        """Return the belief of a context that this bundle made, `[belief]`.

        Raises:
            ContextMismatchError: Another bundle made it.
            SpecError: It does not fit.
        """
        if context.bundle_digest != self.agent.bundle_digest:
            raise ContextMismatchError(
                f"the context was made by bundle {context.bundle_digest[:12] or '(unnamed)'}, this server's is "
                f"{self.agent.bundle_digest[:12]}; encode its transitions again"
            )
        return self.adapter.check_belief(context.belief)

    def settled(self) -> bool:
        """Return whether no session is in the middle of an episode."""
        return not any(session.memory.trial.in_episode for session in self.table)

    async def _settle(self) -> None:
        """Wait until what was opened is durable; who goes on without a store need not wait for it."""
        if self.group_commit is None:
            return
        try:
            await self.group_commit.flush()
        except StoreUnavailableError:
            self.group_commit.check()

    def _commits_to(self, store: Store) -> GroupCommit:
        config = self._config
        return GroupCommit(
            store,
            interval_s=config.store_commit_ms / 1000,
            on_failure=config.store_failure,
        )

    def _known(self, options: SessionOptions, tenant: str) -> Session | None:
        """Return the session that the tenant opened under this key, as used now."""
        known = self.table.find_key(options.idempotency_key, tenant) if options.idempotency_key else None
        return known and self.table.keep(known)

    def _start(self, options: SessionOptions) -> Memory:
        return self.adapter.start(
            seed=options.seed,
            stochastic=options.stochastic,
            explore_episodes=options.explore_episodes,
            belief=None if options.context is None else self.own(options.context),
            re_explore=options.re_explore or self._config.re_explore,
        )

    def _begin(self, memory: Memory, options: SessionOptions, tenant: str) -> Session:
        session = self.table.open(memory, options.idempotency_key, tenant, self.agent.bundle_digest)
        self.metrics.num_opened += 1
        self.log.info("session opened", session_id=session.session_id, num_sessions=len(self.table))
        return session

    def _check_expectations(self, options: SessionOptions) -> None:
        """Refuse, now and not at the first step, a client that expects another agent."""
        agent = self.agent
        expectations = (
            ("task family", options.expected_family, agent.family),
            ("observation size", options.expected_observation_size, agent.observation.size),
            ("action size", options.expected_action_size, agent.action.size),
            ("bundle", options.expected_bundle_digest, agent.bundle_digest),
        )
        for what, expected, served in expectations:
            if expected and expected != served:
                raise ContextMismatchError(f"the client expects the {what} {expected}; this server's is {served}")

    def _opened(self, session: Session) -> Opened:
        return Opened(
            session_id=session.session_id,
            token=self.table.token(session.session_id),
            agent=self.agent,
            next_sequence=session.next_sequence,
            idle_limit_ms=int(self.idle_limit_s * 1000),
        )
