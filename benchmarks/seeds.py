"""What several seeds in one process cost over one seed, and over as many processes.

    python benchmarks/seeds.py --out benchmarks/results/seeds
    python benchmarks/seeds.py --device cuda

First an update (on a GPU captured) and a collection of all seeds against those of one, in slices A-B-B-A; the figure is
the median over rounds. Then whole short trainings in processes of their own, start to end: `--seeds` against `--seed`.
On a CPU, time is CPU time of one thread; on a GPU it is the clock's.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from provenance import how, keep

from ccm_training import train as training
from ccm_training.capture import Step
from ccm_training.cohort import Cohort, build_cohort
from ccm_training.collecting import Collector
from ccm_training.config import load_config

Work = Callable[[], Any]
SHORT = ("collect.iterations=20", "encoder.pretrain_updates=100", "evaluation.every=0", "threads=1")


def warmed_up(config: str, seeds: int, device: torch.device, *, at_once: bool | None = None) -> Cohort:
    """So many seeds, ready to learn."""
    configs = [load_config(config, ["threads=1", "collect.warmup_trials=2"], seed=seed) for seed in range(seeds)]
    cohort = build_cohort(configs, device, at_once=at_once)
    training.warm_up(cohort)
    return cohort


def works(cohort: Cohort) -> dict[str, Work]:
    """What is timed: an update with drawing its batch, and a collection."""
    device = cohort.first.device
    update = Step(lambda: cohort.learner.update(*cohort.lesson()), streams=cohort.learning, device=device)
    return {"update": update, "collection": Collector(cohort)}


def seconds(work: Work, device: torch.device, slice_s: float) -> float:
    """Time of one piece of work, over at least so long a slice."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait = (lambda: None) if device.type == "cpu" else torch.cuda.synchronize
    wait()
    started, done = clock(), 0
    while (spent := clock() - started) < slice_s:
        work()
        wait()
        done += 1
    return spent / done


def cost(one: Work, many: Work, device: torch.device, *, rounds: int, slice_s: float) -> dict[str, float]:
    """Time of many seeds over that of one."""
    for work in (one, many) * 4:  # and the warm-ups before a capture
        work()
    found = []
    for _ in range(rounds):
        first, second, third, last = (seconds(work, device, slice_s) for work in (one, many, many, one))
        found.append(((first + last) / 2, (second + third) / 2))
    ratios = sorted(together / alone for alone, together in found)
    return {
        "one_ms": 1e3 * statistics.median(alone for alone, _ in found),
        "many_ms": 1e3 * statistics.median(together for _, together in found),
        "cost": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def process(config: str, device: str, *seeds: str) -> dict[str, float]:
    """CPU time, the clock's time and peak memory of a whole short training in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [part for setting in SHORT for part in ("--set", setting)]
        command = [
            sys.executable,
            "-m",
            "ccm_runtime",
            "train",
            "--config",
            config,
            "--device",
            device,
            *settings,
            *seeds,
        ]
        started = time.perf_counter()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen([*command, "--run-dir", folder], **quiet)  # noqa: S603 (our own command)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    clock_s = time.perf_counter() - started
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "clock_s": clock_s, "peak_mb": usage.ru_maxrss / 1024}


def main() -> None:
    """Measure, print, and write `results.json` if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Folder of results.json.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--config", default="point_robot_debug")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-s", type=float, default=1.0, help="Seconds of a slice.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, many = torch.device(options.device), options.seeds
    alone, together = (works(warmed_up(options.config, seeds, device)) for seeds in (1, many))
    if options.device == "cpu":  # as a GPU computes them
        name = "update, at once"
        together[name] = works(warmed_up(options.config, many, device, at_once=True))["update"]
        alone[name] = alone["update"]
    results: dict[str, Any] = {
        name: cost(alone[name], together[name], device, rounds=options.rounds, slice_s=options.slice_s)
        for name in alone
    }
    for name, found in results.items():
        print(
            f"{name:15} of {many} seeds costs {found['cost']:.2f}x one [{found['lowest']:.2f}, {found['highest']:.2f}]"
            f"  ({found['many_ms']:.1f} ms against {found['one_ms']:.1f})"
        )
    single = process(options.config, options.device, "--seed", "0")
    cohort = process(options.config, options.device, "--seeds", f"0..{many - 1}")
    spent = "cpu_s" if options.device == "cpu" else "clock_s"
    share, memory = (cohort[name] / (many * single[name]) for name in (spent, "peak_mb"))
    results["whole training"] = {"one": single, "many": cohort, "of_processes": share, "memory_of_processes": memory}
    print(
        f"a short training of {many} seeds takes {share:.2f} of the time of {many} processes "
        f"({cohort[spent]:.0f} s against {many} x {single[spent]:.0f}), and {memory:.2f} of their memory"
    )
    if options.out is not None:
        sizes = {name: getattr(options, name) for name in ("device", "config", "seeds", "rounds", "slice_s")}
        record = how("torch", "numpy") | sizes | {"short_training": SHORT, "results": results}
        keep(options.out / "results.json", record)


if __name__ == "__main__":
    main()
