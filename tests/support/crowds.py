"""Many sessions: held at once, opened and closed one after the other, and clients that come and return all at once."""

import asyncio
import tempfile
from pathlib import Path

import grpc
from mid_session import KilledServer
from storm import Storm

from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.machine import resident_mb
from ccm_runtime.v1 import adaptation_pb2 as pb

LIMIT_S = 60.0
_SERVICE = "/ccm_runtime.v1.Adaptation/"


class Caller:
    """Unary calls on a connection of its own."""

    def __init__(self, address):
        self._wire = Wire(address, stream=False)

    def open(self, seed):
        """Open a session."""
        request = pb.OpenSessionRequest(seed=seed)
        return pb.OpenSessionResponse.FromString(
            self._wire.exchange(f"{_SERVICE}OpenSession", request.SerializeToString())
        )

    def tell(self, opened, sequence):
        """Tell an event: first an episode's beginning, then steps; whether it was answered."""
        event = pb.Event(sequence=sequence)
        (event.begin_episode if sequence == 1 else event.transition).observation[:] = [0.5, 0.5]
        request = pb.StepRequest(session_id=opened.session_id, token=opened.token, event=event)
        answer = pb.StepResponse.FromString(self._wire.exchange(f"{_SERVICE}Step", request.SerializeToString())).answer
        return answer.sequence == sequence

    def close(self, opened):
        """Close a session."""
        request = pb.CloseSessionRequest(session_id=opened.session_id, token=opened.token)
        self._wire.exchange(f"{_SERVICE}CloseSession", request.SerializeToString())

    def leave(self):
        """Close the connection."""
        self._wire.close()


def held(server, num, warm=200):
    """Open `num` sessions, tell each a few events, and let them stand; each one's share of the server's memory.

    The first `warm` ones come before the memory is looked at, so that they fill the caches.
    """
    caller = Caller(server.address)
    sessions = [caller.open(seed) for seed in range(warm)]
    unanswered = sum(not caller.tell(opened, sequence) for opened in sessions for sequence in (1, 2, 3))
    before = resident_mb(server.pid)
    more = [caller.open(seed) for seed in range(warm, warm + num)]
    unanswered += sum(not caller.tell(opened, sequence) for sequence in (1, 2, 3) for opened in more)
    kb = (resident_mb(server.pid) - before) * 1024 / num
    unanswered += sum(not caller.tell(opened, 4) for opened in sessions + more)  # all of them are still there
    for opened in sessions + more:
        caller.close(opened)
    caller.leave()
    return {"sessions": num, "kb_each": round(kb, 1), "unanswered": unanswered}


async def attached(server, num, per_connection=500):
    """Attach `num` streams, `per_connection` on each connection; each one's share of the server's memory."""
    before, unanswered = resident_mb(server.pid), 0
    channels = [
        grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(-(-num // per_connection))
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    method = f"{_SERVICE}Session"
    calls = [
        channel.stream_stream(method, pb.SessionRequest.SerializeToString, pb.SessionResponse.FromString)
        for channel in channels
    ]
    streams = []
    for index in range(num):
        stream = calls[index % len(channels)]()
        await stream.write(pb.SessionRequest(open=pb.OpenSessionRequest(seed=index)))
        streams.append(stream)
        unanswered += not (await stream.read()).opened.session_id
    kb = (resident_mb(server.pid) - before) * 1024 / num
    for stream in streams:
        stream.cancel()
    for channel in channels:
        await channel.close()
    return {"streams": num, "kb_each": round(kb, 1), "unanswered": unanswered}


def opened_and_closed(server, num, windows=20):
    """Open and close `num` sessions, each with a step in between; memory after each part of them."""
    caller, unanswered, resident = Caller(server.address), 0, []
    for window in range(windows):
        for index in range(num // windows):
            opened = caller.open(window * num + index)
            unanswered += not caller.tell(opened, 1)
            caller.close(opened)
        resident.append(resident_mb(server.pid))
    caller.leave()
    tenth = windows // 10
    late_mb = resident[-1] - resident[tenth]
    return {
        "sessions": num // windows * windows,
        "unanswered": unanswered,
        "mb_in_100000": round(late_mb / (num * (windows - 1 - tenth) / windows) * 1e5, 2),
        "resident_mb": [round(mb, 1) for mb in resident],
    }


async def storms(bundle, clients, processes):
    """Let clients come all at once and stay, kill the server, and let all come back at once to its successor."""
    each = [clients // processes] * processes
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max-sessions": 2 * clients, "max-calls": 2 * clients}
        server = KilledServer(bundle, Path(folder) / "s.db", **limits)
        try:
            with Storm(await server.start(), each) as storm:
                come, come_s = await asyncio.to_thread(storm.blow)
                await server.kill()
                returning = asyncio.create_task(asyncio.to_thread(storm.blow))
                await server.start()
                back, back_s = await returning
        finally:
            await server.kill()
    return {
        "clients": sum(each),
        "come": {"outcomes": come, "seconds": round(come_s, 1)},
        "back_after_a_restart": {"outcomes": back, "seconds": round(back_s, 1)},
    }


async def visits(bundle, clients, processes, max_calls):
    """Let clients come all at once to a server that takes `max_calls` at a time; each opens, tells an event, closes."""
    each = [clients // processes] * processes
    with tempfile.TemporaryDirectory() as folder:
        limits = {"max-sessions": 2 * clients, "max-calls": max_calls}
        server = KilledServer(bundle, Path(folder) / "s.db", **limits)
        try:
            with Storm(await server.start(), each, "--visit") as storm:
                outcomes, seconds = await asyncio.to_thread(storm.blow)
        finally:
            await server.kill()
    return {"clients": sum(each), "calls_at_a_time": max_calls, "outcomes": outcomes, "seconds": round(seconds, 1)}
