"""Stop a real server by SIGTERM under load, start it again, and compare with an unbroken run."""

import asyncio
import random
import signal
import time

import grpc
from durable import Model, image
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mid_session import LIMIT_S, KilledServer, all_answered, differing, play

from ccm_runtime.adapt import Adapter
from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import load_bundle
from ccm_runtime.inference import OnnxPolicy

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def stopped(server, address, sessions):
    """Stop a server; whether it said so at once, whose episode it cut, its exit code, and the seconds until its end."""
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        began_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        said = (await asyncio.wait_for(watch.read(), LIMIT_S)).status
        exit_code = await asyncio.wait_for(server.process.wait(), LIMIT_S)
        seconds = time.monotonic() - began_s
        watch.cancel()
    until_s = time.monotonic() + 1.0  # the last answers may still be on their way
    while not all(session.episode_over for session in sessions) and time.monotonic() < until_s:
        await asyncio.sleep(0.01)
    cut = sum(not session.episode_over for session in sessions)
    return {"not_said": int(said != NOT_SERVING), "cut": cut, "exit_codes": int(exit_code != 0)}, seconds


async def campaign(bundle, store, stops, seed, num_sessions=8, **flags):
    """Stop and start the server `stops` times under sessions; the counts, all but `seconds` and `answers` must be 0."""
    rng, until = random.Random(seed), asyncio.Event()
    server = KilledServer(bundle, store, **flags)
    address = await server.start()
    found, longest_s = {"not_said": 0, "cut": 0, "exit_codes": 0}, 0.0
    try:
        async with AsyncClient(address, timeout_s=LIMIT_S) as client:
            sessions = [await client.open_session(seed=i, stochastic=True).open() for i in range(num_sessions)]
            answers = [[] for _ in sessions]
            playing = [asyncio.create_task(play(s, i, answers[i], until)) for i, s in enumerate(sessions)]
            for _ in range(stops):
                await all_answered(answers, playing)
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                counts, seconds = await stopped(server, address, sessions)
                found = {name: count + counts[name] for name, count in found.items()}
                longest_s = max(longest_s, seconds)
                await server.start()
            await all_answered(answers, playing)
            until.set()
            await asyncio.gather(*playing)
            closed = [await session.close() for session in sessions]
    finally:
        if server.process.returncode is None:
            await server.kill()
    adapter = Adapter.of(OnnxPolicy(loaded := load_bundle(bundle)), loaded.manifest.safety, loaded.manifest.novelty)
    beliefs = [Model(index, adapter).after(len(told))[0].belief for index, told in enumerate(answers)]
    return {
        "stops": stops,
        "longest_s": round(longest_s, 2),
        "answers": sum(map(len, answers)),
        **found,
        "differing": sum(differing(told, adapter, index) for index, told in enumerate(answers)),
        "beliefs_differing": sum(image(c.context.belief) != image(b) for c, b in zip(closed, beliefs, strict=True)),
    }
