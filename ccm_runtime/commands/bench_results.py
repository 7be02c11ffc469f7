"""What `ccm bench serve` makes of its measurements: pure arithmetic over rounds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np

EMPTY_STREAM, EMPTY_UNARY, STEP_STREAM, STEP_UNARY = "empty stream", "empty unary", "step stream", "step unary"
DURABLE_STREAM = "durable stream"
NETWORKS_STREAM = "networks stream"  # an empty call that runs the networks, one session at a time


class Case(NamedTuple):
    """What is measured: a kind of call, and how many clients make it at once."""

    kind: str
    clients: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A case in one round.

    Attributes:
        p50_us: Median time of an exchange, as its client saw it.
        p99_us: 99th percentile.
        per_s: Exchanges a second, over all clients.
        cpu_us: The server's processor time for each exchange; NaN where the system does not tell.
    """

    p50_us: float
    p99_us: float
    per_s: float
    cpu_us: float


Rounds = Mapping[Case, Sequence[Sample]]


class Spread(NamedTuple):
    """A figure over rounds: median, lowest, highest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Target(NamedTuple):
    """What a ratio should be.

    Attributes:
        name: What is compared.
        clients: How many clients.
        found: The ratio, paired within each round.
        bound: What it is compared with.
        at_most: Whether the bound is the most that it should be, or the least.
    """

    name: str
    clients: int
    found: Spread
    bound: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        """Whether the median is within the bound."""
        return self.found.median <= self.bound if self.at_most else self.found.median >= self.bound


def sample(latencies_s: Sequence[float], seconds: float, cpu_s: float | None) -> Sample:
    """Sum a measurement up."""
    p50, p99 = np.quantile(np.asarray(latencies_s), (0.5, 0.99)) * 1e6
    num = len(latencies_s)
    return Sample(float(p50), float(p99), num / seconds, float("nan") if cpu_s is None else cpu_s / num * 1e6)


def spread(values: Iterable[float]) -> Spread:
    """Sum rounds up."""
    known = [float(value) for value in values]
    return Spread(median(known), min(known), max(known))


def ratio(rounds: Rounds, field: str, of: Case, to: Case) -> Spread:
    """A figure of one case over that of another, paired within each round."""
    pairs = zip(rounds[of], rounds[to], strict=True)
    return spread(getattr(mine, field) / getattr(floor, field) for mine, floor in pairs)


def targets(rounds: Rounds, bare_us: Mapping[int, Sequence[float]]) -> list[Target]:
    """Compare with what we want of a server (`bare_us`: the networks alone, for each number of rows and round).

    Targets for numbers of clients that were not measured are left out.
    """
    found = []
    one, empty = Case(STEP_STREAM, 1), Case(EMPTY_STREAM, 1)
    if one in rounds:
        triples = zip(rounds[one], rounds[empty], bare_us[1], strict=True)
        both = spread(step.p50_us / (floor.p50_us + bare) for step, floor, bare in triples)
        found = [
            Target("p50 over the empty stream call's", 1, ratio(rounds, "p50_us", one, empty), 1.5),
            Target("p50 over empty call + onnxruntime", 1, both, 1.15),
        ]
    many, empty = Case(STEP_STREAM, 64), Case(EMPTY_STREAM, 64)
    if many in rounds:
        tail = spread(step.p99_us / step.p50_us for step in rounds[many])
        found += [
            Target("steps/s over the empty call's", 64, ratio(rounds, "per_s", many, empty), 0.75, at_most=False),
            Target("p99 over p50", 64, tail, 3.0),
        ]
    for clients in (1, 64):
        durable, held = Case(DURABLE_STREAM, clients), Case(STEP_STREAM, clients)
        if durable in rounds:
            cost = ratio(rounds, "per_s", durable, held)
            found.append(Target("durable steps/s over steps/s", clients, cost, 0.9, at_most=False))
    return found


def where(rounds: Rounds, timings: Mapping[int, Sequence[tuple[float, float]]]) -> dict[int, dict[str, float]]:
    """Split one client's median step into its parts, in us, for each number of streaming clients.

    Args:
        rounds: The samples.
        timings: The server's own account of each round's median step: total and inference, ms.
    """
    parts = {}
    for clients, account in timings.items():
        step = median(s.p50_us for s in rounds[Case(STEP_STREAM, clients)])
        empty = median(s.p50_us for s in rounds[Case(EMPTY_STREAM, clients)])
        total = median(total_ms for total_ms, _ in account) * 1000
        infer = median(infer_ms for _, infer_ms in account) * 1000
        parts[clients] = {
            "step": step,
            "empty call": empty,
            "networks, novelty, guard": infer,
            "session, batching": total - infer,
            "messages and the rest": step - empty - total,
        }
    return parts


def figures(rounds: Rounds) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Every figure of every case: kind, clients, figure, spread."""
    found: dict[str, dict[str, Any]] = {}
    for case, samples in rounds.items():
        spreads = {name: spread(getattr(s, name) for s in samples)._asdict() for name in Sample.__slots__}
        found.setdefault(case.kind, {})[str(case.clients)] = spreads
    return found
