"""What every call passes before it reaches its handler: the token, and a decoder that does not fall over."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from ccm_runtime import statuses
from ccm_runtime.answering import Malformed, hear_out
from ccm_runtime.errors import UnauthenticatedError
from ccm_runtime.tenants import TENANT, TokenFile

_PROBES = "/grpc.health.v1.Health/"
_OURS = "/ccm_runtime.v1."
_ADMIN = "/ccm_runtime.v1.Admin/"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Details = grpc.HandlerCallDetails


class FrontDoor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Refuses calls without a token of the server's, and notes whose call it is; health probes need none.

    Args:
        tokens: Of the clients; `None`: they need none.
        admin: Of the operators; `None`: no call of theirs is admitted where clients need a token.
        refused: Counts the calls that are refused here, by reason.
    """

    def __init__(self, tokens: TokenFile | None, admin: TokenFile | None, refused: Counter[str]) -> None:
        self._tokens = tokens
        self._admin = admin
        self._refused = refused

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], details: Details
    ) -> Handler:
        """Return the handler of a call, or one that refuses it."""
        handler = await continuation(details)
        if handler is None:
            return handler
        if not self._admits(details):
            return _refusing(handler, self._refused, _OPERATOR if details.method.startswith(_ADMIN) else _CLIENT)
        return _tolerant(handler) if details.method.startswith(_OURS) else handler

    def _admits(self, details: Details) -> bool:
        if details.method.startswith(_PROBES):
            return True
        operator = details.method.startswith(_ADMIN)
        tokens = self._admin if operator else self._tokens
        if tokens is None:
            return self._tokens is None
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        tenant = tokens.tenant_of(given if isinstance(given, bytes) else str(given).encode())
        TENANT.set(tenant or "")
        return tenant is not None


_CLIENT = (
    "this server wants a token, and was given none or another: Client(token=...), --token-file, or the metadata "
    "`authorization: Bearer TOKEN`"
)
_OPERATOR = (
    "this server wants an operator's token, and was given none or another: --token-file with one of those that it was "
    "started with as --admin-token-file; without that flag it takes no such call"
)


def _tolerant(handler: Any) -> Handler:
    """Return the handler with a decoder that marks malformed bytes, for the handler to refuse as the client's fault."""
    decode = handler.request_deserializer

    def decode_or_mark(data: bytes) -> object:
        try:
            return decode(data)
        except DecodeError:
            return Malformed()

    tolerant: Handler = handler._replace(request_deserializer=decode_or_mark)
    return tolerant


def _refusing(handler: Any, refused: Counter[str], why: str) -> Handler:
    """Return a handler of the same shape that refuses the call."""
    error = UnauthenticatedError(why)
    reason, code, message = statuses.classify(error)

    async def refuse(_: object, context: Any) -> None:
        refused[reason] += 1
        if handler.request_streaming:
            await hear_out(context)
        await context.abort(code, message, statuses.trailing_metadata(error))

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(refuse, None, None)
