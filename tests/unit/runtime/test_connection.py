"""A client that has lost its server waits for it without calling it."""

import asyncio
import gc
import random
import weakref
from functools import partial

import grpc
import pytest

from ccm_runtime.client import Client
from ccm_runtime.connection import Connection, SessionStream, check_target
from ccm_runtime.errors import (
    ConfigError,
    DeadlineError,
    ServerBusyError,
    ServerError,
    ServerUnreachableError,
    StoreUnavailableError,
)
from ccm_runtime.v1 import adaptation_pb2 as pb


class Channel:
    """A channel that is connected when it is told so."""

    def __init__(self):
        self.connected = asyncio.Event()
        self.asked = 0

    def get_state(self, *, try_to_connect):
        assert try_to_connect
        self.asked += 1
        return grpc.ChannelConnectivity.READY if self.connected.is_set() else grpc.ChannelConnectivity.IDLE

    async def channel_ready(self):
        await self.connected.wait()


def connection(channel, timeout_s=20.0):
    made = Connection(
        "nobody:1", timeout_s=timeout_s, connect_timeout_s=1.0, token=None, credentials=None, rng=random.Random(0)
    )
    made._channel, made._stub, made._loop = channel, object(), asyncio.get_running_loop()
    return made


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"target": target}, f"target {target}: expected HOST:PORT")
        for target in (None, "", 7070, "127.0.0.1", "127.0.0.1:", "127.0.0.1:70700", "http://127.0.0.1:7070")
    ]
    + [
        ({"token": token}, "token: expected visible ASCII")
        for token in ("of a file\n", "schlüssel", b"0123456789abcdef")
    ]
    + [({"timeout_s": time}, "timeout_s: expected a positive number") for time in (None, 0, -1.0, "3", float("inf"))]
    + [({"connect_timeout_s": float("nan")}, "connect_timeout_s: expected a positive number")]
    + [({"credentials": "cert.pem"}, r"credentials: expected grpc.ssl_channel_credentials.*; got str")],
)
def test_what_would_never_reach_a_server_is_refused_at_once(setting, told):
    with pytest.raises(ConfigError, match=told):
        Client(**{"target": "127.0.0.1:7070"} | setting)


@pytest.mark.parametrize(
    "target", ["[::1]:7070", "dns:///ccm:7070", "dns:///ccm", "ipv4:10.0.0.1:1,10.0.0.2:1", "unix:s"]
)
def test_an_address_of_grpcs_own_is_one(target):
    assert target == check_target(target)


async def test_nothing_is_called_until_the_connection_is_back():
    channel, calls = Channel(), []

    async def attempt():
        calls.append(channel.connected.is_set())
        return "answer"

    waiting = asyncio.create_task(connection(channel).persist(attempt))
    while not channel.asked:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert [] == calls
    channel.connected.set()
    assert "answer" == await waiting
    assert [True] == calls


async def test_a_connection_that_does_not_come_back_in_time_is_lost():
    async def attempt():
        raise AssertionError("there is nobody to call")

    with pytest.raises(ServerUnreachableError, match="lost nobody:1 and could not return within"):
        await connection(Channel(), timeout_s=0.01).persist(attempt)


async def test_who_is_told_when_to_come_again_comes_near_that_time(monkeypatch):
    channel, slept, refusals = Channel(), [], [5.0, 12.0]
    channel.connected.set()

    async def sleep(seconds):
        slept.append(seconds)

    async def attempt():
        if refusals:
            raise ServerBusyError("full", refusals.pop(0))
        return "in"

    monkeypatch.setattr("ccm_runtime.connection.asyncio.sleep", sleep)
    assert "in" == await connection(channel).persist(attempt)
    first, second = slept
    assert 4.0 <= first <= 6.0
    assert 9.6 <= second <= 14.4


@pytest.mark.parametrize(
    ("fails", "comes_back", "told"),
    [
        (None, False, [DeadlineError]),
        (ServerUnreachableError, False, [ServerUnreachableError]),
        (ServerUnreachableError, True, []),
        (StoreUnavailableError, False, [StoreUnavailableError]),
        (partial(ServerBusyError, retry_after_s=0.001), False, [ServerBusyError]),
    ],
)
async def test_no_error_of_a_call_waits_for_the_garbage_collector(fails, comes_back, told):
    """It would hold the call until then, and with it the client: gRPC's thread and sockets."""
    channel, errors, kinds = Channel(), [], []
    channel.connected.set()

    async def attempt():
        if comes_back and errors:
            return
        if fails is None:
            await asyncio.Event().wait()
        error = fails("it fails")
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        try:
            await asyncio.create_task(connection(channel, timeout_s=20.0 if comes_back else 0.1).persist(attempt))
        except ServerError as error:
            kinds.append(type(error))
            errors.append(weakref.ref(error))
        await asyncio.sleep(0)  # the turn of the loop that told it is over
        assert [] == [error() for error in errors if error() is not None]
    finally:
        gc.enable()
    assert told == kinds


async def test_a_stream_that_breaks_is_told_in_our_words():
    class Broken:
        async def write(self, _):
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "Internal error from Core")

    with pytest.raises(ServerUnreachableError, match=r"^the connection was lost$"):
        await SessionStream(Broken()).exchange(pb.SessionRequest())
