"""The RPCs: read a message, let the core work, write the answer. What goes wrong becomes a status, never a trace."""

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from grpc.aio import EOF  # type: ignore[attr-defined]  # the stubs lack it

from ccm_runtime import statuses, wire
from ccm_runtime.admission import Admission
from ccm_runtime.answering import Answering, Call, answering, check_message, hear_out
from ccm_runtime.errors import ServerBusyError, SessionUnknownError, SpecError, StepGapError
from ccm_runtime.hosting import Hosting
from ccm_runtime.messages import Context, Opened
from ccm_runtime.sharing import moved
from ccm_runtime.stateless import act, asked, encode
from ccm_runtime.tenants import TENANT
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationServicer

# A look that comes so much too late was late since the server was frozen: its peers could not be heard.
_AWAY_S = 5.0


class Attention:
    """Ends a stream (TimeoutError) whose peer is silent for `limit_s`. A message only costs a look at the clock."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self.heard()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._watch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def heard(self) -> None:
        """Note that the peer has said something."""
        self._heard_s = self._loop.time()

    def _watch(self) -> None:
        now_s, due_s = self._loop.time(), self._heard_s + self._limit_s
        if now_s - due_s > _AWAY_S:
            self._heard_s, due_s = now_s, now_s + self._limit_s
        self._timer = self._loop.call_at(due_s, self._watch)
        if due_s <= now_s:
            self._timer.cancel()
            self._timeout.reschedule(due_s)


class Service(Answering, AdaptationServicer):
    """`ccm_runtime.v1.Adaptation` over the agents of a server."""

    def __init__(self, hosting: Hosting, max_calls: int) -> None:
        self.hosting = hosting
        self._admission = Admission(max_calls)

    def admitted(self) -> AbstractContextManager[None]:
        """Count a call while it is under way, or refuse it (ServerBusyError)."""
        return self._admission.admitted()

    def note(self, error: Exception) -> str:
        """Count a refusal by its reason, too."""
        reason = super().note(error)
        self.hosting.metrics.refused[reason] += 1
        return reason

    @answering
    async def DescribeAgent(self, request: pb.DescribeAgentRequest, context: Call) -> pb.DescribeAgentResponse:
        """Say what is served."""
        roster = self.hosting.roster
        return pb.DescribeAgentResponse(
            agent=wire.agent_to_proto(roster.rollout(request.agent).current.agent),
            agents=[wire.agent_to_proto(roster.rollout(name).current.agent) for name in roster],
        )

    @answering
    async def OpenSession(self, request: pb.OpenSessionRequest, context: Call) -> pb.OpenSessionResponse:
        """Begin a trial."""
        return wire.opened_to_proto(await self.hosting.open(wire.options_from_proto(request), TENANT.get()))

    @answering
    async def Step(self, request: pb.StepRequest, context: Call) -> pb.StepResponse:
        """Take one event of a session."""
        table, session_id = self.hosting.table, request.session_id
        if table.find(session_id) is None:
            await self._fetch(request, request.client)
        table.check_tenant(session_id, TENANT.get())
        table.get(session_id, request.token).check_client(request.client)
        response = pb.StepResponse()
        try:
            await self._step(session_id, request.event, response.answer)
        except StepGapError:  # it may have gone on at another server
            if not await self._fetch(request, request.client):
                raise
            self._check_client(session_id, request.client)
            await self._step(session_id, request.event, response.answer)
        return response

    @answering
    async def CloseSession(self, request: pb.CloseSessionRequest, context: Call) -> pb.CloseSessionResponse:
        """End a trial."""
        await self._fetch(request, request.client)
        closed = self.hosting.close(request.session_id, request.token, request.client, TENANT.get())
        await self.hosting.told_all()
        return wire.closed_to_proto(closed)

    @answering
    async def Encode(self, request: pb.EncodeRequest, call: Call) -> pb.EncodeResponse:
        """Fold transitions into a context."""
        context = _context(request)
        version = self.hosting.asked(request.agent, context)
        with version.in_use():
            beside = version.stepper.beside
            belief = await beside(lambda: version.own(context))
            encoded = await encode(version.adapter, version.digest, belief, request.transitions, beside)
        return wire.encoded_to_proto(encoded)

    @answering
    async def Act(self, request: pb.ActRequest, call: Call) -> pb.ActResponse:
        """Answer an action in time, given a context."""
        context = _context(request)
        version = self.hosting.asked(request.agent, context)
        what = asked(version.adapter, version.claimed(context), request)
        with version.in_use():
            acted = await act(version.adapter, what, version.stepper.beside, self.hosting.action_deadline_s)
        self.hosting.metrics.mended(acted.interventions)
        return wire.acted_to_proto(acted)

    async def Session(self, requests: object, context: Call) -> None:
        """Serve a session over one stream, until its client closes it, leaves or is silent for too long."""
        try:
            with self.admitted():
                async with Attention(self.hosting.idle_limit_s) as attention:
                    opened = await self._attach(context)
                    attention.heard()
                    while await self._exchange(opened, context):
                        attention.heard()
        except ServerBusyError as error:
            refused: Exception = error
            await hear_out(context)
        except TimeoutError:
            refused = SessionUnknownError(
                f"the stream was silent for {self.hosting.idle_limit_s:g} s, and no session is kept for longer "
                "(--idle-limit-s); open a new one"
            )
        except Exception as error:
            refused = error
        else:
            return
        await self.refuse(context, refused)

    async def _attach(self, context: Call) -> Opened:
        """Open or resume a session, as the stream's first message asks."""
        request = await self._read(context)
        kind = None if request is EOF else request.WhichOneof("kind")
        if kind == "open":
            opened = await self.hosting.open(wire.options_from_proto(request.open), TENANT.get())
        elif kind == "resume":
            opened = await self._resume(request.resume)
        else:
            raise SpecError(f"a stream begins with open or resume, got {kind or 'nothing'}")
        await context.write(pb.SessionResponse(opened=wire.opened_to_proto(opened)))
        return opened

    async def _resume(self, request: pb.ResumeSession) -> Opened:
        await self._fetch(request, None if request.take_over else request.client)
        shown = request.session_id, request.token, request.client, TENANT.get()
        return await self.hosting.take_over(*shown) if request.take_over else self.hosting.resume(*shown)

    async def _exchange(self, opened: Opened, context: Call) -> bool:
        """Answer the stream's next message; return whether there may be another."""
        request = await self._read(context)
        if request is EOF:
            return False
        kind = request.WhichOneof("kind")
        if kind == "close":
            await self.hosting.fetch(opened.session_id, opened.token, TENANT.get(), opened.client)
            closed = self._close(opened)
            await self.hosting.told_all()
            await context.write(pb.SessionResponse(closed=closed))
            return False
        if kind != "event":
            raise SpecError(f"expected event or close, got {kind or 'nothing'}; a stream attaches to one session")
        self._check_client(opened.session_id, opened.client)
        response = pb.SessionResponse()
        try:
            await self._step(opened.session_id, request.event, response.answer)
        except SessionUnknownError as gone:  # without its session, the stream ends
            if self.hosting.sharing is None:
                raise
            raise moved() from gone
        except Exception as error:
            self.note(error)
            response = pb.SessionResponse(error=statuses.event_error(request.event.sequence, error))
        await context.write(response)
        return True

    def _check_client(self, session_id: str, client: str) -> None:
        """Refuse a client whose session another one has taken over (SessionTakenError)."""
        session = self.hosting.table.find(session_id)
        if session is not None:
            session.check_client(client)

    async def _fetch(
        self, request: pb.StepRequest | pb.CloseSessionRequest | pb.ResumeSession, client: str | None
    ) -> bool:
        """Hold a session that servers share, for its owner; return whether it is another one than was held here."""
        self.hosting.table.check_tenant(request.session_id, TENANT.get())
        return await self.hosting.fetch(request.session_id, request.token, TENANT.get(), client)

    def _close(self, opened: Opened) -> pb.CloseSessionResponse:
        """End the stream's session."""
        return wire.closed_to_proto(self.hosting.close(opened.session_id, opened.token, opened.client, TENANT.get()))

    async def _read(self, context: Call) -> Any:
        """Return the stream's next message."""
        request = await context.read()
        check_message(request)
        return request

    async def _step(self, session_id: str, message: pb.Event, answer: pb.Answer) -> None:
        """Take an event of a session whose owner sent it, and write what it is answered into `answer`."""
        sequence, event = wire.event_from_proto(message)
        wire.write_answer(await self.hosting.step(session_id, sequence, event), answer)


def _context(request: pb.EncodeRequest | pb.ActRequest) -> Context | None:
    """Return what a request without a session knows, if it knows anything."""
    return wire.context_from_proto(request.context) if request.HasField("context") else None
