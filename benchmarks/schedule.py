"""Time to 0.9 of the ceiling on `hard-point-robot-aligned`: our schedule against the released code's.

    python benchmarks/schedule.py --out benchmarks/results/schedule

*ours* is the preset `quickstart`. *released* is the same in everything but the schedule: 80,000 updates of the encoder
alone, then 1,000 updates an iteration. Each run is a process of its own that is stopped when it has reached the score,
or when it has used `GIVE_UP` times the processor time that ours took; what is there already is not run again. Processor
time is compared, as a run computes on one thread and the machine may do other work; the clock's time is noted beside.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from provenance import how, keep

from ccm_runtime.machine import cpu_s
from ccm_training.figures import CEILING, EXECUTOR, EXPLORER, STYLE, svg_of

REACH = 0.9
GIVE_UP = 22.0
SCHEDULES = {
    "ours": ["evaluation.every=5"],
    "released": [
        "encoder.pretrain_updates=80000",
        "encoder.pretrain_patience=80000",
        "updates_per_iteration=1000",
        "evaluation.every=1",
    ],
}
KEPT = ("iteration", "env_steps", "updates", "score")
Trace = dict[str, Any]


def main() -> None:
    """Train what is missing, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("runs/schedule"), help="folder of the runs")
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES, help="to run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of ours")
    parser.add_argument("--released-seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    seeds = {"ours": options.seeds, "released": options.released_seeds}
    for schedule in options.schedules:
        for seed in seeds[schedule]:
            if not trace_file(options.runs, schedule, seed).is_file():
                train(options.runs, schedule, seed)
    traces = {name: known(options.runs, name) for name in SCHEDULES}
    if all(traces.values()):
        record = {"made": how("torch"), "reach": REACH, **compare(traces), "runs": traces}
        keep(options.out / "results.json", record)
        (options.out / "curves.svg").write_text(picture(traces), encoding="utf-8")
        print(json.dumps(record["ratio"], indent=1))


def train(runs: Path, schedule: str, seed: int) -> None:
    """One run until it has reached the score or is outlasted; its trace is written when it ends."""
    run = runs / f"{schedule}-{seed}"
    command = [sys.executable, "-m", "ccm_runtime", "train", "--config", "quickstart", "--seed", str(seed)]
    command += ["--device", "cpu", "--run-dir", str(run)]
    for setting in SCHEDULES[schedule]:
        command += ["--set", setting]
    began, points, reached = time.perf_counter(), [], False
    with run.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        spent, ended = {"cpu_s": 0.0, "wall_s": 0.0}, None
        while ended is None and not reached and spent["cpu_s"] < limit(runs, schedule):
            time.sleep(0.2)
            spent = {"cpu_s": cpu_s(process.pid), "wall_s": round(time.perf_counter() - began, 1)}
            ended = process.poll()  # before a look at the metrics, which are then whole
            points += [{key: line[key] for key in KEPT} | spent for line in scored_lines(run)[len(points) :]]
            reached = any(point["score"] >= REACH for point in points)
        process.kill()
        process.wait()
    if ended:
        raise SystemExit(f"{command}: ended with {ended}; see {run.with_suffix('.log')}")
    trace = {"seed": seed, "settings": SCHEDULES[schedule], "reached": reached, **spent, "points": points}
    trace_file(runs, schedule, seed).write_text(json.dumps(trace), encoding="utf-8")


def limit(runs: Path, schedule: str) -> float:
    """Processor seconds after which a run is given up; none for ours, and while ours are not known."""
    ours = [trace["cpu_s"] for trace in known(runs, "ours")]
    return GIVE_UP * statistics.median(ours) if schedule != "ours" and ours else float("inf")


def known(runs: Path, schedule: str) -> list[Trace]:
    """Traces of the runs that there are."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob(f"{schedule}-*.json"))]


def trace_file(runs: Path, schedule: str, seed: int) -> Path:
    """Where a run's trace is."""
    return runs / f"{schedule}-{seed}.json"


def scored_lines(run: Path) -> list[dict[str, Any]]:
    """Whole lines of the run's metrics that hold a score."""
    path = run / "metrics.jsonl"
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [line for line in map(json.loads, whole) if "score" in line]


def compare(traces: dict[str, list[Trace]]) -> dict[str, Any]:
    """How many times longer the released schedule takes than our median run; a lower bound where it was given up."""
    ours = [trace for trace in traces["ours"] if trace["reached"]]
    if not ours:
        raise SystemExit(f"none of our runs reached {REACH}: there is nothing to compare the others with")
    ratios = [
        {
            "seed": trace["seed"],
            "reached": trace["reached"],
            **{unit: trace[unit] / statistics.median(own[unit] for own in ours) for unit in ("cpu_s", "wall_s")},
        }
        for trace in traces["released"]
    ]
    return {"ours_reached": len(ours), "ratio": ratios}


def picture(traces: dict[str, list[Trace]]) -> str:
    """Scores over processor time, as SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for (schedule, runs), colour in zip(traces.items(), (EXECUTOR, EXPLORER), strict=True):
            for trace in runs:
                seconds, scores = ([point[key] for point in trace["points"]] for key in ("cpu_s", "score"))
                axes.plot(seconds, scores, color=colour, linewidth=1.4, label=f"{schedule}, seed {trace['seed']}")
        axes.axhline(REACH, color=CEILING, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlabel("processor time, s")
        axes.set_ylabel("adaptation score")
        axes.set_title("Time to 0.9 of the ceiling on hard-point-robot-aligned")
        axes.legend(loc="upper left")
        return svg_of(figure)


if __name__ == "__main__":
    main()
