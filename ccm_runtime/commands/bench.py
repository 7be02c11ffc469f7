"""`ccm bench serve`: our step against an empty call of the same gRPC library and against the bare networks."""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ccm_runtime.bundle import Bundle, load_bundle
from ccm_runtime.commands.bench_floor import SERVICE as FLOOR
from ccm_runtime.commands.bench_load import Empty, Script, Trial, load
from ccm_runtime.commands.bench_networks import Networks
from ccm_runtime.commands.bench_results import (
    DURABLE_STREAM,
    EMPTY_STREAM,
    EMPTY_UNARY,
    NETWORKS_STREAM,
    STEP_STREAM,
    STEP_UNARY,
    Case,
    Sample,
    figures,
    sample,
    spread,
    targets,
    where,
)
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.commands.server_process import Listening, listening_process
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ConfigError
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.machine import cpu_s, installed_version, machine

_PACKAGES = ("ccm", "grpcio", "protobuf", "numpy", "onnxruntime", "uvloop")
_EMPTY = {EMPTY_STREAM: "Stream", EMPTY_UNARY: "Unary", NETWORKS_STREAM: "Networks"}  # methods of the floor
_KINDS = (*_EMPTY, STEP_STREAM, STEP_UNARY, DURABLE_STREAM)
_STREAMS = (EMPTY_STREAM, NETWORKS_STREAM, STEP_STREAM, DURABLE_STREAM)
_BARE_CALLS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        clients: Numbers of clients at once.
        rounds: How often everything is measured; every second round in the opposite order.
        seconds: Length of each measurement.
        warm_s: How long clients talk before it counts.
    """

    clients: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 5
    seconds: float = 1.0
    warm_s: float = 0.3

    def cases(self, number: int) -> list[Case]:
        """Return what a round measures, in its order."""
        cases = [Case(kind, clients) for clients in self.clients for kind in _KINDS]
        return cases[::-1] if number % 2 else cases


def plan_of(clients: str, rounds: int, seconds: float) -> Plan:
    """Return the plan of a command line.

    Raises:
        ConfigError: `clients` is no list of numbers from 1 on.
    """
    parts = clients.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--clients: expected numbers from 1 on with commas between them, got {clients!r}")
    return Plan(tuple(int(part) for part in parts), rounds, seconds)


QUICK = Plan(clients=(1, 4), rounds=2, seconds=0.1, warm_s=0.02)


@dataclass(slots=True)
class Findings:
    """What was measured, round by round: cases, the bare networks (us), the server's own account of a step (ms)."""

    rounds: dict[Case, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    bare_us: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    timings: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))


def bench_serve(bundle: Path | None, plan: Plan, *, as_json: bool) -> None:
    """Measure, and print what was found."""
    folder = bundle or embedded_bundle()
    loaded = load_bundle(folder)
    findings = measure(folder, loaded, plan)
    if as_json:
        typer.echo(json_of(findings, loaded, plan))
    else:
        _show(findings, Console())


def measure(folder: Path, bundle: Bundle, plan: Plan) -> Findings:
    """Start the servers, each a process of its own, and go through every round; this process is the clients."""
    findings, policy = Findings(), OnnxPolicy(bundle)
    most = str(4 * max(plan.clients))
    flags = ("--port", "0", "--drain-s", "0", "--log-level", "error", "--max-sessions", most)
    with ExitStack() as servers:
        ours = servers.enter_context(listening_process("ccm_runtime", "serve", str(folder), *flags))
        floor = servers.enter_context(listening_process("ccm_runtime.commands.bench_floor", str(folder)))
        store = ("--store", str(Path(servers.enter_context(TemporaryDirectory()), "sessions.sqlite")))
        durable = servers.enter_context(listening_process("ccm_runtime", "serve", str(folder), *flags, *store))
        of_kind = {STEP_STREAM: ours, STEP_UNARY: ours, DURABLE_STREAM: durable, **dict.fromkeys(_EMPTY, floor)}
        for number in range(plan.rounds):
            for case in plan.cases(number):
                _measure_case(findings, case, of_kind[case.kind], plan, policy)
            for clients in plan.clients:
                findings.bare_us[clients].append(_bare_us(policy, clients))
    return findings


def _measure_case(findings: Findings, case: Case, server: Listening, plan: Plan, policy: OnnxPolicy) -> None:
    timings: list[tuple[float, float]] = []
    cpu_before: list[float | None] = []

    def started() -> None:
        timings.clear()
        cpu_before.append(_cpu_s(server.pid))

    measured = load(
        lambda: Wire(server.address, stream=case.kind in _STREAMS),
        [_script(case, policy, timings) for _ in range(case.clients)],
        warm_s=plan.warm_s,
        seconds=plan.seconds,
        started=started,
    )
    before, after = cpu_before[0], _cpu_s(server.pid)
    cpu_s = None if before is None or after is None else after - before
    findings.rounds[case].append(sample(measured.latencies_s, measured.seconds, cpu_s))
    if case.kind == STEP_STREAM:
        totals, infers = zip(*timings, strict=True)
        findings.timings[case.clients].append((statistics.median(totals), statistics.median(infers)))


def _script(case: Case, policy: OnnxPolicy, timings: list[tuple[float, float]]) -> Script:
    if case.kind in _EMPTY:
        return Empty(f"/{FLOOR}/{_EMPTY[case.kind]}")
    return Trial([0.0] * policy.observation.size, case.kind in _STREAMS, timings)


def _bare_us(policy: OnnxPolicy, rows: int) -> float:
    """Return the time of what a step runs, the encoder and the executor, on `rows` sessions at once."""
    networks = Networks(policy, rows)
    spent = []
    for _ in range(_BARE_CALLS):
        began_s = time.perf_counter()
        networks.run()
        spent.append(time.perf_counter() - began_s)
    return statistics.median(spent) * 1e6


def _cpu_s(pid: int) -> float | None:
    """Return the processor time that a process has used; `None` where the system does not tell."""
    try:
        return cpu_s(pid)
    except OSError:
        return None


def json_of(findings: Findings, bundle: Bundle, plan: Plan) -> str:
    """Everything that was found and how, as a line of JSON."""
    record: dict[str, Any] = {
        "made": made(),
        "bundle": {"agent_id": bundle.manifest.agent_id, "digest": bundle.digest},
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "targets": [target._asdict() | {"met": target.met} for target in targets(findings.rounds, findings.bare_us)],
        "where_us": where(findings.rounds, findings.timings),
        "onnxruntime_us": {str(rows): spread(spent)._asdict() for rows, spent in findings.bare_us.items()},
        "cases": figures(findings.rounds),
    }
    return json.dumps(record)


def made() -> dict[str, Any]:
    """How a result was made: the command, when, on what and with which versions."""
    return {
        "command": shlex.join(["ccm", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "niceness": os.nice(0),
        "realtime": hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR},
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := installed_version(name))},
    }


def _show(findings: Findings, console: Console) -> None:
    console.print(_cases_table(findings))
    split = Table("streaming clients", "where the time of a step goes (us at p50)", box=None, pad_edge=False)
    for clients, parts in where(findings.rounds, findings.timings).items():
        split.add_row(str(clients), _parts(parts.items()))
    console.print(split)
    judged = Table("target", "clients", "found", "wanted", "", box=None, pad_edge=False)
    for target in targets(findings.rounds, findings.bare_us):
        bound = f"{'<=' if target.at_most else '>='} {target.bound:g}"
        judged.add_row(target.name, str(target.clients), str(target.found), bound, "met" if target.met else "missed")
    console.print(judged)


def _cases_table(findings: Findings) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("call", "clients", "p50 us", "p99 us", "calls/s", "server CPU us", "p50 / empty", "calls/s / empty"):
        table.add_column(name, justify="left" if name == "call" else "right")
    for case in sorted(findings.rounds, key=lambda case: (_KINDS.index(case.kind), case.clients)):
        samples = findings.rounds[case]
        floors = findings.rounds[Case(EMPTY_STREAM, case.clients)]
        medians = [spread(getattr(s, name) for s in samples).median for name in Sample.__slots__]
        slower = spread(s.p50_us / f.p50_us for s, f in zip(samples, floors, strict=True)).median
        faster = spread(s.per_s / f.per_s for s, f in zip(samples, floors, strict=True)).median
        row = [*(f"{figure:.0f}" for figure in medians), f"{slower:.2f}", f"{faster:.2f}"]
        table.add_row(case.kind, str(case.clients), *row)
    for rows, spent in findings.bare_us.items():
        table.add_row("onnxruntime", f"{rows} rows", f"{spread(spent).median:.0f}")
    return table


def _parts(parts: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {spent:.0f}" for name, spent in parts)
