"""What a processor's deep sleep costs a step, and `ccm serve --stay-awake` saves; with and without, in one run.

    python benchmarks/awake.py --out benchmarks/results/serving/awake.json

One server with the embedded agent, one of empty calls, the clients: a process each. Every round measures each with the
processors as the system leaves them and held awake (by this process: the effect is the whole machine's), every second
round the other way about; ratios are of the same round. It takes Linux, and the right to write `/dev/cpu_dma_latency`.
"""

import argparse
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path

from provenance import how, keep

from ccm_runtime.awake import awake
from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.bench_floor import SERVICE
from ccm_runtime.commands.bench_load import Empty, Trial, load
from ccm_runtime.commands.bench_results import Sample, sample, spread
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.embedded import embedded_bundle

CLIENTS = (1, 4, 64)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    bundle = str(embedded_bundle())
    observation = [0.0] * load_bundle(embedded_bundle()).manifest.observation.size
    found: dict[str, dict[bool, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    flags = ("--port", "0", "--drain-s", "0", "--log-level", "error")
    with (
        listening_process("ccm_runtime", "serve", bundle, *flags) as ours,
        listening_process("ccm_runtime.commands.bench_floor", bundle) as floor,
    ):
        for number in range(arguments.rounds):
            for clients in CLIENTS:
                for held in (False, True) if number % 2 else (True, False):
                    with awake() if held else nullcontext():
                        for name, address in (("step", ours.address), ("empty call", floor.address)):
                            case = f"{name}, {clients} client{'s' if clients > 1 else ''}"
                            found[case][held].append(measure(name, address, observation, clients, arguments.seconds))
    figures = {case: compare(rounds[False], rounds[True]) for case, rounds in found.items()}
    for case, figure in figures.items():
        print(f"{case:24}", *(f"{name} {value}" for name, value in figure.items()))
    results = {"made": how(), "rounds": arguments.rounds, "seconds": arguments.seconds, "figures": figures}
    keep(arguments.out, results)


def measure(name: str, address: str, observation: list[float], clients: int, seconds: float) -> Sample:
    """Let clients talk for a while: to our server on a stream each, or to that of empty calls."""
    scripts = [
        Trial(observation, stream=True, timings=[]) if name == "step" else Empty(f"/{SERVICE}/Stream")
        for _ in range(clients)
    ]
    measured = load(lambda: Wire(address, stream=True), scripts, warm_s=0.3, seconds=seconds)
    return sample(measured.latencies_s, measured.seconds, None)


def compare(asleep: list[Sample], kept: list[Sample]) -> dict[str, object]:
    """Medians of both, and ratios of the same round with their extremes."""
    pairs = list(zip(kept, asleep, strict=True))
    return {
        "p50_us": spread(one.p50_us for one in asleep).median,
        "p50_us_awake": spread(one.p50_us for one in kept).median,
        "p50_awake_over_asleep": spread(a.p50_us / b.p50_us for a, b in pairs)._asdict(),
        "p99_awake_over_asleep": spread(a.p99_us / b.p99_us for a, b in pairs)._asdict(),
        "per_s_awake_over_asleep": spread(a.per_s / b.per_s for a, b in pairs)._asdict(),
    }


if __name__ == "__main__":
    main()
