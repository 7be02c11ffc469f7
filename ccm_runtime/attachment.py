"""How a session stays attached to a server: one stream at a time, and what a server that came back has to be told."""

import secrets
from collections import deque
from dataclasses import replace

from ccm_runtime import wire
from ccm_runtime.connection import Connection, SessionStream
from ccm_runtime.errors import ServerUnreachableError, SessionError
from ccm_runtime.messages import Answer, Event, Opened, SessionOptions, Transition
from ccm_runtime.progress import Progress
from ccm_runtime.specs import counted
from ccm_runtime.statuses import error_from_event
from ccm_runtime.ticket import Ticket
from ccm_runtime.v1 import adaptation_pb2 as pb

# Answered events that are kept until the server calls them durable, to be told again after a crash.
_MAX_KEPT_EVENTS = 1_024


class Attachment:
    """A session's stream and what it takes to have another one.

    Args:
        connection: Where streams come from.
        progress: What the client knows of its session; opening or taking over is noted there.
        options: What a new session is opened with.
        ticket: Of the session to take over, in the place of a new one.

    Attributes:
        sequence: Number of the next event.
        client: Tells this session's streams and calls from those of another process that had it; whoever opens it
            needs none.
    """

    def __init__(
        self, connection: Connection, progress: Progress, options: SessionOptions, ticket: Ticket | None
    ) -> None:
        self.sequence = 1
        self.client = "" if ticket is None else secrets.token_hex(16)
        self._connection = connection
        self._progress = progress
        self._options = options
        self._ticket = ticket
        self._stream: SessionStream | None = None
        self._resumed = False  # since then, no event was answered
        self._kept: deque[tuple[int, Event]] = deque(maxlen=_MAX_KEPT_EVENTS)

    def stands(self) -> bool:
        """Whether there is a stream."""
        return self._stream is not None

    def drop(self) -> None:
        """Leave the stream; the session stays with the server."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def attached(self) -> SessionStream:
        """The stream of this session: the one that stands, or a new one that is told what the server lacks."""
        while self._stream is None:
            stream = await self._connection.attach()
            try:
                version_changed = await self._introduce(stream)
            except BaseException:
                stream.cancel()
                raise
            if version_changed:
                stream.cancel()
            else:
                self._stream = stream
        return self._stream

    async def exchange(self, request: pb.SessionRequest) -> pb.SessionResponse:
        """Send one request and return its response; where that fails the stream is left, unless it is refused."""
        stream = await self.attached()
        try:
            response = await stream.exchange(request)
        except BaseException:
            self.drop()
            raise
        try:
            return _accepted(response)
        except ServerUnreachableError:  # it is shutting down: attach anew, to another one if there is one
            self.drop()
            raise

    async def tell(self, event: Event, told: Event) -> pb.SessionResponse:
        """Send the next event; after resuming as `told`, with what was applied: the server may remember another one."""
        sent = told if self._stream is None or self._resumed else event
        response = await self.exchange(pb.SessionRequest(event=wire.event_to_proto(self.sequence, sent)))
        if response.answer.sequence != self.sequence:
            self.drop()
            raise ServerUnreachableError(f"event {self.sequence} was answered with {response.answer.sequence}")
        self._resumed = False
        return response

    def as_applied(self, event: Event) -> Event:
        """Return an event with the action that it was made with, which a server after a crash may have to be told."""
        before = self._progress.answer
        if not isinstance(event, Transition) or event.applied_action is not None or before is None:
            return event
        return replace(event, applied_action=before.reaction.action)

    def keep(self, told: Event, answer: Answer) -> None:
        """Keep the event that was answered until it is durable, and go on to the next one.

        Where the session goes on with another version, a new stream tells which agent that is.
        """
        self._kept.append((self.sequence, told))
        while self._kept and self._kept[0][0] <= answer.durable_sequence:
            self._kept.popleft()
        self.sequence += 1
        if answer.version_changed:
            self.drop()

    async def _introduce(self, stream: SessionStream) -> bool:
        """Open or resume the session; return whether it has gone on with another version than it was opened with."""
        self._resumed = self._progress.opened is not None
        opened = wire.opened_from_proto(_accepted(await stream.exchange(self._first_request())).opened)
        if self._ticket is not None and not self._resumed:
            self._take_up(opened)
        self._progress.opened = opened
        version_changed = False
        for sequence, event in self._lacking(opened):
            request = pb.SessionRequest(event=wire.event_to_proto(sequence, event))
            version_changed |= _accepted(await stream.exchange(request)).answer.version_changed
        return version_changed

    def _first_request(self) -> pb.SessionRequest:
        known = self._progress.opened or self._ticket
        if known is None:
            return pb.SessionRequest(open=wire.options_to_proto(self._options))
        resume = pb.ResumeSession(
            session_id=known.session_id,
            token=known.token,
            client=self.client,
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
        self.sequence = opened.next_sequence

    def _lacking(self, opened: Opened) -> list[tuple[int, Event]]:
        """The answered events that the resumed server has lost, oldest first."""
        lost = range(opened.next_sequence, self.sequence)
        kept = [(sequence, event) for sequence, event in self._kept if sequence in lost]
        if len(kept) < len(lost) or opened.next_sequence > self.sequence + 1:
            raise SessionError(
                f"session {opened.session_id} waits for event {opened.next_sequence}, but this client is at "
                f"{self.sequence} and keeps {counted(len(self._kept), 'event')}; open a new session"
            )
        return kept


def _accepted(response: pb.SessionResponse) -> pb.SessionResponse:
    """Return the response unless it is a refusal, which is raised; the stream stands either way."""
    if response.WhichOneof("kind") == "error":
        raise error_from_event(response.error)
    return response
