"""The asyncio client: a session that outlives its connection, and stateless calls."""

import asyncio
import contextlib
import random
import secrets
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import grpc
from numpy.typing import ArrayLike

from ccm_runtime import wire
from ccm_runtime.arguments import (
    check_context,
    check_phase,
    check_spec,
    check_text,
    check_ticket,
    check_transitions,
)
from ccm_runtime.belief import Array
from ccm_runtime.connection import Connection, SessionStream
from ccm_runtime.errors import (
    UNANSWERED,
    CcmError,
    ContextMismatchError,
    ServerUnreachableError,
    SessionError,
    SessionTakenError,
)
from ccm_runtime.messages import (
    Acted,
    Agent,
    Answer,
    BeginEpisode,
    Context,
    Encoded,
    EncodedTransition,
    Event,
    Opened,
    SessionClosed,
    SessionOptions,
    Transition,
)
from ccm_runtime.progress import Progress, SessionView
from ccm_runtime.specs import BoxSpec, as_flag, as_reward, as_vector, counted
from ccm_runtime.statuses import error_from_event
from ccm_runtime.ticket import Ticket
from ccm_runtime.trial import Phase
from ccm_runtime.v1 import adaptation_pb2 as pb

# Answered events that are kept until the server calls them durable, to be told again after a crash.
_MAX_KEPT_EVENTS = 1_024
FAREWELL_S = 1.0


class AsyncClient:
    """A client of one server; belongs to one event loop. For blocking code there is `Client`.

    Args:
        target: `HOST:PORT` of a `ccm serve`; of several that share their sessions, a name with all of their addresses
            (`dns:///NAME:PORT`), or these (`ipv4:HOST:PORT,HOST:PORT`): where one is lost, the next goes on.
        timeout_s: Longest time of any call, reconnects included.
        connect_timeout_s: Longest time until the first connection stands.
        token: Bearer token, where the server asks for one.
        credentials: TLS credentials; `None`: plain text.

    Every call raises errors of `ccm_runtime.errors` only: `ServerUnreachableError` when nobody answers,
    `DeadlineError` when no answer comes in time, and whatever the server refuses the call with.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 5.0,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._connection = Connection(
            target,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            token=token,
            credentials=credentials,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311  # spreads clients out; no secret
        )

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; sessions that are still open stay with the server until they are idle for too long."""
        await self._connection.close()

    async def describe(self, agent: str = "") -> Agent:
        """What is served: specs, K, N, T, sizes, digests; of the agent of that name, or else the default one."""
        request = pb.DescribeAgentRequest(agent=check_text("agent", agent))
        response = await self._connection.call("DescribeAgent", request)
        return wire.agent_from_proto(response.agent)

    async def agents(self) -> tuple[Agent, ...]:
        """All that is served, the default one first; an older server has one."""
        response = await self._connection.call("DescribeAgent", pb.DescribeAgentRequest())
        return tuple(map(wire.agent_from_proto, response.agents or (response.agent,)))

    def open_session(
        self,
        *,
        seed: int = 0,
        stochastic: bool = False,
        explore_episodes: int | None = None,
        context: Context | None = None,
        expected_family: str = "",
        expected_bundle_digest: str = "",
        expected_observation: BoxSpec | None = None,
        expected_action: BoxSpec | None = None,
        re_explore: bool = False,
        agent: str = "",
    ) -> "AsyncSession":
        """A trial, to be opened by `async with` or `await`: `session = await client.open_session()`.

        Args:
            seed: Seed of the session's own noise.
            stochastic: Sample actions instead of taking the deterministic ones.
            explore_episodes: Instead of the agent's K; 0 executes at once.
            context: Begin knowing this instead of nothing.
            expected_family: Refuse a server whose agent is of another family.
            expected_bundle_digest: Refuse a server that serves another bundle.
            expected_observation: Refuse one whose observations have another size, order, units or bounds.
            expected_action: The same of actions.
            re_explore: Explore anew when an episode shows that the task has changed.
            agent: Name of the agent, where the server has several; empty: its default one.

        Raises:
            ConfigError: A number, a text or a spec that cannot be.
            SpecError: A context or a choice that cannot be.
        """
        options = SessionOptions(
            seed=seed,
            stochastic=as_flag("stochastic", stochastic),
            explore_episodes=explore_episodes,
            context=check_context(context),
            expected_family=check_text("expected_family", expected_family),
            expected_bundle_digest=check_text("expected_bundle_digest", expected_bundle_digest),
            re_explore=as_flag("re_explore", re_explore),
            agent=check_text("agent", agent),
            idempotency_key=secrets.token_hex(16),
        )
        return AsyncSession(self._connection, options, _specs(expected_observation, expected_action))

    def resume_session(
        self,
        ticket: Ticket,
        *,
        expected_family: str = "",
        expected_bundle_digest: str = "",
        expected_observation: BoxSpec | None = None,
        expected_action: BoxSpec | None = None,
    ) -> "AsyncSession":
        """The session of a ticket, where it is now, to be taken over by `async with` or `await`.

        Nobody else can drive it from then on: whoever had it is refused with SessionTakenError. It may be in
        mid-episode, unless its `episode_over`.

        Args:
            ticket: A session's `ticket`.
            expected_family: Refuse a session whose agent is of another family; it is not closed.
            expected_bundle_digest: Refuse one of another bundle.
            expected_observation: Refuse one whose observations have another size, order, units or bounds.
            expected_action: The same of actions.

        Raises:
            ConfigError: It is no ticket, or a text or a spec that cannot be.
        """
        options = SessionOptions(
            expected_family=check_text("expected_family", expected_family),
            expected_bundle_digest=check_text("expected_bundle_digest", expected_bundle_digest),
        )
        expected = _specs(expected_observation, expected_action)
        return AsyncSession(self._connection, options, expected, check_ticket(ticket))

    async def encode(
        self, transitions: Iterable[EncodedTransition], context: Context | None = None, *, agent: str = ""
    ) -> Encoded:
        """Fold transitions into a context, without a session.

        Args:
            transitions: In the order in which they happened (any, where beliefs are sums); at most 10,000.
            context: Where to start; `None`: knowing nothing.
            agent: Name of the agent, where the server has several; empty: the context's, or its default one.

        Raises:
            SpecError: Transitions or a context that cannot be.
        """
        request = wire.encode_request(
            check_context(context), check_transitions(transitions), check_text("agent", agent)
        )
        return wire.encoded_from_proto(await self._connection.call("Encode", request))

    async def act(
        self,
        context: Context | None,
        observation: ArrayLike,
        *,
        phase: Phase = Phase.EXECUTE,
        noise: ArrayLike = (),
        previous_action: ArrayLike = (),
        agent: str = "",
    ) -> Acted:
        """An action given a context, without a session.

        Args:
            context: What is known of the task; `None`: nothing.
            observation: `[obs]`.
            phase: Whose action, the explorer's or the executor's.
            noise: Standard-normal, `[act]`; empty: the deterministic action.
            previous_action: The command before in this episode, `[act]`: what `hold` holds, and what rates are limited
                against; empty: none.
            agent: Name of the agent, where the server has several; empty: the context's, or its default one.

        Raises:
            SpecError: A context, a vector or a phase that cannot be.
        """
        request = wire.act_request(
            check_context(context),
            as_vector("observation", observation),
            check_phase(phase),
            as_vector("noise", noise),
            agent=check_text("agent", agent),
            previous_action=as_vector("previous_action", previous_action),
        )
        return wire.acted_from_proto(await self._connection.call("Act", request))


class AsyncSession(SessionView):
    """One trial on one task. A broken connection is mended in the background of each call; one call at a time.

    A call that raised one of `errors.UNANSWERED` may be made again with the same arguments: it is the same event, and
    a server that has seen it answers what it answered before.
    """

    def __init__(
        self,
        connection: Connection,
        options: SessionOptions,
        expected: tuple[BoxSpec | None, BoxSpec | None] = (None, None),
        ticket: Ticket | None = None,
    ) -> None:
        super().__init__(Progress(), options.explore_episodes)
        self._expected = expected
        self._ticket = ticket
        # Tells this session's streams and calls from those of another process that had it; whoever opens it needs none.
        self._client = "" if ticket is None else secrets.token_hex(16)
        self._connection = connection
        self._options = options
        self._stream: SessionStream | None = None
        self._sequence = 1
        self._resumed = False  # since then, no event was answered
        self._unanswered: pb.Event | None = None  # what the server may have taken
        self._kept: deque[tuple[int, Event]] = deque(maxlen=_MAX_KEPT_EVENTS)

    async def __aenter__(self) -> Self:
        return await self.open()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        # The error that is under way matters more than a failed farewell.
        with contextlib.suppress(CcmError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.close()

    async def open(self) -> Self:
        """Open the session with the server, or take it over there, unless it is open.

        Raises:
            ContextMismatchError: The server's agent is not the one that is expected.
            SessionUnknownError: There is no session of that ticket: closed, expired, or the token is not its token.
        """
        await self._connection.persist(self._attached)
        try:
            self._check_agent()
        except ContextMismatchError:
            if self._ticket is None:
                await self.close()
            else:
                self._drop()  # it was there before; another client may do with it
            raise
        return self

    def _check_agent(self) -> None:
        """Refuse an agent that is not the one that is expected (ContextMismatchError)."""
        agent, options = self.agent, self._options
        for what, wanted, found in (
            ("task family", options.expected_family, agent.family),
            ("bundle", options.expected_bundle_digest, agent.bundle_digest),
        ):
            if wanted and wanted != found:
                raise ContextMismatchError(f"the client expects the {what} {wanted}; this session's is {found}")
        for expected, served in zip(self._expected, (agent.observation, agent.action), strict=True):
            _check_spec(expected, served)

    async def begin_episode(self, observation: ArrayLike, *, leave_safe: bool = False, abandon: bool = False) -> Array:
        """Tell that the environment was reset; the first action, `[act]`.

        Args:
            observation: The first observation, `[obs]`.
            leave_safe: Let the policies act again, if the session is SAFE.
            abandon: An episode that is under way does not count, and begins again: what its last action did is not
                known, as after a restart. What was told of it stays known.
        """
        leaves, abandons = as_flag("leave_safe", leave_safe), as_flag("abandon", abandon)
        reaction = (await self._tell(BeginEpisode(self._observed(observation), leaves, abandons))).reaction
        if reaction.action is None:
            raise SessionError("the server gave no action for the beginning of an episode")
        return reaction.action.copy()

    async def act(
        self,
        observation: ArrayLike,
        reward: float,
        *,
        terminated: bool = False,
        truncated: bool = False,
        applied_action: ArrayLike | None = None,
    ) -> Array | None:
        """Tell what the last action did; the next action `[act]`, or `None` once the episode is over.

        Args:
            observation: Observation after the step, `[obs]`.
            reward: The environment's own reward.
            terminated: The task itself ended the episode.
            truncated: Something outside the task ended it.
            applied_action: The action that was truly applied, `[act]`, if it was not the one that was given.
        """
        applied = None if applied_action is None else self.agent.action.validate_array(applied_action).copy()
        observed, reward = self._observed(observation), as_reward(reward)
        transition = Transition(
            observed, reward, as_flag("terminated", terminated), as_flag("truncated", truncated), applied
        )
        action = (await self._tell(transition)).reaction.action
        return None if action is None else action.copy()

    async def close(self) -> SessionClosed:
        """End the trial: the server's own count of the returns, and the context that it ended with."""
        opened = self._progress.opened
        if opened is None:
            return SessionClosed()
        try:
            return await self._end(opened)
        except SessionTakenError:  # it is not this client's to close
            return SessionClosed()
        finally:
            self._drop()

    async def _end(self, opened: Opened) -> SessionClosed:
        try:
            # Over the stream, so that a server that came back is first told what it lost.
            return await self._connection.persist(self._close_once, self._stands)
        except SessionTakenError:
            raise
        except SessionError:  # it is gone, perhaps as its first answer was lost; or another client drove it on
            request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token, client=self._client)
            return wire.closed_from_proto(await self._connection.call("CloseSession", request))

    async def _close_once(self) -> SessionClosed:
        response = await self._exchange(pb.SessionRequest(close=pb.CloseSessionRequest()))
        return wire.closed_from_proto(response.closed)

    def _observed(self, observation: ArrayLike) -> Array:
        """A checked copy: the event is kept, and many environments write every observation into one array."""
        return self.agent.observation.validate_array(observation).copy()

    async def _tell(self, event: Event) -> Answer:
        """Send the next event and take its answer in; after an error the event is still the next one."""
        told = self._as_applied(event)
        message = None if self._unanswered is None else wire.event_to_proto(self._sequence, told)
        if message != self._unanswered:  # another event under its number would get its answer
            raise SessionError(
                f"event {self._sequence} was told and is not answered yet; tell the very same event again, or see "
                "where the session is with resume_session(session.ticket)"
            )
        try:
            response = await self._connection.persist(lambda: self._tell_once(event, told), self._stands)
        except BaseException as error:
            refused = isinstance(error, CcmError) and not isinstance(error, UNANSWERED)
            self._unanswered = None if refused else wire.event_to_proto(self._sequence, told)
            raise
        self._unanswered = None
        answer = wire.answer_from_proto(response.answer)
        self._keep(told, answer)
        self._progress.record(event, answer)
        self._sequence += 1
        return answer

    async def _tell_once(self, event: Event, told: Event) -> pb.SessionResponse:
        """Send an event; after resuming with the action that was applied, as the server may remember another one."""
        sent = told if self._stream is None or self._resumed else event
        response = await self._exchange(pb.SessionRequest(event=wire.event_to_proto(self._sequence, sent)))
        if response.answer.sequence != self._sequence:
            self._drop()
            raise ServerUnreachableError(f"event {self._sequence} was answered with {response.answer.sequence}")
        self._resumed = False
        return response

    def _as_applied(self, event: Event) -> Event:
        """Return an event with the action that it was made with, which a server after a crash may have to be told."""
        before = self._progress.answer
        if not isinstance(event, Transition) or event.applied_action is not None or before is None:
            return event
        return replace(event, applied_action=before.reaction.action)

    async def _exchange(self, request: pb.SessionRequest) -> pb.SessionResponse:
        stream = await self._attached()
        try:
            response = await stream.exchange(request)
        except BaseException:
            self._drop()
            raise
        try:
            return _accepted(response)
        except ServerUnreachableError:  # it is shutting down: attach anew, to another one if there is one
            self._drop()
            raise

    async def _attached(self) -> SessionStream:
        """The stream of this session: the one that stands, or a new one that is told what the server lacks."""
        if self._stream is None:
            stream = await self._connection.attach()
            try:
                await self._introduce(stream)
            except BaseException:
                stream.cancel()
                raise
            self._stream = stream
        return self._stream

    async def _introduce(self, stream: SessionStream) -> None:
        self._resumed = self._progress.opened is not None
        opened = wire.opened_from_proto(_accepted(await stream.exchange(self._first_request())).opened)
        if self._ticket is not None and not self._resumed:
            self._take_up(opened)
        self._progress.opened = opened
        for sequence, event in self._lacking(opened):
            _accepted(await stream.exchange(pb.SessionRequest(event=wire.event_to_proto(sequence, event))))

    def _first_request(self) -> pb.SessionRequest:
        known = self._progress.opened or self._ticket
        if known is None:
            return pb.SessionRequest(open=wire.options_to_proto(self._options))
        resume = pb.ResumeSession(
            session_id=known.session_id,
            token=known.token,
            client=self._client,
            take_over=self._progress.opened is None,
        )
        return pb.SessionRequest(resume=resume)

    def _take_up(self, opened: Opened) -> None:
        """Go on where the session is, which another process has driven so far."""
        if opened.standing is None:
            raise SessionError(
                "the server is of an earlier version and cannot say where the session is; open a new one"
            )
        self._progress.take_up(opened.standing)
        self._sequence = opened.next_sequence

    def _lacking(self, opened: Opened) -> list[tuple[int, Event]]:
        """The answered events that the resumed server has lost, oldest first."""
        lost = range(opened.next_sequence, self._sequence)
        kept = [(sequence, event) for sequence, event in self._kept if sequence in lost]
        if len(kept) < len(lost) or opened.next_sequence > self._sequence + 1:
            raise SessionError(
                f"session {opened.session_id} waits for event {opened.next_sequence}, but this client is at "
                f"{self._sequence} and keeps {counted(len(self._kept), 'event')}; open a new session"
            )
        return kept

    def _keep(self, event: Event, answer: Answer) -> None:
        self._kept.append((self._sequence, event))
        while self._kept and self._kept[0][0] <= answer.durable_sequence:
            self._kept.popleft()

    def _stands(self) -> bool:
        return self._stream is not None

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


def _accepted(response: pb.SessionResponse) -> pb.SessionResponse:
    """Return the response unless it is a refusal, which is raised; the stream stands either way."""
    if response.WhichOneof("kind") == "error":
        raise error_from_event(response.error)
    return response


def _specs(observation: object, action: object) -> tuple[BoxSpec | None, BoxSpec | None]:
    """Return what is expected of observations and actions; raises ConfigError."""
    return check_spec("expected_observation", observation), check_spec("expected_action", action)


def _check_spec(expected: BoxSpec | None, served: BoxSpec) -> None:
    """Refuse vectors whose entries mean something else."""
    if expected is None:
        return
    for what in ("labels", "units", "low", "high"):
        wanted, found = getattr(expected, what), getattr(served, what)
        if wanted != found:
            raise ContextMismatchError(
                f"the client expects {expected.name}s with the {what} {wanted}; this server's have {found}"
            )
