"""What it costs a server to be looked at: by the page, by a recorder, by traces; each against a server that is not.

    python benchmarks/watching.py --out benchmarks/results/serving/watching.json

Servers are processes of their own with the embedded agent; every round measures every case, every second one backwards,
and ratios are of the same round. The page is polled once a second by three lookers in another process.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from provenance import how, keep

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_results import Sample, Spread, sample, spread
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import free_port, listening_process
from ccm_runtime.embedded import embedded_bundle

CLIENTS = (1, 64)
IDLE = 300  # sessions that only lie there, more than the page shows
AGAINST = {"page": "plain", "recorded": "plain", "traced 1 %": "plain", "page, 300 idle": "300 idle"}
_LOOK = """
import sys, time, urllib.request
while True:
    for _ in range(3):
        urllib.request.urlopen(sys.argv[1], timeout=10).read()
    time.sleep(1)
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        addresses = {name: stack.enter_context(serving(name, Path(folder))) for name in ("plain", "300 idle", *AGAINST)}
        rounds: dict[str, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for number in range(arguments.rounds):
            cases = [(name, clients) for clients in CLIENTS for name in addresses]
            for name, clients in cases[::-1] if number % 2 else cases:
                rounds[name][clients].append(measure(addresses[name], clients, arguments.seconds))
    results = {
        "how": how("grpcio", "onnxruntime", "opentelemetry-sdk", "uvloop")
        | {"rounds": arguments.rounds, "seconds": arguments.seconds, "load_average": os.getloadavg()[0]},
        "ratios": {name: {n: ratios(rounds[name][n], rounds[to][n]) for n in CLIENTS} for name, to in AGAINST.items()},
        "rounds": {name: {n: [asdict(one) for one in of[n]] for n in CLIENTS} for name, of in rounds.items()},
    }
    keep(arguments.out, results)
    for name, by_clients in results["ratios"].items():
        for clients, figures in by_clients.items():
            told = ", ".join(f"{key} {figure}" for key, figure in figures.items())
            print(f"{name:15} {clients:3} clients: {told}")


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """Start the server of a case, with whoever looks at it; yield its address."""
    flags, variables, port = [], {}, free_port()
    if name.startswith("page"):
        flags = ["--page-port", str(port)]
    elif name == "recorded":
        flags = ["--record", str(folder / "recordings")]
    elif name.startswith("traced"):
        variables = {
            "OTEL_TRACES_EXPORTER": "console",  # whose output the process drops
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
    os.environ.update(variables)
    with ExitStack() as stack:
        server = stack.enter_context(
            listening_process("ccm_runtime", "serve", "--port", "0", "--log-level", "error", *flags)
        )
        for variable in variables:
            del os.environ[variable]
        if "idle" in name:
            asyncio.run(lie_there(server.address))
        if name.startswith("page"):
            url = f"http://127.0.0.1:{port}/state.json"
            looker = subprocess.Popen([sys.executable, "-c", _LOOK, url], stderr=subprocess.DEVNULL)  # noqa: S603
            stack.callback(looker.wait)
            stack.callback(looker.kill)
        yield server.address


async def lie_there(address: str) -> None:
    """Open sessions and leave them."""
    async with AsyncClient(address) as client:
        for seed in range(IDLE):
            session = client.open_session(seed=seed)
            await session.__aenter__()
            await session.begin_episode([0.0, 0.0])


def measure(address: str, clients: int, seconds: float) -> Sample:
    """Step sessions on streams for a while."""
    observation = [0.0] * load_bundle(embedded_bundle()).manifest.observation.size
    scripts = [Trial(observation, stream=True, timings=[]) for _ in range(clients)]
    met = load(lambda: Wire(address, stream=True), scripts, warm_s=0.2, seconds=seconds)
    return sample(met.latencies_s, met.seconds, None)


def ratios(ours: list[Sample], plain: list[Sample]) -> dict[str, Spread]:
    """Median, lowest and highest ratio of the rounds, for each figure."""
    return {
        field: spread(getattr(a, field) / getattr(b, field) for a, b in zip(ours, plain, strict=True))
        for field in ("p50_us", "p99_us", "per_s")
    }


if __name__ == "__main__":
    main()
