"""The RPCs: read a message, let the core work, write the answer. What goes wrong becomes a status, never a trace."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypeVar

import grpc
from grpc.aio import EOF  # type: ignore[attr-defined]  # the stubs lack it

from ccm_runtime import statuses, wire
from ccm_runtime.admission import Admission
from ccm_runtime.errors import ServerBusyError, SessionUnknownError, SpecError
from ccm_runtime.hosting import Hosting
from ccm_runtime.messages import Context, Opened
from ccm_runtime.stateless import act, encode
from ccm_runtime.tenants import TENANT
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationServicer

Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Request = TypeVar("Request")
Response = TypeVar("Response")
_HEAR_OUT_S = 5.0


class Malformed:
    """What a decoder makes of bytes that are no message."""


def check_message(request: object) -> None:
    """Refuse what is no message (SpecError)."""
    if isinstance(request, Malformed):
        raise SpecError("the bytes are no message of this call; see proto/ccm_runtime/v1/adaptation.proto")


async def hear_out(context: "Call") -> None:
    """Wait for the first message of a stream that is to be refused.

    A client that writes to a call that has ended is told of a fault of gRPC's, and never why it was refused.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_HEAR_OUT_S):
            await context.read()


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
        due_s = self._heard_s + self._limit_s
        self._timer = self._loop.call_at(due_s, self._watch)
        if due_s <= self._loop.time():
            self._timer.cancel()
            self._timeout.reschedule(due_s)


def _answering(
    handler: Callable[["Service", Request, Call], Awaitable[Response]],
) -> Callable[["Service", Request, Call], Awaitable[Response]]:
    """Turn whatever a handler raises into a status."""

    @wraps(handler)
    async def answer(self: "Service", request: Request, context: Call) -> Response:
        try:
            check_message(request)
            with self.admission.admitted():
                return await handler(self, request, context)
        except Exception as error:
            refused = error
        return await self.refuse(context, refused)

    return answer


class Service(AdaptationServicer):
    """`ccm_runtime.v1.Adaptation` over the agents of a server."""

    def __init__(self, hosting: Hosting, max_calls: int) -> None:
        self._hosting = hosting
        self.admission = Admission(max_calls)

    @_answering
    async def DescribeAgent(self, request: pb.DescribeAgentRequest, context: Call) -> pb.DescribeAgentResponse:
        """Say what is served."""
        roster = self._hosting.roster
        return pb.DescribeAgentResponse(
            agent=wire.agent_to_proto(roster.rollout(request.agent).current.agent),
            agents=[wire.agent_to_proto(roster.rollout(name).current.agent) for name in roster],
        )

    @_answering
    async def OpenSession(self, request: pb.OpenSessionRequest, context: Call) -> pb.OpenSessionResponse:
        """Begin a trial."""
        return wire.opened_to_proto(await self._hosting.open(wire.options_from_proto(request), TENANT.get()))

    @_answering
    async def Step(self, request: pb.StepRequest, context: Call) -> pb.StepResponse:
        """Take one event of a session."""
        self._hosting.table.check_tenant(request.session_id, TENANT.get())
        self._hosting.table.get(request.session_id, request.token)
        response = pb.StepResponse()
        await self._step(request.session_id, request.event, response.answer)
        return response

    @_answering
    async def CloseSession(self, request: pb.CloseSessionRequest, context: Call) -> pb.CloseSessionResponse:
        """End a trial."""
        self._hosting.table.check_tenant(request.session_id, TENANT.get())
        return wire.closed_to_proto(self._hosting.close(request.session_id, request.token))

    @_answering
    async def Encode(self, request: pb.EncodeRequest, call: Call) -> pb.EncodeResponse:
        """Fold transitions into a context."""
        context = _context(request)
        version = self._hosting.asked(request.agent, context)
        with version.in_use():
            beside = version.stepper.beside
            belief = await beside(lambda: version.own(context))
            encoded = await encode(version.adapter, version.digest, belief, request.transitions, beside)
        return wire.encoded_to_proto(encoded)

    @_answering
    async def Act(self, request: pb.ActRequest, call: Call) -> pb.ActResponse:
        """Answer an action, given a context."""
        context = _context(request)
        version = self._hosting.asked(request.agent, context)
        with version.in_use():
            acted = await version.stepper.beside(lambda: act(version.adapter, version.own(context), request))
        return wire.acted_to_proto(acted)

    async def Session(self, requests: object, context: Call) -> None:
        """Serve a session over one stream, until its client closes it, leaves or is silent for too long."""
        try:
            with self.admission.admitted():
                async with Attention(self._hosting.idle_limit_s) as attention:
                    opened = await self._attach(context)
                    attention.heard()
                    while await self._exchange(opened, context):
                        attention.heard()
        except ServerBusyError as error:
            refused: Exception = error
            await hear_out(context)
        except TimeoutError:
            refused = SessionUnknownError(f"the stream was silent for {self._hosting.idle_limit_s:g} s")
        except Exception as error:
            refused = error
        else:
            return
        await self.refuse(context, refused)

    async def refuse(self, context: Call, error: Exception) -> NoReturn:
        """End a call with the status of `error`; what is no error of ours goes to the log and nowhere else."""
        _, code, message = statuses.classify(error)
        self._note(error)
        await context.abort(code, message, statuses.trailing_metadata(error))
        raise AssertionError("abort always raises")

    def _note(self, error: Exception) -> None:
        reason, _, _ = statuses.classify(error)
        self._hosting.metrics.refused[reason] += 1
        if reason == statuses.INTERNAL:
            self._hosting.log.error("fault", exc_info=error)

    async def _attach(self, context: Call) -> Opened:
        """Open or resume a session, as the stream's first message asks."""
        request = await self._read(context)
        kind = None if request is EOF else request.WhichOneof("kind")
        if kind == "open":
            opened = await self._hosting.open(wire.options_from_proto(request.open), TENANT.get())
        elif kind == "resume":
            self._hosting.table.check_tenant(request.resume.session_id, TENANT.get())
            opened = self._hosting.resume(request.resume.session_id, request.resume.token)
        else:
            raise SpecError(f"a stream begins with open or resume, got {kind or 'nothing'}")
        await context.write(pb.SessionResponse(opened=wire.opened_to_proto(opened)))
        return opened

    async def _exchange(self, opened: Opened, context: Call) -> bool:
        """Answer the stream's next message; return whether there may be another."""
        request = await self._read(context)
        if request is EOF:
            return False
        kind = request.WhichOneof("kind")
        if kind == "close":
            await context.write(pb.SessionResponse(closed=self._close(opened)))
            return False
        if kind != "event":
            raise SpecError(f"expected event or close, got {kind or 'nothing'}; a stream attaches to one session")
        response = pb.SessionResponse()
        try:
            await self._step(opened.session_id, request.event, response.answer)
        except SessionUnknownError:  # without its session, the stream ends
            raise
        except Exception as error:
            self._note(error)
            response = pb.SessionResponse(error=statuses.event_error(request.event.sequence, error))
        await context.write(response)
        return True

    def _close(self, opened: Opened) -> pb.CloseSessionResponse:
        """End the stream's session."""
        return wire.closed_to_proto(self._hosting.close(opened.session_id, opened.token))

    async def _read(self, context: Call) -> Any:
        """Return the stream's next message."""
        request = await context.read()
        check_message(request)
        return request

    async def _step(self, session_id: str, message: pb.Event, answer: pb.Answer) -> None:
        """Take an event of a session whose owner sent it, and write what it is answered into `answer`."""
        sequence, event = wire.event_from_proto(message)
        wire.write_answer(await self._hosting.step(session_id, sequence, event), answer)


def _context(request: pb.EncodeRequest | pb.ActRequest) -> Context | None:
    """Return what a request without a session knows, if it knows anything."""
    return wire.context_from_proto(request.context) if request.HasField("context") else None
