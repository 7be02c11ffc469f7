"""What an action deadline and a store cost a step, and how much a store writes.

    python benchmarks/costs.py --out benchmarks/results/serving/costs.json

Servers are processes of their own with the embedded agent. Every round measures all of them forth and back
(A-B-C-C-B-A); ratios to a server without either, of the median step and of the server's processor time for a step, are
of the same round, as neighbours disturb both alike. What a file with `--store-sync normal` is written is counted in its
log, for groups of 1 and of 64 sessions; a day has 20 groups a second (`--store-commit-ms 50`, sessions stepped at 20
Hz).
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from provenance import how, keep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from durable import Model, record
from mid_session import adapter_of

from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_results import Sample, sample, spread
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import Listening, listening_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.machine import cpu_s
from ccm_runtime.sqlite_store import SqliteStore

CLIENTS = (1, 64)
GROUPS_A_DAY = 20 * 24 * 3600
_GROUPS = 100  # that are counted; fewer than what makes a store empty its log


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"action deadline": ["--action-deadline-ms", "50"], "store": ["--store", str(folder / "sessions.db")]}
        figures = compare(options, arguments.rounds, arguments.seconds)
        written = {f"a group of {size}": bytes_a_group(folder / f"{size}.db", size) for size in CLIENTS}
    a_day = {group: round(each * GROUPS_A_DAY / 1e9, 1) for group, each in written.items()}
    for case, figure in figures.items():
        print(f"{case:28} {figure}")
    print(f"bytes of the log: {written}; GB a day: {a_day}")
    results = {"made": how("grpcio", "onnxruntime", "uvloop"), "rounds": arguments.rounds, "seconds": arguments.seconds}
    keep(arguments.out, results | {"over_plain": figures, "log_bytes": written, "gb_a_day": a_day})


def compare(options: dict[str, list[str]], rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Steps with each option over those without: median, lowest and highest round."""
    found: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)
    flags = ("--port", "0", "--drain-s", "0", "--log-level", "error")
    with ExitStack() as stack:
        plain, *others = [
            stack.enter_context(listening_process("ccm_runtime", "serve", *flags, *more))
            for more in ([], *options.values())
        ]
        for _ in range(rounds):
            for clients in CLIENTS:
                there = [measure(server, clients, seconds) for server in (plain, *others)]
                back = [measure(server, clients, seconds) for server in (*reversed(others), plain)][::-1]
                for name, *pair in zip(options, there[1:], back[1:], strict=True):
                    case = f"{name}, {clients} client{'s' if clients > 1 else ''}"
                    found[case] += zip(pair, (there[0], back[0]), strict=True)
    return {case: ratios(pairs) for case, pairs in found.items()}


def measure(server: Listening, clients: int, seconds: float) -> Sample:
    """Step sessions on streams for a while."""
    observation = [0.0] * load_bundle(embedded_bundle()).manifest.observation.size
    before: list[float] = []
    met = load(
        lambda: Wire(server.address, stream=True),
        [Trial(observation, stream=True, timings=[]) for _ in range(clients)],
        warm_s=0.3,
        seconds=seconds,
        started=lambda: before.append(cpu_s(server.pid)),
    )
    return sample(met.latencies_s, met.seconds, cpu_s(server.pid) - before[0])


def ratios(pairs: list[tuple[Sample, Sample]]) -> dict[str, dict[str, float]]:
    """Of each round, forth and back together: a server's figures over the plain one's."""
    rounds = [pairs[at : at + 2] for at in range(0, len(pairs), 2)]

    def over(field: str, both: list[tuple[Sample, Sample]]) -> float:
        return sum(getattr(own, field) for own, _ in both) / sum(getattr(plain, field) for _, plain in both)

    return {
        field: {name: round(x, 3) for name, x in spread(over(field, both) for both in rounds)._asdict().items()}
        for field in ("p50_us", "cpu_us")
    }


def bytes_a_group(path: Path, size: int) -> int:
    """How much a group of so many sessions adds to the log of a store that holds them."""
    model = Model(0, adapter_of(embedded_bundle()))
    records = [record(model.session(6, f"session-{number}")) for number in range(size)]
    store, log = SqliteStore(path), path.with_name(f"{path.name}-wal")
    store.commit(records, [])
    before = log.stat().st_size
    for _ in range(_GROUPS):
        store.commit(records, [])
    added = log.stat().st_size - before
    store.close()
    return round(added / _GROUPS)


if __name__ == "__main__":
    main()
