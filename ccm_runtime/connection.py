"""A client's end of the wire: one channel, calls that end in time, errors of our own tree, and attached sessions."""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from numbers import Real
from typing import Any, TypeVar

import grpc
import grpc.aio

from ccm_runtime import __version__
from ccm_runtime.config import is_loopback
from ccm_runtime.errors import (
    CcmError,
    ConfigError,
    DeadlineError,
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    StoreUnavailableError,
)
from ccm_runtime.statuses import DETAILS_KEY, error_from_rpc
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

T = TypeVar("T")

# gRPC by itself waits up to two minutes before it tries a lost server again; a robot cannot.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that is silent in the middle of a call is asked whether it is there, and given up.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A ping that gRPC has sent for its own ends holds that question up, and has a minute unless it is told otherwise.
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.primary_user_agent", f"ccm/{__version__}"),
)
_SCHEMES = ("dns:///", "unix:", "unix-abstract:", "vsock:", "xds:///")  # gRPC's, which need no port
CLOSED = "the client is closed; make a new one"
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def backoff(rng: random.Random, first_s: float = 0.02, most_s: float = 1.0) -> Iterator[float]:
    """Waits between attempts, without end: doubling up to `most_s`, each between half and the whole of its size."""
    for attempt in itertools.count():
        yield min(first_s * 2.0 ** min(attempt, 30), most_s) * rng.uniform(0.5, 1.0)


def check_target(target: object, name: str = "target") -> str:
    """Return the address of one server or several, or refuse what is none (ConfigError)."""
    if isinstance(target, str):
        host, _, port = target.rpartition(":")
        is_address = host and port.isdecimal() and 0 < int(port) < 1 << 16
        if target.startswith(_SCHEMES) or (is_address and not host.startswith(("http://", "https://"))):
            return target
    raise ConfigError(f"{name} {target}: expected HOST:PORT, for instance 127.0.0.1:7070")


class Connection:
    """A channel to one server at a time; belongs to the event loop that opens it.

    Args:
        target: `HOST:PORT`, or several that share their sessions: see `AsyncClient`.
        timeout_s: Longest time of any call, attempts and waits included.
        connect_timeout_s: Longest time until the first connection stands.
        token: Sent as `authorization: Bearer TOKEN`.
        credentials: TLS credentials; `None`: plain text.
        rng: Jitters the waits between attempts.

    Raises:
        ConfigError: The target is no address, a time no positive number, the token nothing that can be sent, or the
            credentials none of gRPC's.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float,
        connect_timeout_s: float,
        token: str | None,
        credentials: grpc.ChannelCredentials | None,
        rng: random.Random,
    ) -> None:
        self.target = check_target(target)
        self._timeout_s = _positive("timeout_s", timeout_s)
        self._connect_timeout_s = _positive("connect_timeout_s", connect_timeout_s)
        self._metadata = () if token is None else (("authorization", f"Bearer {_sendable(token)}"),)
        self._credentials = _checked(credentials)
        self._rng = rng
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None  # the generated stub has no types for asyncio

    async def open(self) -> None:
        """Connect, unless connected already.

        Raises:
            ServerUnreachableError: Nobody answers in time.
            ServerError: It is closed, or was meanwhile, or is of another event loop.
        """
        if self._closed:
            raise ServerError(CLOSED)
        if self._stub is not None:
            if asyncio.get_running_loop() is not self._loop:
                raise ServerError("the client belongs to the event loop that it connected in; make one in each")
            return
        # An error that is raised while a TimeoutError is handled would hold its task, and be held by it.
        with suppress(TimeoutError):
            # Others may connect, one after the other: the time of each begins now.
            async with asyncio.timeout(self._connect_timeout_s), self._opening:
                if self._closed:
                    raise _closed()
                if self._stub is None:
                    await self._connect()
                return
        raise ServerUnreachableError(
            f"nobody answers at {self.target} within {self._connect_timeout_s:g} s; "
            "is the address right, does `ccm serve` run there, and does it ask for TLS or a certificate?"
        )

    async def close(self) -> None:
        """Close the channel, for good; what is under way on it fails."""
        self._closed = True
        await self._disconnect()

    async def call(self, rpc: str, request: Any) -> Any:
        """Make a unary call that may be repeated safely, over as many attempts as it takes in time."""
        return await self.persist(lambda: self._call_once(rpc, request))

    async def attach(self) -> "SessionStream":
        """Start a stream for a session; the caller sends the first message."""
        await self.open()
        return SessionStream(self._stub.Session(metadata=self._metadata))

    async def persist(self, attempt: Callable[[], Awaitable[T]], stands: Callable[[], bool] = lambda: False) -> T:
        """Return what `attempt` returns, trying again in time where a connection is lost or a server is busy or unwell.

        Args:
            attempt: Makes the call.
            stands: Whether it has a stream, which may outlive the channel's connection to a server that shuts down.

        Raises:
            ServerUnreachableError: The connection was lost and did not come back in time.
            ServerBusyError: The server was busy all the time.
            StoreUnavailableError: The server's store failed and was not well again in time.
            DeadlineError: A server took the request and did not answer in time.
            ServerError: The client is closed, or was meanwhile.
        """
        await self.open()
        channel = self._channel
        try:
            return await self._persist(attempt, stands, channel)
        except (asyncio.CancelledError, grpc.aio.UsageError):
            task = asyncio.current_task()
            if self._channel is channel or (task is not None and task.cancelling()):
                raise
            raise _closed() from None  # a call whose channel is closed is cancelled by gRPC, not by whoever made it

    async def _persist(
        self, attempt: Callable[[], Awaitable[T]], stands: Callable[[], bool], channel: grpc.aio.Channel | None
    ) -> T:
        lost: ServerUnreachableError | StoreUnavailableError | ServerBusyError | None = None
        try:
            with suppress(TimeoutError):  # as in `open`
                async with asyncio.timeout(self._timeout_s):
                    for planned_s in backoff(self._rng):
                        if channel is None or self._channel is not channel:
                            raise _closed()
                        if not stands() and not _connected(channel):
                            # Calls on a channel that is not connected fail one by one, and hold up those that connect.
                            lost = lost or ServerUnreachableError("the connection was lost")
                            await channel.channel_ready()
                        try:
                            return await attempt()
                        except (ServerUnreachableError, StoreUnavailableError) as error:
                            lost, wait_s = error, planned_s
                        except ServerBusyError as error:
                            if error.retry_after_s is None:
                                raise
                            lost, wait_s = error, error.retry_after_s * self._rng.uniform(0.8, 1.2)
                        await asyncio.sleep(wait_s)
            if lost is None:
                raise DeadlineError(f"no answer from {self.target} within {self._timeout_s:g} s") from None
            if isinstance(lost, (StoreUnavailableError, ServerBusyError)):
                raise lost
            raise ServerUnreachableError(
                f"lost {self.target} and could not return within {self._timeout_s:g} s: {lost}"
            ) from None
        finally:
            del lost  # or it and this call would hold each other until the garbage collector comes

    async def _connect(self) -> None:
        channel = self._channel = self._new_channel()
        try:
            await channel.channel_ready()
        except grpc.aio.UsageError:
            raise _closed() from None
        except BaseException:
            await self._disconnect()
            raise
        if self._channel is not channel:
            raise _closed()
        self._stub, self._loop = AdaptationStub(channel), asyncio.get_running_loop()

    async def _disconnect(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close(None)

    async def _call_once(self, rpc: str, request: Any) -> Any:
        try:
            return await getattr(self._stub, rpc)(request, metadata=self._metadata, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _translated(error.code(), error.details(), error.trailing_metadata()) from None

    def _new_channel(self) -> grpc.aio.Channel:
        # A proxy that the environment names is for other machines.
        direct = (("grpc.enable_http_proxy", 0),) if all(map(is_loopback, _hosts(self.target))) else ()
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS + direct)
        return grpc.aio.secure_channel(self.target, self._credentials, options=_CHANNEL_OPTIONS + direct)


class SessionStream:
    """One stream of a session. Once an exchange has raised it is broken: drop it and attach anew."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def exchange(self, request: pb.SessionRequest) -> pb.SessionResponse:
        """Send one request and return its response, which may be a refusal.

        Raises:
            ServerUnreachableError: The stream is broken.
            CcmError: The server refused to attach.
        """
        try:
            await self._call.write(request)
            response = await self._call.read()
        except asyncio.InvalidStateError:  # a write on a finished stream
            raise await self._end() from None
        except grpc.aio.AioRpcError as error:
            raise _translated(error.code(), error.details(), error.trailing_metadata()) from None
        if response is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing from its stubs
            raise await self._end()
        return response  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Leave; the session stays with the server."""
        self._call.cancel()

    async def _end(self) -> CcmError:
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return ServerUnreachableError("the server ended the stream")
        return _translated(code, await self._call.details(), await self._call.trailing_metadata())


def _positive(name: str, time_s: object) -> float:
    if not isinstance(time_s, Real) or not 0 < float(time_s) < math.inf:
        raise ConfigError(f"{name}: expected a positive number of seconds, as nothing waits for ever; got {time_s!r}")
    return float(time_s)


def is_sendable(token: str) -> bool:
    """Whether gRPC can send it in the metadata of a call."""
    return token.isascii() and token.isprintable()


def _sendable(token: object) -> str:
    if not isinstance(token, str) or not is_sendable(token):
        raise ConfigError(
            "token: expected visible ASCII characters on one line; strip() what was read from a file of a line"
        )
    return token


def _checked(credentials: object) -> grpc.ChannelCredentials | None:
    if credentials is None or isinstance(credentials, grpc.ChannelCredentials):
        return credentials
    raise ConfigError(
        "credentials: expected grpc.ssl_channel_credentials(...) of the bytes of certificates, or None; got "
        f"{type(credentials).__name__}"
    )


def _hosts(target: str) -> list[str]:
    """Return the hosts of a target, which may list several servers as gRPC does: `ipv4:HOST:PORT,HOST:PORT`."""
    addresses = target.removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    return [address.rpartition(":")[0] for address in addresses]


def _closed() -> ServerError:
    return ServerError("the client was closed before its call was answered")


def _connected(channel: grpc.aio.Channel) -> bool:
    return channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY


def _translated(code: grpc.StatusCode, details: str | None, metadata: Any) -> CcmError:
    # A server's own fault comes with details; without them it is gRPC's word for a connection that broke mid-write.
    broken = code is grpc.StatusCode.INTERNAL and DETAILS_KEY not in dict(metadata or ())
    if broken or code in _LOST:
        return ServerUnreachableError("the connection was lost" if broken or not details else details)
    return error_from_rpc(code, details or code.name, metadata)
