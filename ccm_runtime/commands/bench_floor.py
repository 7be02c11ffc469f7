"""The floor of `ccm bench serve`: a server of the same gRPC library, as a process of its own.

Its calls do nothing, save one that runs the networks of a bundle (the program's argument) and forgets what they said:
no server of this library that acts with these networks can be faster.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.bench_networks import Networks
from ccm_runtime.event_loop import run
from ccm_runtime.inference import OnnxPolicy

SERVICE = "ccm_runtime.bench.Floor"


async def _unary(_: Empty, __: Any) -> Empty:
    return Empty()


async def _stream(_: Any, context: Any) -> None:
    while await context.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
        await context.write(Empty())


def _networks(bundle: Path) -> Callable[[Any, Any], Awaitable[None]]:
    networks = Networks(OnnxPolicy(load_bundle(bundle)), 1)

    async def stream(_: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
            networks.run()
            await context.write(Empty())

    return stream


async def _serve(bundle: Path) -> None:
    read, write = Empty.FromString, Empty.SerializeToString
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary, read, write),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream, read, write),
        "Networks": grpc.stream_stream_rpc_method_handler(_networks(bundle), read, write),
    }
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    sys.stderr.write(f"listening on 127.0.0.1:{port}\n")
    sys.stderr.flush()
    await stop.wait()
    await server.stop(grace=0.2)


if __name__ == "__main__":
    run(_serve(Path(sys.argv[1])))
