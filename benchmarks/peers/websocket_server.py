"""A policy server over plain WebSockets and msgpack, as robot-policy servers of that kind are: one loop, one policy."""

import asyncio

import msgpack
import numpy as np
from bare_policy import BarePolicy, announce
from websockets.asyncio.server import ServerConnection, serve

PROTOCOL, PATH = "websocket", "/"


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    return msgpack.packb({"observation": policy.example().tobytes()})


def action(response: bytes) -> list[float]:
    """Read an answer."""
    return np.frombuffer(msgpack.unpackb(response)["action"], np.float32).tolist()


async def run(policy: BarePolicy) -> None:
    """Serve until killed."""

    async def talk(connection: ServerConnection) -> None:
        async for message in connection:
            observation = np.frombuffer(msgpack.unpackb(message)["observation"], np.float32)
            await connection.send(msgpack.packb({"action": policy.act(observation[None])[0].tobytes()}))

    async with serve(talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()


def serve_policy(policy: BarePolicy) -> None:
    """Serve until killed."""
    asyncio.run(run(policy))
