"""The asyncio session: one trial on one task, which outlives its connections."""

import asyncio
import contextlib
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from ccm_runtime import wire
from ccm_runtime.attachment import Attachment
from ccm_runtime.belief import Array
from ccm_runtime.connection import Connection
from ccm_runtime.errors import UNANSWERED, CcmError, ContextMismatchError, SessionError, SessionTakenError
from ccm_runtime.expected import Expected
from ccm_runtime.messages import Answer, BeginEpisode, Event, Opened, SessionClosed, SessionOptions, Transition
from ccm_runtime.progress import Progress, SessionView
from ccm_runtime.specs import as_flag, as_reward
from ccm_runtime.ticket import Ticket
from ccm_runtime.v1 import adaptation_pb2 as pb

FAREWELL_S = 1.0


class AsyncSession(SessionView):
    """One trial on one task. A broken connection is mended in the background of each call; calls take turns.

    A call that raised one of `errors.UNANSWERED` may be made again with the same arguments: it is the same event, and
    a server that has seen it answers what it answered before.
    """

    def __init__(
        self, connection: Connection, options: SessionOptions, expected: Expected, ticket: Ticket | None = None
    ) -> None:
        super().__init__(Progress(), options.explore_episodes)
        self._connection = connection
        self._attachment = Attachment(connection, self._progress, options, ticket)
        self._expected = expected
        self._ticket = ticket
        self._turn = asyncio.Lock()
        self._unanswered: pb.Event | None = None  # what the server may have taken

    async def __aenter__(self) -> Self:
        return await self.open()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self._leave()

    async def _leave(self) -> None:
        """Close it; the error that is under way matters more than a failed farewell."""
        with contextlib.suppress(CcmError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.close()

    async def open(self) -> Self:
        """Open the session with the server, or take it over there, unless it is open.

        Raises:
            ContextMismatchError: The server's agent is not the one that is expected.
            SessionUnknownError: There is no session of that ticket: closed, expired, or the token is not its token.
        """
        async with self._turn:
            await self._connection.persist(self._attachment.attached)
        try:
            self._expected.check(self.agent)
        except ContextMismatchError:
            if self._ticket is None:
                await self._leave()
            else:
                self._attachment.drop()  # it was there before; another client may do with it
            raise
        return self

    async def begin_episode(self, observation: ArrayLike, *, leave_safe: bool = False, abandon: bool = False) -> Array:
        """Tell that the environment was reset; the first action, `[act]`.

        Args:
            observation: The first observation, `[obs]`.
            leave_safe: Let the policies act again, if the session is SAFE.
            abandon: An episode that is under way does not count, and begins again: what its last action did is not
                known, as after a restart. What was told of it stays known.
        """
        leaves, abandons = as_flag("leave_safe", leave_safe), as_flag("abandon", abandon)
        async with self._turn:
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
        async with self._turn:
            action = (await self._tell(transition)).reaction.action
        return None if action is None else action.copy()

    async def close(self) -> SessionClosed:
        """End the trial: the server's own count of the returns, and the context that it ended with."""
        async with self._turn:
            opened = self._progress.opened
            if opened is None:
                return SessionClosed()
            try:
                return await self._end(opened)
            except SessionTakenError:  # it is not this client's to close
                return SessionClosed()
            finally:
                self._attachment.drop()

    async def _end(self, opened: Opened) -> SessionClosed:
        try:
            # Over the stream, so that a server that came back is first told what it lost.
            return await self._connection.persist(self._close_once, self._attachment.stands)
        except SessionTakenError:
            raise
        except SessionError:  # it is gone, perhaps as its first answer was lost; or another client drove it on
            request = pb.CloseSessionRequest(
                session_id=opened.session_id, token=opened.token, client=self._attachment.client
            )
            return wire.closed_from_proto(await self._connection.call("CloseSession", request))

    async def _close_once(self) -> SessionClosed:
        response = await self._attachment.exchange(pb.SessionRequest(close=pb.CloseSessionRequest()))
        return wire.closed_from_proto(response.closed)

    def _observed(self, observation: ArrayLike) -> Array:
        """A checked copy: the event is kept, and many environments write every observation into one array."""
        return self.agent.observation.validate_array(observation).copy()

    async def _tell(self, event: Event) -> Answer:
        """Send the next event and take its answer in; after an error the event is still the next one."""
        attachment = self._attachment
        told = attachment.as_applied(event)
        message = None if self._unanswered is None else wire.event_to_proto(attachment.sequence, told)
        if message != self._unanswered:  # another event under its number would get its answer
            raise SessionError(
                f"event {attachment.sequence} was told and is not answered yet; tell the very same event again, or see "
                "where the session is with resume_session(session.ticket)"
            )
        try:
            response = await self._connection.persist(lambda: attachment.tell(event, told), attachment.stands)
        except BaseException as error:
            refused = isinstance(error, CcmError) and not isinstance(error, UNANSWERED)
            self._unanswered = None if refused else wire.event_to_proto(attachment.sequence, told)
            raise
        self._unanswered = None
        answer = wire.answer_from_proto(response.answer)
        attachment.keep(told, answer)
        self._progress.record(event, answer)
        return answer
