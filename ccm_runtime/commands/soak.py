"""`ccm soak`: a server under sessions without a pause, watched from outside for anything that grows."""

import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ccm_runtime.bundle import load_bundle
from ccm_runtime.commands.bench import made
from ccm_runtime.commands.server_process import free_port, listening_process
from ccm_runtime.commands.soak_robots import Robots, Stretch
from ccm_runtime.commands.soak_verdicts import Verdict, Window, verdicts
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import CcmError, ConfigError
from ccm_runtime.machine import cpu_s, num_descriptors, num_threads, resident_mb

_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """How long, and under what.

    Attributes:
        steps: Steps of all sessions together.
        sessions: Sessions at a time.
        store: SQLite file of the server; `None`: it has none.
        windows: How often the server is looked at.
    """

    steps: int
    sessions: int = 64
    store: Path | None = None
    windows: int = 50


def soak(bundle: Path | None, plan: SoakPlan, *, as_json: bool) -> None:
    """Run a soak and print what was found; the process ends with 1 if anything grew."""
    folder = bundle or embedded_bundle()
    windows = run(folder, plan, lambda window: None if as_json else typer.echo(_line(window), err=True))
    judged = verdicts(windows)
    if as_json:
        typer.echo(json_of(plan, windows, judged))
    else:
        _show(judged, Console())
    broken = [verdict.law for verdict in judged if verdict.held is False]
    if broken:
        raise CcmError(f"a bound is broken: {'; '.join(broken)}")


def run(folder: Path, plan: SoakPlan, say: Callable[[Window], None] = lambda _: None) -> list[Window]:
    """Soak a server of its own process; what was seen of it, window by window.

    Raises:
        BundleError: The bundle cannot be served.
        CcmError: A step failed.
        ConfigError: This system does not tell about a process (no `/proc`).
    """
    if not Path("/proc/self/status").is_file():
        raise ConfigError("a soak looks at the server through /proc, which this system does not have; use Linux")
    manifest, metrics_port = load_bundle(folder).manifest, free_port()
    flags = ["--port", "0", "--drain-s", "0", "--log-level", "error", "--metrics-port", str(metrics_port)]
    flags += ["--max-sessions", str(2 * plan.sessions)]
    flags += [] if plan.store is None else ["--store", str(plan.store), "--store-failure", "refuse"]
    windows: list[Window] = []
    with listening_process("ccm_runtime", "serve", str(folder), *flags) as server:
        seen = _Seen(server.pid, f"http://127.0.0.1:{metrics_port}/metrics", plan.store)
        robots = Robots(server.address, plan.sessions, manifest.observation.size, manifest.adaptation.episodes)
        try:
            while not windows or windows[-1].steps < plan.steps:
                windows.append(seen.after(robots.walk(max(1, plan.steps // plan.windows))))
                say(windows[-1])
        finally:
            robots.close()
    return windows


class _Seen:
    """What is to be seen of a server from outside."""

    def __init__(self, pid: int, metrics: str, store: Path | None) -> None:
        self._pid = pid
        self._metrics = metrics
        self._store = store
        self._steps = self._trials = 0
        self._cpu_s, self._own_s = cpu_s(self._pid), time.process_time()

    def after(self, stretch: Stretch) -> Window:
        """Look at the server after a stretch."""
        num, before_s, own_before_s = len(stretch.latencies_s), self._cpu_s, self._own_s
        self._steps += num
        self._trials += stretch.num_trials
        self._cpu_s, self._own_s = cpu_s(self._pid), time.process_time()
        cuts = statistics.quantiles(stretch.latencies_s, n=100) if num > 1 else stretch.latencies_s * 99
        told = self._told()
        return Window(
            steps=self._steps,
            per_s=num / stretch.seconds,
            p50_ms=cuts[49] * 1e3,
            p99_ms=cuts[98] * 1e3,
            cpu_us=(self._cpu_s - before_s) / num * 1e6,
            own_us=(self._own_s - own_before_s) / num * 1e6,
            resident_mb=resident_mb(self._pid),
            descriptors=num_descriptors(self._pid),
            threads=num_threads(self._pid),
            tasks=told["ccm_tasks"],
            sessions=told["ccm_sessions"],
            store_mb=self._store_bytes() / 2**20,
            trials=self._trials,
        )

    def _told(self) -> dict[str, float]:
        """Return the server's own metrics, summed over their labels."""
        with urllib.request.urlopen(self._metrics, timeout=_LIMIT_S) as page:  # noqa: S310 (our own address)
            lines = page.read().decode().splitlines()
        sums: dict[str, float] = {}
        for line in lines:
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def _store_bytes(self) -> int:
        if self._store is None:
            return 0
        return sum(path.stat().st_size for path in self._store.parent.glob(f"{escape(self._store.name)}*"))


def json_of(plan: SoakPlan, windows: list[Window], judged: list[Verdict]) -> str:
    """Everything that was found and how, as a line of JSON."""
    record: dict[str, Any] = {
        "made": made(),
        "sessions": plan.sessions,
        "steps": windows[-1].steps,
        "trials": windows[-1].trials,
        "failed_steps": 0,  # the first one ends a soak
        "with_a_store": plan.store is not None,
        "verdicts": [verdict._asdict() for verdict in judged],
        "windows": {name: [round(getattr(w, name), 3) for w in windows] for name in Window._fields},
    }
    return json.dumps(record)


def _line(window: Window) -> str:
    return (
        f"{window.steps:>12,} steps  {window.per_s:6.0f} a second  p99 {window.p99_ms:6.2f} ms  "
        f"{window.resident_mb:6.1f} MB  {window.descriptors:.0f} descriptors  {window.tasks:.0f} tasks"
    )


def _show(judged: list[Verdict], console: Console) -> None:
    table = Table("law", "found", "at most", "", box=None, pad_edge=False)
    words = {True: "held", False: "broken", None: "too short to tell"}
    for verdict in judged:
        table.add_row(verdict.law, f"{verdict.found:g}", f"{verdict.bound:g}", words[verdict.held])
    console.print(table)
