"""The full figures against hostile and broken peers; the tests run the same in short.

    python benchmarks/reliability_hostile.py --out benchmarks/results/reliability
    python benchmarks/reliability_hostile.py --out figures bundles messages

Each campaign writes one file: what was done, how often, and what must be 0 or empty; ends with 1 if anything is not.
The server is a process of its own, `ccm serve` on loopback.
"""

import asyncio
import random
import resource
import socket
import statistics
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damage import damaged_bundles

from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.machine import num_descriptors, resident_mb
from ccm_runtime.v1 import adaptation_pb2 as pb

METHODS = ("DescribeAgent", "OpenSession", "Step", "CloseSession", "Encode", "Act")
REFUSALS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
LIMIT_S = 60.0


def bundles(seed: int, num: int = 5_000) -> Result:
    """C15: damaged bundles of eleven kinds."""
    with tempfile.TemporaryDirectory() as folder:
        tried, loaded = damaged_bundles(embedded_bundle(), Path(folder), num, seed=seed + 15)
    return {"damaged": dict(tried), "must_be_none": {"loaded": loaded}}


def messages(seed: int, num: int = 100_000) -> Result:
    """C14: malformed messages to every call, and a good session before and after them."""
    with server("--max-message-bytes", "4096") as ours:
        before, calm_ms = resident_mb(ours.pid), p99_ms(ours.address)
        codes: Counter[str] = asyncio.run(_bombard(ours.address, num, random.Random(seed + 14)))  # noqa: S311 (no secret)
        after, busy_ms = resident_mb(ours.pid), p99_ms(ours.address)
    others = sorted(set(codes) - REFUSALS)
    grown = after - before
    return {
        "messages": num,
        "codes": dict(codes),
        "resident_mb": [before, after],
        "good_session_p99_ms_before_and_after": [calm_ms, busy_ms],
        "must_be_none": {"other codes": others, "grown by 50 MB or more": max(0.0, grown - 50.0)},
    }


async def _bombard(address: str, num: int, rng: random.Random) -> Counter[str]:
    codes = Counter[str]()
    async with grpc.aio.insecure_channel(address) as channel:
        calls = [channel.unary_unary(f"/ccm_runtime.v1.Adaptation/{method}") for method in METHODS]

        async def send() -> None:
            try:
                await rng.choice(calls)(nonsense(rng), timeout=LIMIT_S)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1

        for _ in range(num // 100):
            await asyncio.gather(*(send() for _ in range(100)))
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


def connections(seed: int, num: int = 1_000, seconds: float = 30.0) -> Result:  # noqa: ARG001 (nothing in it is drawn)
    """C16: connections that send a byte a second and never read, while a good client goes on."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000)
    with server() as ours:
        before, calm_ms = resident_mb(ours.pid), p99_ms(ours.address)
        host, _, port = ours.address.rpartition(":")
        peers = [socket.create_connection((host, int(port))) for _ in range(num)]
        busy_ms, closed = [], 0
        for second in range(int(seconds)):
            for peer in peers:
                try:
                    peer.sendall(preface[second : second + 1])
                except OSError:
                    closed += 1
            busy_ms.append(p99_ms(ours.address))
        held = resident_mb(ours.pid)
        reaped = sum(_is_closed(peer) for peer in peers)
        for peer in peers:
            peer.close()
    return {
        "connections": num,
        "seconds_of_a_byte_each": seconds,
        "resident_mb": [before, held],
        "good_client_p99_ms_before_and_median_meanwhile": [calm_ms, statistics.median(busy_ms)],
        "refused_bytes": closed,
        "must_be_none": {"not reaped": num - reaped, "grown by 100 MB or more": max(0.0, held - before - 100.0)},
    }


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
    """C16: streams that send without end and never read an answer."""
    path, tiny = (
        "/ccm_runtime.v1.Adaptation/Session",
        pb.SessionRequest(event=pb.Event(sequence=99)).SerializeToString(),
    )
    body = struct.pack(">BI", 0, len(tiny)) + tiny
    frames = (len(body).to_bytes(3, "big") + bytes([0, 0]) + struct.pack(">I", 1) + body) * 100
    with server("--idle-limit-s", "5") as ours:
        files, before, calm_ms = num_descriptors(ours.pid), resident_mb(ours.pid), p99_ms(ours.address)
        wires = [Wire(ours.address, stream=True) for _ in range(num)]
        busy_ms, sent = [], 0
        for wire in wires:
            wire.exchange(path, pb.SessionRequest(open=pb.OpenSessionRequest()).SerializeToString())
            wire.socket.settimeout(0.0)
        for _ in range(rounds):
            sent += sum(_sent(wire.socket, frames) for wire in wires)
            busy_ms.append(p99_ms(ours.address))
        held, began_s = resident_mb(ours.pid), time.monotonic()
        while num_descriptors(ours.pid) > files + 2 and time.monotonic() - began_s < limit_s:
            time.sleep(1.0)
        left = num_descriptors(ours.pid) - files
        after_s = round(time.monotonic() - began_s, 1)
        for wire in wires:
            wire.close()
    return {
        "streams": num,
        "mb_sent": round(sent / 2**20, 1),
        "resident_mb": [before, held],
        "reaped_after_s": after_s,
        "good_client_p99_ms_before_and_median_meanwhile": [calm_ms, statistics.median(busy_ms)],
        "must_be_none": {"not reaped": max(0, left - 2), "grown by 200 MB or more": max(0.0, held - before - 200.0)},
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
        before, calm_ms = resident_mb(ours.pid), p99_ms(ours.address)
        with ThreadPoolExecutor(8) as pool:
            answered = sum(pool.map(lambda _: _pour(ours.address, num // 8), range(8)))
        poured = resident_mb(ours.pid)
        closed = _reset(ours.address, resets)
        after, busy_ms = resident_mb(ours.pid), p99_ms(ours.address)
    return {
        "tiny_messages": num,
        "resets": resets,
        "connections_closed_for_resets": closed,
        "resident_mb": [before, poured, after],
        "good_session_p99_ms_before_and_after": [calm_ms, busy_ms],
        "must_be_none": {
            "unanswered": num - answered,
            "grown by 50 MB or more": max(0.0, max(poured, after) - before - 50),
        },
    }


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


def _reset(address: str, num: int) -> int:
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


def p99_ms(address: str) -> float:
    """99th percentile of a lone client's step."""

    def connect() -> Wire:
        return Wire(address, stream=True)

    measured = load(connect, [Trial([0.0, 0.0], stream=True, timings=[])], warm_s=0.05, seconds=0.3)
    return 1000 * sorted(measured.latencies_s)[int(0.99 * len(measured.latencies_s))]


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
