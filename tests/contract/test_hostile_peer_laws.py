"""Laws against hostile and broken peers, over a real server. The full figures: benchmarks/reliability_hostile.py."""

import ast
import asyncio
import random
import socket
import struct
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ccm_runtime import server as server_module
from ccm_runtime import statuses
from ccm_runtime.client import Client
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ServerBusyError
from ccm_runtime.server import SERVICE, Server
from ccm_runtime.testing import ScriptedPolicy, served, serving
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

LIMIT_S = 20.0
METHODS = ("DescribeAgent", "OpenSession", "Step", "CloseSession", "Encode", "Act")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
THE_CALLERS_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def config(**settings):
    return ServerConfig(**{"port": 0, "log_level": "error", "max_message_bytes": 4096, **settings})


@asynccontextmanager
async def stub_of(**settings):
    async with serving(ScriptedPolicy(), config(**settings)) as address, grpc.aio.insecure_channel(address) as channel:
        yield address, channel, AdaptationStub(channel)


async def code_of(call):
    try:
        await call
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def is_alive(stub):
    opened = await stub.OpenSession(pb.OpenSessionRequest(), timeout=LIMIT_S)
    event = pb.Event(sequence=1, begin_episode=pb.BeginEpisode(observation=[0.5, 0.5]))
    request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)
    return 1 == (await stub.Step(request, timeout=LIMIT_S)).answer.sequence


def damaged(rng, opened):
    """A message of nonsense: random bytes, or a good one that was cut, flipped or doubled."""
    event = pb.Event(sequence=rng.getrandbits(64), begin_episode=pb.BeginEpisode(observation=[float("nan")] * 2))
    good = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event).SerializeToString()
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return good[: rng.randrange(len(good))]
    place = rng.randrange(len(good))
    return good[:place] + bytes([rng.randrange(256)]) + good[place + 1 :] if kind == 2 else good + good[place:]


async def test_malformed_messages_are_the_callers_fault_and_harm_nobody():
    rng = random.Random(0)
    async with stub_of() as (_, channel, stub):
        opened = await stub.OpenSession(pb.OpenSessionRequest(), timeout=LIMIT_S)
        calls = [channel.unary_unary(f"/{SERVICE}/{method}") for method in METHODS]
        for _ in range(40):
            messages = [damaged(rng, opened) for _ in range(50)]
            codes = await asyncio.gather(*(code_of(rng.choice(calls)(m, timeout=LIMIT_S)) for m in messages))
            assert set(codes) <= THE_CALLERS_FAULT
        assert await is_alive(stub)


@pytest.mark.parametrize("extra", [0, 1])
async def test_one_byte_over_the_limit_is_one_too_many(extra):
    async with stub_of() as (_, channel, stub):
        request = pb.OpenSessionRequest(idempotency_key="k")
        filler = 4096 - len(request.SerializeToString()) - 3  # an unknown field: tag and a length of two bytes
        message = request.SerializeToString() + b"\x7a" + struct.pack("<BB", filler & 0x7F | 0x80, filler >> 7)
        message += bytes(filler + extra)
        assert 4096 + extra == len(message)
        call = channel.unary_unary(f"/{SERVICE}/OpenSession")
        code = await code_of(call(message, timeout=LIMIT_S))
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED if extra else grpc.StatusCode.OK) is code
        assert await is_alive(stub)


async def test_half_open_and_slow_connections_do_not_hold_up_the_others():
    async with stub_of() as (address, _, stub):
        host, _, port = address.rpartition(":")
        peers = [socket.create_connection((host, int(port))) for _ in range(50)]
        try:
            for number, peer in enumerate(peers):
                peer.sendall(PREFACE[: number % len(PREFACE)])
            assert await is_alive(stub)
        finally:
            for peer in peers:
                peer.close()


@pytest.mark.parametrize("said", [0, 5])
async def test_who_does_not_shake_hands_in_time_is_sent_away(monkeypatch, said):
    monkeypatch.setattr(server_module, "_HANDSHAKE_MS", 200)
    async with stub_of() as (address, _, _):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE[:said])
        async with asyncio.timeout(LIMIT_S):
            with suppress(ConnectionError):
                while await reader.read(1 << 16):
                    pass
        writer.close()


async def test_a_reader_that_never_reads_holds_up_nobody():
    async with stub_of() as (_, _, stub):
        deaf = stub.Session()
        await deaf.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
        for _ in range(500):  # every one is refused with an error that nobody reads
            await deaf.write(pb.SessionRequest(event=pb.Event(sequence=99)))
        assert await is_alive(stub)
        deaf.cancel()


def header(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def test_who_watches_and_takes_nothing_does_not_keep_a_server_from_shutting_down():
    server = Server(served(ScriptedPolicy()), config())
    port = await server.start()
    no_window = frame(4, 0, 0, struct.pack(">HI", 4, 0))
    named = {b":method": b"POST", b":scheme": b"http", b":path": b"/grpc.health.v1.Health/Watch"}
    headers = b"".join(header(*pair) for pair in (named | {b":authority": b"x", b"te": b"trailers"}).items())
    headers += header(b"content-type", b"application/grpc")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + no_window + frame(1, 4, 1, headers) + frame(0, 1, 1, b"\0\0\0\0\0"))
    async with asyncio.timeout(LIMIT_S):
        while b"application/grpc" not in await reader.read(1 << 16):  # the beginning of the answer
            pass
    await asyncio.sleep(0.1)
    async with asyncio.timeout(LIMIT_S):
        assert await server.drain()
        await server.stop()
    writer.close()


async def test_so_many_may_watch_and_no_more_and_calls_have_places_of_their_own():
    async with stub_of(max_calls=4) as (_, channel, stub):
        health = health_pb2_grpc.HealthStub(channel)
        watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(4)]
        assert [health_pb2.HealthCheckResponse.SERVING] * 4 == [(await one.read()).status for one in watching]
        refused = health.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT_S)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is await code_of(refused.read())
        assert await is_alive(stub)
        for one in watching:
            one.cancel()


async def test_streams_that_open_and_leave_at_once_leave_nothing_behind():
    server = Server(served(ScriptedPolicy()), config(max_calls=50))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = AdaptationStub(channel)
        for _ in range(300):
            call = stub.Session()
            await call.write(pb.SessionRequest())
            call.cancel()
        ask = pb.DescribeAgentRequest()
        async with asyncio.timeout(LIMIT_S):  # the places of all that left are free again
            while await code_of(stub.DescribeAgent(ask, timeout=LIMIT_S)) is not grpc.StatusCode.OK:
                await asyncio.sleep(0.01)
        assert await is_alive(stub)
        assert 1 == len(server.hosting.table)
    await server.stop()


async def test_calls_over_the_bound_are_told_when_to_return():
    async with stub_of(max_calls=2) as (_, _, stub):
        held = [stub.Session() for _ in range(2)]
        for stream in held:
            await stream.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
            await stream.read()
        with pytest.raises(grpc.RpcError) as error:
            await stub.DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)
        metadata = dict(error.value.trailing_metadata())
        back = statuses.error_from_rpc(error.value.code(), error.value.details(), tuple(metadata.items()))
        assert (ServerBusyError, 1.0) == (type(back), back.retry_after_s)
        held.pop().cancel()
        while await code_of(stub.DescribeAgent(pb.DescribeAgentRequest(), timeout=LIMIT_S)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0)
        held.pop().cancel()


async def test_a_stream_over_the_bound_is_heard_out_and_told_why():
    async with stub_of(max_calls=1) as (_, _, stub):
        held = stub.Session()
        await held.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
        await held.read()
        second = stub.Session()
        await second.wait_for_connection()
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is await code_of(stub.DescribeAgent(pb.DescribeAgentRequest()))
        assert not second.done()  # or writing to it would be a fault of gRPC's, and no word of why
        await second.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is await code_of(second.read())
        held.cancel()


async def test_a_client_comes_back_to_a_busy_server_by_itself():
    async with stub_of(max_calls=1) as (address, _, stub):
        held = stub.Session()
        await held.write(pb.SessionRequest(open=pb.OpenSessionRequest()))
        await held.read()
        asyncio.get_running_loop().call_later(0.2, held.cancel)

        def describe():
            with Client(address) as client:
                return client.describe().family

        assert "scripted" == await asyncio.to_thread(describe)


async def test_pings_without_end_close_the_connection():
    async with stub_of() as (address, _, stub):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + b"\0\0\0\x04\0\0\0\0\0")
        try:
            for number in range(10_000):
                writer.write(b"\0\0\x08\x06\0\0\0\0\0" + struct.pack(">Q", number))
            await writer.drain()
            async with asyncio.timeout(LIMIT_S):
                said = b""
                while data := await reader.read(1 << 16):
                    said = (said + data)[-4096:]
            assert b"too_many_pings" in said
        except ConnectionError:
            pass  # closed while we still flooded it
        writer.close()
        assert await is_alive(stub)


async def test_no_token_and_no_payload_is_in_a_log(tmp_path, capfd):
    (tmp_path / "token").write_text("a-long-enough-secret")
    async with stub_of(log_level="debug", token_file=tmp_path / "token") as (_, _, stub):
        metadata = (("authorization", "Bearer a-long-enough-secret"),)
        request = pb.OpenSessionRequest(idempotency_key="a-key-of-a-client")
        opened = await stub.OpenSession(request, metadata=metadata, timeout=LIMIT_S)
        for sequence, observation in ((1, [123.4375, 0.5]), (7, [0.5, 0.5]), (2, [0.5])):
            event = pb.Event(sequence=sequence, begin_episode=pb.BeginEpisode(observation=observation))
            step = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)
            await code_of(stub.Step(step, metadata=metadata, timeout=LIMIT_S))
        wrong = (("authorization", "Bearer a-wrong-secret-of-a-client"),)
        await code_of(stub.Step(step, metadata=wrong, timeout=LIMIT_S))
        close = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        await stub.CloseSession(close, metadata=metadata, timeout=LIMIT_S)
    log = capfd.readouterr().err
    assert opened.session_id in log
    for secret in (opened.token, "a-long-enough-secret", "a-wrong-secret", "a-key-of-a-client", "123.4"):
        assert secret not in log


UNPICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.load"}
UNSAFE_CALLS |= {"runpy.run_path", "numpy.lib.format.read_array", "np.lib.format.read_array", "pandas.read_pickle"}
UNSAFE_FLAGS = {"allow_pickle": True, "weights_only": False}


def unsafe(text):
    """What a module imports, calls or allows that runs what it reads."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ({name.name.partition(".")[0] for name in node.names} & UNPICKLES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from ({module.partition(".")[0]} & UNPICKLES)
            yield from ({f"{module}.{name.name}" for name in node.names} & UNSAFE_CALLS)
        elif isinstance(node, ast.Call):
            called, first = ast.unparse(node.func), node.args[0] if node.args else None
            yield from ({called} & UNSAFE_CALLS)
            if called.endswith("import_module") or called == "__import__":
                yield from ({getattr(first, "value", "")} & UNPICKLES)
            yield from (word.arg for word in node.keywords if word.arg in UNSAFE_FLAGS and allows(word))


def allows(word):
    """Whether a flag has, or may have, the value that it must not."""
    return not isinstance(word.value, ast.Constant) or word.value.value is UNSAFE_FLAGS[word.arg]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle as p",
        "import os, _pickle",
        "from pickle import loads",
        "from joblib.memory import Memory",
        "from yaml import load",
        "import_module('marshal')",
        "yaml.load(text, Loader)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "torch.load(path, weights_only=False)",
        "torch.load(path)",
        "eval(text)",
    ],
)
def test_what_is_unsafe_is_seen(line):
    assert list(unsafe(line))


def test_no_pickle_eval_or_unsafe_yaml_is_in_the_packages():
    root = Path(__file__).parents[2]
    for folder in ("ccm_runtime", "training/ccm_training", "export/ccm_export"):
        for path in (root / folder).rglob("*.py"):
            assert not list(unsafe(path.read_text(encoding="utf-8"))), path
