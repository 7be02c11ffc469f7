"""Client and server of today understand those of wire-v1, as its descriptor is kept here: by name, number and use.

The peer of that time is a proxy that knows no field of later times, and drops them both ways.
"""

from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from durable import AGENT, event, image
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ccm_runtime import wire
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.config import ServerConfig
from ccm_runtime.messages import BeginEpisode
from ccm_runtime.testing import serving
from ccm_runtime.v1 import adaptation_pb2 as pb

LIMIT_S = 20.0
KEPT = descriptor_pb2.FileDescriptorProto.FromString(
    (Path(__file__).parent / "wire-v1" / "adaptation.binpb").read_bytes()
)
TODAY = descriptor_pb2.FileDescriptorProto()
pb.DESCRIPTOR.CopyToProto(TODAY)


def fields(file):
    """Every field: message, name, number, type, and the name of its type."""
    return {
        (message.name, field.name, field.number, field.type, field.label, field.type_name)
        for message in file.message_type
        for field in message.field
    }


def values(file):
    """Every value of an enum, wherever it is."""
    nested = [enum for message in file.message_type for enum in message.enum_type]
    return {(enum.name, value.name, value.number) for enum in [*file.enum_type, *nested] for value in enum.value}


def methods(file):
    return {
        (service.name, method.name, method.input_type, method.output_type, method.client_streaming)
        for service in file.service
        for method in service.method
    }


def test_nothing_that_was_on_the_wire_is_gone_or_means_something_else():
    assert fields(KEPT) <= fields(TODAY)
    assert values(KEPT) <= values(TODAY)
    assert methods(KEPT) <= methods(TODAY)


def old_messages():
    """Classes of the messages of that time, by name."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(KEPT)
    names = [message.name for message in KEPT.message_type]
    return {
        f".{KEPT.package}.{n}": message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{KEPT.package}.{n}"))
        for n in names
    }


OLD = old_messages()


def as_of_then(name, data):
    """The bytes of a message as a peer of that time would have written them."""
    message = OLD[name].FromString(data)
    message.DiscardUnknownFields()
    return message.SerializeToString()


class OldPeer(grpc.GenericRpcHandler):
    """Hands calls on to a server, as far as that time understands them."""

    def __init__(self, channel):
        self._channel = channel
        self._methods = {f"/{KEPT.package}.{s.name}/{m.name}": m for s in KEPT.service for m in s.method}

    def service(self, details):
        """Return the handler of a call."""
        method = self._methods[details.method]

        async def stream(_, context):
            call = self._channel.stream_stream(details.method)()
            while (data := await context.read()) is not grpc.aio.EOF:
                await call.write(as_of_then(method.input_type, data))
                await context.write(as_of_then(method.output_type, await call.read()))
            call.cancel()

        async def call(data, _):
            answer = self._channel.unary_unary(details.method)(as_of_then(method.input_type, data), timeout=LIMIT_S)
            return as_of_then(method.output_type, await answer)

        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(call)


@asynccontextmanager
async def old_peer_of(address):
    async with grpc.aio.insecure_channel(address) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((OldPeer(channel),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


async def trial(client):
    """What a client is told in a trial of two episodes, bit for bit."""
    told = []
    session = await client.open_session(seed=3, stochastic=True).open()
    for sequence in range(1, 13):
        now = event(3, sequence)
        if isinstance(now, BeginEpisode):
            action = await session.begin_episode(now.observation)
        else:
            action = await session.act(now.observation, now.reward, truncated=now.truncated)
        told.append((image(action), session.phase, session.episode, session.certainty, session.novelty))
    closed = await session.close()
    context = image((await client.encode([])).context.belief)
    return told, image(closed), context, (await client.describe()).family


async def test_a_client_and_a_server_of_today_get_on_with_a_peer_of_then():
    config = ServerConfig(port=0, log_level="error")
    async with (
        serving(AGENT, config) as address,
        old_peer_of(address) as old,
        AsyncClient(address) as today,
        AsyncClient(old) as then,
    ):
        assert await trial(today) == await trial(then)


@pytest.mark.parametrize("sequence", [1, 2])
def test_the_peer_of_then_drops_what_is_new(sequence):
    request = pb.StepRequest(session_id="s", token="t", event=wire.event_to_proto(sequence, event(0, sequence)))  # noqa: S106
    data = request.SerializeToString()
    unknown = b"\xfa\xff\x01\x02hi"
    assert data == as_of_then(f".{KEPT.package}.StepRequest", data + unknown)
