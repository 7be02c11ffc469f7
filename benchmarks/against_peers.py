"""Our server against the policy and model servers that others use: same ONNX policy, same client loop, one run.

    python benchmarks/against_peers.py --envs runs/peers --out benchmarks/results/peers

Each peer is installed into an environment of its own below `--envs` (minutes; kept for the next time) and serves a
bundle's execution policy as its own documentation shows it. All servers are up at once; in every round each is asked by
1 and by 64 clients in turn, in an order that alternates. Peers answer an action to an observation and keep nothing; our
step also folds the transition into a belief, guards the action, and keeps the session.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers.wires import Http, WebSocket
from provenance import how, keep

from ccm_runtime.commands.bench_connection import Connection
from ccm_runtime.commands.bench_load import Request, Script, Trial, load
from ccm_runtime.commands.bench_results import spread
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.embedded import embedded_bundle

PEER = Path(__file__).parent / "peers" / "peer.py"
COMMON = ("onnxruntime", "numpy")
PACKAGES = {
    "websocket": ("websockets", "msgpack"),
    "dm_env_rpc": ("dm-env-rpc", "protobuf<7"),
    "triton": ("nvidia-pytriton",),
    "mlserver": ("mlserver", "uvloop<0.22"),
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "ray": ("ray[serve]", "grpcio", "googleapis-common-protos"),
}
OURS = "ccm"
CONNECTIONS: dict[str, Callable[[str], Connection]] = {
    "websocket": WebSocket,
    "http": Http,
    "grpc-stream": lambda address: Wire(address, stream=True),
    "grpc-unary": lambda address: Wire(address, stream=False),
}
START_S = 90.0


@dataclass(frozen=True)
class Server:
    """One that is up: how to reach it, and what each client says."""

    connect: Callable[[], Connection]
    script: Callable[[], Script]


@dataclass
class Ask:
    """A client that asks the same again and again."""

    path: str
    message: bytes

    def opening(self) -> Request:
        """Ask."""
        return self.path, self.message

    def next(self, response: bytes) -> Request:
        """Ask again; an empty answer ends the benchmark."""
        if not response:
            raise ValueError("a peer answered nothing")
        return self.path, self.message

    def closing(self) -> None:
        """Have nothing to say."""


def main() -> None:
    """Install, start, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, default=Path("runs/peers"), help="folder of the peers' environments")
    parser.add_argument("--peers", nargs="+", default=list(PACKAGES), choices=PACKAGES)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a measurement")
    parser.add_argument("--out", type=Path, help="folder of results.json and table.md")
    options = parser.parse_args()
    bundle = embedded_bundle()
    with ExitStack() as stack:
        servers = {OURS: stack.enter_context(our_server(bundle))}
        absent = {}
        for name in options.peers:
            try:
                servers[name] = stack.enter_context(peer_server(options.envs / name, name, bundle))
            except (subprocess.SubprocessError, RuntimeError) as error:
                absent[name] = str(error)
                print(f"{name} did not start: {error}", file=sys.stderr)
        rounds = [
            measure(servers, options.clients, options.seconds, backwards=bool(n % 2)) for n in range(options.rounds)
        ]
    record = {
        "made": how("grpcio", "onnxruntime", "uvloop"),
        "seconds": options.seconds,
        "peers": {name: versions(options.envs / name, name) for name in servers if name != OURS},
        "absent": absent,
        "rounds": rounds,
    }
    print(table(record))
    if options.out is not None:
        keep(options.out / "results.json", record)
        (options.out / "table.md").write_text(table(record), encoding="utf-8")


@contextmanager
def our_server(bundle: Path) -> Iterator[Server]:
    """`ccm serve`, asked by streams that step trials."""
    flags = ("--port", "0", "--drain-s", "0", "--log-level", "error", "--max-sessions", "1024")
    size = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["observation"]["labels"]
    with listening_process("ccm_runtime", "serve", str(bundle), *flags) as ours:
        yield Server(lambda: Wire(ours.address, stream=True), lambda: Trial([0.0] * len(size), stream=True, timings=[]))


@contextmanager
def peer_server(env: Path, name: str, bundle: Path) -> Iterator[Server]:
    """A peer in its own environment, once it has answered the right action."""
    python = installed(env, name)
    told = json.loads(ask_peer(python, name, "request", str(bundle)))
    path, message = told["path"], bytes.fromhex(told["message"])
    with started([str(python), str(PEER), name, "serve", str(bundle)]) as address:
        connection = CONNECTIONS[told["protocol"]](address)
        answer = connection.exchange(path, message)
        connection.close()
        acted = json.loads(ask_peer(python, name, "action", answer.hex()))
        if not np.allclose(acted, told["action"], atol=1e-5):
            raise RuntimeError(f"expected the action {told['action']}, got {acted}")
        yield Server(lambda: CONNECTIONS[told["protocol"]](address), lambda: Ask(path, message))


def installed(env: Path, name: str) -> Path:
    """The peer's Python; its packages are installed if it is not there."""
    python = env.absolute() / "bin" / "python"
    if not python.is_file():
        print(f"installing {name} into {env}", file=sys.stderr)
        venv.create(env, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *COMMON, *PACKAGES[name]], check=True)  # noqa: S603
    return python


def ask_peer(python: Path, name: str, verb: str, argument: str) -> str:
    """What `peer.py` prints."""
    command = [str(python), str(PEER), name, verb, argument]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_S).stdout  # noqa: S603


@contextmanager
def started(command: list[str]) -> Iterator[str]:
    """A server process with all its children; yields the address that it says."""
    with tempfile.TemporaryFile("w+") as spoken:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=spoken, start_new_session=True, cwd=PEER.parent
        )
        try:
            yield address_in(process, Path(f"/proc/self/fd/{spoken.fileno()}"))
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children, which have ten seconds to end theirs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        until_s = time.monotonic() + 10.0
        while time.monotonic() < until_s:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def address_in(process: "subprocess.Popen[bytes]", spoken: Path) -> str:
    """Wait until a process has said where it listens."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        said = spoken.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"listening on (\S+)", said):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"it said: {spoken.read_text(encoding='utf-8', errors='replace')[-300:]!r}")


def measure(
    servers: dict[str, Server], clients: list[int], seconds: float, *, backwards: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """One round: p50 and p99 in us, and answers a second, of every server for every number of clients."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in servers}
    for number in clients:
        for name in list(servers)[:: -1 if backwards else 1]:
            server = servers[name]
            scripts = [server.script() for _ in range(number)]
            measured = load(server.connect, scripts, warm_s=0.3, seconds=seconds)
            latencies = np.array(measured.latencies_s) * 1e6
            found[name][str(number)] = {
                "p50_us": float(np.percentile(latencies, 50)),
                "p99_us": float(np.percentile(latencies, 99)),
                "per_s": len(latencies) / measured.seconds,
            }
    return found


def versions(env: Path, name: str) -> dict[str, str]:
    """What is installed of a peer."""
    names = [re.split(r"[<\[]", package)[0] for package in (*COMMON, *PACKAGES[name])]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    python = str(env / "bin" / "python")
    told: dict[str, str] = json.loads(subprocess.check_output([python, "-c", code], text=True))  # noqa: S603
    return told


def ratios(record: dict[str, Any], name: str, clients: str, key: str) -> list[float]:
    """A server's figure over ours, round by round, sorted."""
    return sorted(turn[name][clients][key] / turn[OURS][clients][key] for turn in record["rounds"])


def table(record: dict[str, Any]) -> str:
    """Medians over the rounds, and ratios to ours with their extremes, in Markdown."""
    first = record["rounds"][0]
    few, many = min(first[OURS], key=int), max(first[OURS], key=int)
    lines = [
        f"| server | p50, {few} client | over ours | steps/s, {many} clients | over ours |",
        "|---|---|---|---|---|",
    ]
    for name in first:
        p50 = statistics.median(turn[name][few]["p50_us"] for turn in record["rounds"])
        per_s = statistics.median(turn[name][many]["per_s"] for turn in record["rounds"])
        slower, faster = ratios(record, name, few, "p50_us"), ratios(record, name, many, "per_s")
        lines.append(f"| {name} | {p50:,.0f} us | {spread(slower)} | {per_s:,.0f} | {spread(faster)} |")
    made = record["made"]
    lines += ["", f"`{made['command']}`, {made['date']}, {made['machine']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
