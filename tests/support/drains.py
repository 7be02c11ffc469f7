"""Stop a real server by SIGTERM under load, start it again, and compare with an unbroken run."""

import asyncio
import random
import signal
import time
from collections import Counter

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mid_session import LIMIT_S, KilledServer, compared, played_under

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
STEP_S = 0.2  # an episode takes five of them: far longer than calls under way have to be answered in


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
    rng = random.Random(seed)
    server = KilledServer(bundle, store, **flags)
    address = await server.start()
    found, longest_s = Counter(), 0.0

    async def stop(sessions):
        nonlocal longest_s
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        counts, seconds = await stopped(server, address, sessions)
        found.update(counts)
        longest_s = max(longest_s, seconds)
        await server.start()

    try:
        answers, closed = await played_under(stop, address, stops, num_sessions, STEP_S)
    finally:
        if server.process.returncode is None:
            await server.kill()
    return {"stops": stops, "longest_s": round(longest_s, 2), **found, **compared(bundle, answers, closed)}
