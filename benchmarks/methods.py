"""CCM against PEARL, the oracle and random actions on the families with a ceiling, at equal environment steps.

    python benchmarks/methods.py --out benchmarks/results/point_robots --families sparse-point-robot hard-point-robot

Runs what is missing (one process a run, `--jobs` at a time), resumes what is not finished, then scores every run on 100
held-out tasks and writes `results.json` and one picture of learning curves a family; `--page` shows them in Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import how

from ccm_training.checkpoint import load_agent
from ccm_training.evaluation import trials_of
from ccm_training.experiment import task_features
from ccm_training.figures import comparison
from ccm_training.policy import AgentPolicy
from ccm_training.statistics import estimate, probability_of_improvement

FAMILIES = ("sparse-point-robot", "hard-point-robot", "cheetah-sparse", "walker-sparse")
ORACLE_ITERATIONS = {"sparse-point-robot": 120, "hard-point-robot": 120}  # it needs no more
TASKS = 100
NOTES = """\
The score is the first execution episode's return over the ceiling, on held-out tasks, with deterministic policies; IQM
is the interquartile mean over seeds and tasks, the interval a bootstrap over seeds and tasks within them. The ceiling
is the best return on a point robot, and what nobody reaches for MuJoCo's robots: 2 a step. All methods see the sparse
reward only, and all observe the previous reward. The oracle is told the task; it needs no exploration, hence fewer
steps. Minutes are of the clock, on cores that did other work too. Curves: mean over seeds, band from the worst to the
best seed, 40 tasks a point.
"""


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="folder of the runs")
    parser.add_argument("--families", nargs="+", required=True, choices=FAMILIES)
    parser.add_argument("--methods", nargs="+", default=["ccm", "pearl", "oracle"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, help="Markdown page to write, e.g. docs/results.md")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    names = [(f, m, s) for f in options.families for s in options.seeds for m in options.methods]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda name: train(options.runs, *name), names))
    results = {
        family: score_family(options.runs, family, options.methods, options.seeds) for family in options.families
    }
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"made": how("torch", "numpy"), "tasks": TASKS, "results": results}
    (options.out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for family, found in results.items():
        curves = {method: (np.array(data["env_steps"]), np.array(data["curves"])) for method, data in found.items()}
        (options.out / f"{family}.svg").write_text(comparison(curves, family), encoding="utf-8")
    if options.page:
        options.page.write_text(page(record, options.out, options.page.parent), encoding="utf-8")
    sys.stdout.write(table(record))


def train(runs: Path, family: str, method: str, seed: int) -> None:
    """One run in a process of its own, unless it is finished."""
    run = run_of(runs, family, method, seed)
    if (run / "evaluation.json").is_file():
        return
    resume = ["--resume"] if any(run.glob("checkpoints/[0-9]*")) else []
    preset = family.replace("-", "_")
    command = [sys.executable, "-m", "ccm_runtime", "train", "--config", preset, "--method", method]
    command += ["--seed", str(seed), "--device", "cpu", "--run-dir", str(run), *resume]
    if method == "oracle" and family in ORACLE_ITERATIONS:
        command += ["--set", f"collect.iterations={ORACLE_ITERATIONS[family]}"]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("ab") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)  # noqa: S603


def run_of(runs: Path, family: str, method: str, seed: int) -> Path:
    """Where a run lives."""
    return runs / f"{family}-{method}-{seed}"


def score_family(runs: Path, family: str, methods: list[str], seeds: list[int]) -> dict[str, Any]:
    """Scores, curves and comparisons of a family's methods."""
    tried = {m: [returns_of(run_of(runs, family, m, seed)) for seed in seeds] for m in methods}
    returns = {m: np.stack([each for each, _ in trials]) for m, trials in tried.items()}
    shares = {m: np.stack([each / ceiling[:, None] for each, ceiling in trials]) for m, trials in tried.items()}
    found: dict[str, Any] = {}
    for method in methods:
        lines = [curve_of(run_of(runs, family, method, seed)) for seed in seeds]
        points = min(len(line) for line in lines)
        first = [list(shares[method][:, :, episode].mean(1)) for episode in range(shares[method].shape[2])]
        explore = (
            0 if method == "oracle" else load_agent(run_of(runs, family, method, seeds[0])).adaptation.explore_episodes
        )
        scored = shares[method][:, :, explore]
        found[method] = {
            "score": estimate(scored)._asdict(),
            "mean": float(scored.mean()),
            "mean_return": float(np.mean(returns[method][:, :, explore])),
            "seed_means": scored.mean(1).tolist(),
            "adaptation_curve": [float(np.mean(episode)) for episode in first],
            "explore_episodes": explore,
            "env_steps": [point["env_steps"] for point in lines[0][:points]],
            "curves": [[point["score"] for point in line[:points]] for line in lines],
            "updates": lines[0][-1]["updates"],
            "train_minutes": [round(line[-1]["time_s"] / 60, 1) for line in lines],
            "seeds": seeds,
        }
        if method != "ccm" and "ccm" in methods:
            mine = shares["ccm"][:, :, found["ccm"]["explore_episodes"]] if "ccm" in found else None
            if mine is not None:
                found[method]["probability_that_ccm_is_better"] = probability_of_improvement(mine, scored)._asdict()
    return found


def returns_of(run_dir: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return of every episode of one trial a held-out task, `[tasks, episodes]`, and the tasks' ceilings, `[tasks]`."""
    run = load_agent(run_dir)
    tasks = torch.from_numpy(run.family.sample_tasks("test", TASKS, run.config.tasks.seed))
    told = task_features(run.family, tasks) if run.config.method == "oracle" else None
    returns = trials_of(AgentPolicy(run.agent, run.adaptation, told), run.family, tasks).returns.numpy()
    return returns.astype(np.float64), np.asarray(run.family.ceiling(tasks.numpy()), np.float64)


def curve_of(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of the run's metrics that hold a score."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if "score" in line]


def table(record: dict[str, Any]) -> str:
    """The scores as a Markdown table."""
    made = record["made"]
    lines = [
        "| family | method | score, IQM [95 %] | mean of each seed | mean return | env steps | minutes a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, found in record["results"].items():
        for method, data in found.items():
            score = data["score"]
            seeds = ", ".join(f"{mean:.3f}" for mean in data["seed_means"])
            minutes = f"{min(data['train_minutes'])} to {max(data['train_minutes'])}"
            lines.append(
                f"| `{family}` | {method} | {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] | {seeds} "
                f"| {data['mean_return']:.1f} | {data['env_steps'][-1]:,} | {minutes} |"
            )
    better = [
        f"Chance that CCM is better than {method} on `{family}`: "
        f"{odds['value']:.2f} [{odds['low']:.2f}, {odds['high']:.2f}].\n"
        for family, found in record["results"].items()
        for method, data in found.items()
        if (odds := data.get("probability_that_ccm_is_better"))
    ]
    made_by = (
        f"Made by `{made['command']}` on {made['date']}, {made['machine']}; {record['tasks']} held-out tasks a run."
    )
    return "\n".join([*lines, "", *better, "", made_by, ""])


def page(record: dict[str, Any], out: Path, beside: Path) -> str:
    """The results as a page: table, pictures, and what the words mean."""
    folder = os.path.relpath(out, beside)
    parts = [f"# Results: {', '.join(record['results'])}", "", table(record)]
    for family, found in record["results"].items():
        curve = "; ".join(
            f"{method} {', '.join(f'{share:.2f}' for share in data['adaptation_curve'])}"
            for method, data in found.items()
        )
        explored = found["ccm"]["explore_episodes"]
        parts += [
            f"## {family}",
            "",
            f"![Learning curves on {family}]({folder}/{family}.svg)",
            "",
            f"Mean return over the ceiling, by episode ({explored} of exploration, save for the oracle): {curve}.",
            "",
        ]
    parts.append(NOTES)
    return "\n".join(parts)


if __name__ == "__main__":
    main()
