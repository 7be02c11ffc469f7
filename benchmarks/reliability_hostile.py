"""The full figures against hostile and broken peers; the tests run the same in short.

    python benchmarks/reliability_hostile.py --out benchmarks/results/reliability
    python benchmarks/reliability_hostile.py --out figures bundles messages

Each campaign writes one file: what was done, how often, and what must be 0 or empty; ends with 1 if anything is not.
The server is a process of its own, `ccm serve` on loopback.
"""

import argparse
import asyncio
import json
import random
import resource
import shlex
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damage import damaged_bundles

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.commands.bench import made
from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import Listening, listening_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import CcmError
from ccm_runtime.v1 import adaptation_pb2 as pb

Result = dict[str, Any]
METHODS = ("DescribeAgent", "OpenSession", "Step", "CloseSession", "Encode", "Act")
REFUSALS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
LIMIT_S = 60.0


def main() -> None:
    """Run the campaigns that are asked for."""
    campaigns: dict[str, Callable[[], Result]] = {
        "bundles": bundles, "messages": messages, "connections": connections, "storm": storm,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("campaigns", nargs="*", default=[*campaigns], metavar="|".join(campaigns))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    holds = True
    for name in options.campaigns:
        began_s = time.monotonic()
        result = campaigns[name]()
        how = made() | {"command": shlex.join(["python", "benchmarks/reliability_hostile.py", *sys.argv[1:]])}
        record = {"made": how, "seconds": round(time.monotonic() - began_s, 1), **result}
        (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {json.dumps(result)}\n")
        holds = holds and all(not found for found in result["must_be_none"].values())
    sys.exit(0 if holds else 1)


def bundles(num: int = 5_000) -> Result:
    """C15: damaged bundles of eleven kinds."""
    with tempfile.TemporaryDirectory() as folder:
        tried, loaded = damaged_bundles(embedded_bundle(), Path(folder), num, seed=15)
    return {"damaged": dict(tried), "must_be_none": {"loaded": loaded}}


def messages(num: int = 100_000) -> Result:
    """C14: malformed messages to every call, and a good session before and after them."""
    with server("--max-message-bytes", "4096") as ours:
        before, calm_ms = resident_mb(ours), p99_ms(ours.address)
        codes: Counter[str] = asyncio.run(_bombard(ours.address, num))
        after, busy_ms = resident_mb(ours), p99_ms(ours.address)
    others = sorted(set(codes) - REFUSALS)
    grown = after - before
    return {
        "messages": num,
        "codes": dict(codes),
        "resident_mb": [before, after],
        "good_session_p99_ms_before_and_after": [calm_ms, busy_ms],
        "must_be_none": {"other codes": others, "grown by 50 MB or more": max(0.0, grown - 50.0)},
    }


async def _bombard(address: str, num: int) -> Counter[str]:
    rng, codes = random.Random(14), Counter[str]()  # noqa: S311 (no secret)
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


def connections(num: int = 1_000, seconds: float = 30.0) -> Result:
    """C16: connections that send a byte a second and never read, while a good client goes on."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000)
    with server() as ours:
        before, calm_ms = resident_mb(ours), p99_ms(ours.address)
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
        held = resident_mb(ours)
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


def storm(num: int = 2_000) -> Result:
    """C17: clients that all come at once, to a server that takes 256 calls at a time; each opens, steps and closes."""
    with server("--max-calls", "256", "--max-sessions", "100000") as ours:
        outcomes = asyncio.run(_storm(ours.address, num))
    refused = {name: count for name, count in outcomes.items() if name != "served"}
    return {"clients": num, "outcomes": dict(outcomes), "must_be_none": {"not served within 60 s": refused}}


async def _storm(address: str, num: int) -> Counter[str]:
    outcomes = Counter[str]()

    async def visit() -> None:
        try:
            async with (
                AsyncClient(address, timeout_s=60.0, connect_timeout_s=60.0) as client,
                client.open_session() as session,
            ):
                await session.begin_episode([0.0] * session.agent.observation.size)
            outcomes["served"] += 1
        except CcmError as error:
            outcomes[f"{type(error).__name__}: {error}"[:200]] += 1

    await asyncio.gather(*(visit() for _ in range(num)))
    return outcomes


def server(*flags: str) -> Any:
    """`ccm serve` as a process."""
    return listening_process("ccm_runtime", "serve", "--port", "0", "--drain-s", "0", "--log-level", "error", *flags)


def resident_mb(process: Listening) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def p99_ms(address: str) -> float:
    """99th percentile of a lone client's step."""

    def connect() -> Wire:
        return Wire(address, stream=True)

    measured = load(connect, [Trial([0.0, 0.0], stream=True, timings=[])], warm_s=0.05, seconds=0.3)
    return 1000 * sorted(measured.latencies_s)[int(0.99 * len(measured.latencies_s))]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
