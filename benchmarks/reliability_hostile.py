"""The full figures against hostile and broken peers; the tests run the same in short.

    python benchmarks/reliability_hostile.py --out benchmarks/results/reliability
    python benchmarks/reliability_hostile.py --out figures bundles messages

Each campaign writes one file: what was done, how often, and what must be 0 or empty; ends with 1 if anything is not.
The server is a process of its own, `ccm serve` on loopback. A good client goes on meanwhile: beside peers that take
little of the machine it must not be twice as slow as when it is alone; beside peers that take all that they can get,
deaf readers among them, its actions must still be valid when they arrive.
"""

import asyncio
import math
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from campaigns import Result, run_campaigns
from good_client import GoodClient

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damage import damaged_bundles

from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.machine import num_descriptors, resident_mb
from ccm_runtime.v1 import adaptation_pb2 as pb

METHODS = ("DescribeAgent", "OpenSession", "Step", "CloseSession", "Encode", "Act")
REFUSALS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
LIMIT_S = 60.0
VALID_MS = 1000.0  # for so long a server's actions may be applied, by default


def bundles(seed: int, num: int = 5_000) -> Result:
    """C15: damaged bundles of eleven kinds."""
    with tempfile.TemporaryDirectory() as folder:
        tried, loaded = damaged_bundles(embedded_bundle(), Path(folder), num, seed=seed + 15)
    return {"damaged": dict(tried), "must_be_none": {"loaded": loaded}}


def messages(seed: int, num: int = 100_000, a_second: float = 200.0) -> Result:
    """C14: malformed messages to every call, a tenth of them at a pace, the others as fast as they go."""
    with server("--max-message-bytes", "4096", "--max-sessions", "10000", "--idle-limit-s", "10") as ours:
        before = resident_mb(ours.pid)
        paced, flat_out = GoodClient(ours.address, ours.pid), GoodClient(ours.address, ours.pid)
        seeds = range(seed, seed + 10)
        codes = sum(
            paced.meanwhile(bombard, [(num // 100, one, 1, a_second) for one in seeds])
            + flat_out.meanwhile(bombard, [(num * 9 // 100, one + 10, 100, math.inf) for one in seeds]),
            Counter[str](),
        )
        after = resident_mb(ours.pid)
    others = sorted(set(codes) - REFUSALS)
    grown = max(paced.most_mb, flat_out.most_mb, after) - before
    return {
        "messages": codes.total(),
        "codes": dict(codes),
        "resident_mb": [before, after],
        "good_client": {f"at {a_second:g} a second": paced.told, "100 at a time": flat_out.told},
        "must_be_none": {
            "other codes": others,
            "grown by 50 MB or more": max(0.0, grown - 50.0),
            f"good client more than twice as slow, at {a_second:g} a second": max(0.0, paced.told["times"] - 2.0),
            "good client's actions no longer valid": max(0.0, flat_out.told["p99_ms_meanwhile"] - VALID_MS),
        },
    }


def bombard(address: str, num: int, seed: int, at_once: int, a_second: float) -> Counter[str]:
    """Send `num` malformed messages, `at_once` before the answers are waited for; how often each code came."""
    return asyncio.run(_bombard(address, num, random.Random(seed), at_once, a_second))  # noqa: S311 (no secret)


async def _bombard(address: str, num: int, rng: random.Random, at_once: int, a_second: float) -> Counter[str]:
    codes, began_s = Counter[str](), time.monotonic()
    async with grpc.aio.insecure_channel(address) as channel:
        calls = [channel.unary_unary(f"/ccm_runtime.v1.Adaptation/{method}") for method in METHODS]

        async def send() -> None:
            try:
                await rng.choice(calls)(nonsense(rng), timeout=LIMIT_S)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1

        for sent in range(0, num, at_once):
            await asyncio.sleep(began_s + sent / a_second - time.monotonic())
            await asyncio.gather(*(send() for _ in range(at_once)))
    return codes


def nonsense(rng: random.Random) -> bytes:
    """Random bytes, or a good message that was cut or flipped; sometimes too long."""
    observation = [rng.uniform(-1e38, 1e38) for _ in range(rng.randrange(5))]
    event = pb.Event(sequence=rng.getrandbits(64), begin_episode=pb.BeginEpisode(observation=observation))
    good = pb.StepRequest(session_id="0123", token="4567", event=event).SerializeToString()  # noqa: S106
    place = rng.randrange(len(good))
    return rng.choice(
        [
            rng.randbytes(rng.randrange(300)),
            good[:place],
            good[:place] + rng.randbytes(1) + good[place + 1 :],
            rng.randbytes(5_000) if rng.random() < 0.05 else b"",
        ]
    )


def connections(seed: int, num: int = 1_000, seconds: int = 30) -> Result:  # noqa: ARG001 (nothing in it is drawn)
    """C16: connections that send a byte a second and never read, twice, while a good client goes on."""
    with server() as ours:
        before, client = resident_mb(ours.pid), GoodClient(ours.address, ours.pid)
        found = client.meanwhile(trickle, [(num, seconds)] * 2, num_calm=8)
    refused, reaped = (sum(counts) for counts in zip(*found, strict=True))
    return {
        "connections": num,
        "seconds_of_a_byte_each": seconds,
        "resident_mb": [before, client.most_mb],
        "good_client": client.told,
        "refused_bytes": refused,
        "must_be_none": {
            "not reaped": 2 * num - reaped,
            "grown by 100 MB or more": max(0.0, client.most_mb - before - 100.0),
            "good client more than twice as slow": max(0.0, client.told["times"] - 2.0),
        },
    }


def trickle(address: str, num: int, seconds: int) -> tuple[int, int]:
    """Send a byte a second on each of `num` connections; how many bytes were refused, how many connections reaped."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000)
    host, _, port = address.rpartition(":")
    peers = [socket.create_connection((host, int(port))) for _ in range(num)]
    refused, began_s = 0, time.monotonic()
    for second in range(seconds):
        for number, peer in enumerate(peers):
            if number % 20 == 0:  # spread over the second
                time.sleep(max(0.0, began_s + second + number / num - time.monotonic()))
            try:
                peer.sendall(preface[second : second + 1])
            except OSError:
                refused += 1
    reaped = sum(_is_closed(peer) for peer in peers)
    for peer in peers:
        peer.close()
    return refused, reaped


def _is_closed(peer: socket.socket) -> bool:
    peer.settimeout(0.0)
    try:
        while data := peer.recv(1 << 16):
            del data
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def deaf_readers(seed: int, num: int = 1_000, rounds: int = 20, limit_s: float = 120.0) -> Result:  # noqa: ARG001
    """C16: streams that send without end and never read an answer; each takes as many as its window holds, some 500."""
    path, tiny = (
        "/ccm_runtime.v1.Adaptation/Session",
        pb.SessionRequest(event=pb.Event(sequence=99)).SerializeToString(),
    )
    body = struct.pack(">BI", 0, len(tiny)) + tiny
    frames = (len(body).to_bytes(3, "big") + bytes([0, 0]) + struct.pack(">I", 1) + body) * 100
    with server("--idle-limit-s", "5") as ours:
        files, before = num_descriptors(ours.pid), resident_mb(ours.pid)
        sending, stuck = GoodClient(ours.address, ours.pid), GoodClient(ours.address, ours.pid)
        stuck.calm(8)
        wires = [Wire(ours.address, stream=True) for _ in range(num)]
        sent = 0
        for wire in wires:
            wire.exchange(path, pb.SessionRequest(open=pb.OpenSessionRequest()).SerializeToString())
            wire.socket.settimeout(0.0)
        for _ in range(rounds):
            sent += sum(_sent(wire.socket, frames) for wire in wires)
            sending.busy()
        held, began_s = resident_mb(ours.pid), time.monotonic()
        while num_descriptors(ours.pid) > files + 2 and time.monotonic() - began_s < limit_s:
            stuck.busy()
        left = num_descriptors(ours.pid) - files
        after_s = round(time.monotonic() - began_s, 1)
        for wire in wires:
            wire.close()
        stuck.calm(8)
        sending.calm_ms = stuck.calm_ms
    return {
        "streams": num,
        "mb_sent": round(sent / 2**20, 1),
        "resident_mb": [before, held],
        "reaped_after_s": after_s,
        "good_client": {"while they send": sending.told, "until they are reaped": stuck.told},
        "must_be_none": {
            "not reaped": max(0, left - 2),
            "grown by 200 MB or more": max(0.0, held - before - 200.0),
            "good client's actions no longer valid": max(
                0.0, *(client.told["p99_ms_meanwhile"] - VALID_MS for client in (sending, stuck))
            ),
        },
    }


def _sent(peer: socket.socket, data: bytes) -> int:
    """Send what the peer takes now; how much that was."""
    try:
        return peer.send(data)
    except OSError:
        return 0


def floods(seed: int, num: int = 1_000_000, resets: int = 100_000) -> Result:  # noqa: ARG001 (nothing in it is drawn)
    """C19: a million tiny messages on 8 streams, and calls that are reset as soon as they are made."""
    with server() as ours:
        before = resident_mb(ours.pid)
        beside_tiny, beside_resets = GoodClient(ours.address, ours.pid), GoodClient(ours.address, ours.pid)
        answered = sum(beside_tiny.meanwhile(pour, [(num // 4, 8)] * 4))
        closed = sum(beside_resets.meanwhile(reset, [(resets // 4,)] * 4))
        after = resident_mb(ours.pid)
    most_mb = max(beside_tiny.most_mb, beside_resets.most_mb, after)
    slowest_ms = max(beside_tiny.told["p99_ms_meanwhile"], beside_resets.told["p99_ms_meanwhile"])
    return {
        "tiny_messages": num,
        "resets": resets,
        "connections_closed_for_resets": closed,
        "resident_mb": [before, most_mb, after],
        "good_client": {"beside tiny messages": beside_tiny.told, "beside resets": beside_resets.told},
        "must_be_none": {
            "unanswered": num - answered,
            "grown by 50 MB or more": max(0.0, most_mb - before - 50),
            "good client's actions no longer valid": max(0.0, slowest_ms - VALID_MS),
        },
    }


def pour(address: str, num: int, num_streams: int) -> int:
    """Send events with a wrong number on several streams; how many were answered."""
    with ThreadPoolExecutor(num_streams) as pool:
        return sum(pool.map(lambda _: _pour(address, num // num_streams), range(num_streams)))


def _pour(address: str, num: int, at_once: int = 50) -> int:
    """Send events with a wrong number, `at_once` before the answers are read; how many were answered."""
    wire, path = Wire(address, stream=True), "/ccm_runtime.v1.Adaptation/Session"
    wire.exchange(path, pb.SessionRequest(open=pb.OpenSessionRequest()).SerializeToString())
    tiny = pb.SessionRequest(event=pb.Event(sequence=99)).SerializeToString()
    size = 5 + len(wire.exchange(path, tiny))  # every refusal has as many bytes
    body = struct.pack(">BI", 0, len(tiny)) + tiny
    frame = len(body).to_bytes(3, "big") + bytes([0, 0]) + struct.pack(">I", 1) + body
    received, answered = bytearray(), 0
    for _ in range(num // at_once):
        wire.socket.sendall(frame * at_once)
        expected = size * at_once
        while expected:
            received += wire.socket.recv(1 << 16)
            while len(received) >= 9 and len(received) >= 9 + (length := int.from_bytes(received[:3], "big")):
                if received[3] == 0:
                    expected -= length
                elif received[3] == 6 and not received[4] & 1:  # a ping is to be answered
                    wire.socket.sendall(b"\0\0\x08\x06\1\0\0\0\0" + received[9:17])
                del received[: 9 + length]
        answered += at_once
    wire.close()
    return answered


def reset(address: str, num: int) -> int:
    """Make calls and reset them in the same breath; how often the server closed the connection for it."""
    closed, left = 0, num
    while left:
        wire, call = Wire(address, stream=True), 1
        try:
            while left:
                block = wire._fields(b"/ccm_runtime.v1.Adaptation/Session")
                place = struct.pack(">I", call)
                headers = len(block).to_bytes(3, "big") + bytes([1, 4]) + place + block
                wire.socket.sendall(headers + b"\0\0\4\3\0" + place + b"\0\0\0\x08")
                call, left = call + 2, left - 1
        except OSError:
            closed += 1
        wire.close()
    return closed


def server(*flags: str) -> Any:
    """`ccm serve` as a process."""
    return listening_process("ccm_runtime", "serve", "--port", "0", "--drain-s", "0", "--log-level", "error", *flags)


CAMPAIGNS: dict[str, Callable[[int], Result]] = {
    "bundles": bundles,
    "messages": messages,
    "connections": connections,
    "deaf_readers": deaf_readers,
    "floods": floods,
}

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    run_campaigns(__doc__, CAMPAIGNS, "grpcio", "protobuf", "numpy", "onnxruntime", "uvloop")
