"""A server that shares its sessions, as the tests call it; every answer is held against the model."""

import asyncio
from contextlib import asynccontextmanager

import grpc
from durable import event, image, model
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ccm_runtime import statuses, wire
from ccm_runtime.server import DURABILITY
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Replica:
    """Unary calls to a server, and streams.

    Args:
        channel: To it.
        model: Returns what a session must be, by its index.
    """

    def __init__(self, channel, model=model):
        self._model = model
        self._stub, self._health = AdaptationStub(channel), health_pb2_grpc.HealthStub(channel)

    async def open(self, index=0, **options):
        request = pb.OpenSessionRequest(seed=index, stochastic=True, idempotency_key=f"key-{index}", **options)
        return await called(self._stub.OpenSession(request, timeout=LIMIT_S))

    async def tell(self, opened, index, sequence, **who):
        message = wire.event_to_proto(sequence, event(index, sequence))
        request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=message, **who)
        return self._checked(index, (await called(self._stub.Step(request, timeout=LIMIT_S))).answer)

    async def close(self, opened, **who):
        request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token, **who)
        return wire.closed_from_proto(await called(self._stub.CloseSession(request, timeout=LIMIT_S)))

    @asynccontextmanager
    async def resumed(self, opened):
        """A stream of a session: how it was resumed, and what tells an event over it."""
        stream = self._stub.Session(timeout=LIMIT_S)

        async def exchange(**request):
            await stream.write(pb.SessionRequest(**request))
            response = await stream.read()
            if response is grpc.aio.EOF:
                raise restored(await stream.code(), await stream.details(), await stream.trailing_metadata())
            return response

        async def tell(index, sequence):
            message = wire.event_to_proto(sequence, event(index, sequence))
            return self._checked(index, (await called(exchange(event=message))).answer)

        resume = pb.ResumeSession(session_id=opened.session_id, token=opened.token)
        try:
            yield (await called(exchange(resume=resume))).opened, tell
        finally:
            stream.cancel()

    async def becomes(self, status):
        """Wait until the health of durability is this."""
        asked = health_pb2.HealthCheckRequest(service=DURABILITY)
        async with asyncio.timeout(LIMIT_S):
            while status != (await self._health.Check(asked, timeout=LIMIT_S)).status:
                await asyncio.sleep(0.01)

    def _checked(self, index, answer):
        """An answer that is the model's."""
        _, reaction = self._model(index).after(answer.sequence)
        assert image(reaction) == image(wire.answer_from_proto(answer).reaction)
        return answer


def restored(code, details, metadata):
    return statuses.error_from_rpc(code, details, list(metadata or ()))


async def called(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise restored(error.code(), error.details(), error.trailing_metadata()) from None
