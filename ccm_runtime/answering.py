"""How every RPC ends: with its answer or with the status of what went wrong, never with a trace."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import wraps
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc

from ccm_runtime import statuses
from ccm_runtime.errors import SpecError
from ccm_runtime.hosting import Hosting

Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Request = TypeVar("Request")
Response = TypeVar("Response")
Servicer = TypeVar("Servicer", bound="Answering")
_HEAR_OUT_S = 5.0


class Malformed:
    """What a decoder makes of bytes that are no message."""


def check_message(request: object) -> None:
    """Refuse what is no message (SpecError)."""
    if isinstance(request, Malformed):
        raise SpecError("the bytes are no message of this call; see proto/ccm_runtime/v1/adaptation.proto")


async def hear_out(context: Call) -> None:
    """Wait for the first message of a stream that is to be refused.

    A client that writes to a call that has ended is told of a fault of gRPC's, and never why it was refused.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_HEAR_OUT_S):
            await context.read()


class Answering:
    """What services share: who is admitted, what is noted, and how a call is refused.

    Attributes:
        hosting: The agents of the server.
    """

    hosting: Hosting

    def admitted(self) -> AbstractContextManager[None]:
        """Count a call while it is under way, or refuse it; here: admit it."""
        return nullcontext()

    def note(self, error: Exception) -> str:
        """Note that a call is refused, and return its reason; what is no error of ours goes to the log alone."""
        reason, _, _ = statuses.classify(error)
        if reason == statuses.INTERNAL:
            self.hosting.log.error("fault", exc_info=error)
        return reason

    async def refuse(self, context: Call, error: Exception) -> NoReturn:
        """End a call with the status of `error`."""
        _, code, message = statuses.classify(error)
        self.note(error)
        await context.abort(code, message, statuses.trailing_metadata(error))
        raise AssertionError("abort always raises")


def answering(
    handler: Callable[[Servicer, Request, Call], Awaitable[Response]],
) -> Callable[[Servicer, Request, Call], Awaitable[Response]]:
    """Turn whatever a handler raises into a status."""

    @wraps(handler)
    async def answer(self: Servicer, request: Request, context: Call) -> Response:
        try:
            check_message(request)
            with self.admitted():
                return await handler(self, request, context)
        except Exception as error:
            refused = error
        return await self.refuse(context, refused)

    return answer
