"""The health of a server's services, as gRPC defines it: to be asked for and to be watched, without a token.

Nobody who watches is waited for: the reference implementation tells one after the other, and who does not read keeps a
server from shutting down.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthServicer

from ccm_runtime import statuses
from ccm_runtime.admission import Admission
from ccm_runtime.answering import Call
from ccm_runtime.errors import ServerBusyError

UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health(HealthServicer):
    """`grpc.health.v1.Health`; belongs to one event loop.

    Args:
        max_watching: Most calls of `Watch` at a time.
    """

    def __init__(self, max_watching: int) -> None:
        self._admission = Admission(max_watching)
        self._statuses: dict[str, pb.HealthCheckResponse.ServingStatus] = {}
        self._changed = asyncio.Event()

    def set(self, service: str, *, serving: bool) -> None:
        """Say from now on whether a service is well."""
        told = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        if told == self._statuses.get(service):
            return
        self._statuses[service] = told
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: pb.HealthCheckRequest, context: Call) -> pb.HealthCheckResponse:
        """Say how a service is."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return pb.HealthCheckResponse(status=status)

    async def Watch(self, request: pb.HealthCheckRequest, context: Call) -> None:
        """Say how a service is, now and whenever that changes; what is not there may come."""
        try:
            with self._admission.admitted():
                await self._watch(request.service, context)
        except ServerBusyError as error:
            _, code, message = statuses.classify(error)
            await context.abort(code, message, statuses.trailing_metadata(error))

    async def _watch(self, service: str, context: Call) -> None:
        told = None
        while True:
            changed, status = self._changed, self._statuses.get(service, UNKNOWN)
            if status != told:
                await context.write(pb.HealthCheckResponse(status=status))
                told = status
            await changed.wait()
