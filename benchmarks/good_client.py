"""What a good client meets while others misbehave, against what it meets when they do not."""

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar

from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.machine import resident_mb

T = TypeVar("T")


@dataclass
class GoodClient:
    """99th percentiles of a lone client's steps, in ms, a third of a second each.

    Attributes:
        address: `HOST:PORT` of the server.
        pid: Its process.
        calm_ms: While nobody else called.
        busy_ms: Meanwhile.
        most_mb: Most memory that the server had in these.
    """

    address: str
    pid: int
    calm_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    most_mb: float = 0.0

    def meanwhile(self, attack: Callable[..., T], shares: Sequence[tuple[Any, ...]], num_calm: int = 3) -> list[T]:
        """Attack from a process of its own, share by share, with calm in between; what each share came to.

        Calm and attack take turns, so that whatever else the machine does falls on both.
        """
        results = []
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(int).result()  # it has started
            for share in shares:
                self.calm(num_calm)
                under_way = pool.submit(attack, self.address, *share)
                while not under_way.done():
                    self.busy()
                results.append(under_way.result())
        return results

    def calm(self, num: int) -> None:
        """Measure while nobody else calls."""
        self.calm_ms += [p99_ms(self.address) for _ in range(num)]

    def busy(self) -> None:
        """Measure once, meanwhile."""
        self.busy_ms.append(p99_ms(self.address))
        self.most_mb = max(self.most_mb, resident_mb(self.pid))

    @property
    def told(self) -> dict[str, float]:
        """Medians, and how many times the calm one the other is."""
        calm, busy = statistics.median(self.calm_ms), statistics.median(self.busy_ms)
        return {"calm_p99_ms": calm, "p99_ms_meanwhile": busy, "times": busy / calm}


def p99_ms(address: str) -> float:
    """99th percentile of a lone client's step."""

    def connect() -> Wire:
        return Wire(address, stream=True)

    measured = load(connect, [Trial([0.0, 0.0], stream=True, timings=[])], warm_s=0.05, seconds=0.3)
    return 1000 * sorted(measured.latencies_s)[int(0.99 * len(measured.latencies_s))]
