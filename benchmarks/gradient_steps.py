"""What the gradient step of MAML and ProMP makes of more or fewer exploration episodes than a trial has.

    python benchmarks/gradient_steps.py --out benchmarks/results/gradient_steps/results.json RUN_DIR ...

Finished runs are tried on 100 held-out tasks, with the step taken on other numbers of episodes; nothing is trained.
The score is the mean of the first episode after it over the mean ceiling, the interval a 95 % bootstrap over tasks.
"""

import argparse
from pathlib import Path

import torch
from provenance import how, keep

from ccm_training.checkpoint import load_agent
from ccm_training.evaluation import evaluate
from ccm_training.onpolicy.registry import ON_POLICY

TASKS = 100
EPISODES = (0, 2, 5, 20, 80)


def main() -> None:
    """Try, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="runs of maml and promp")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {path.name: tried(path) for path in options.runs}
    for name, found in results.items():
        print(name, {num: figure["score"] for num, figure in found.items()})
    keep(options.out, {"made": how("torch", "numpy"), "tasks": TASKS, "results": results})


def tried(path: Path) -> dict[int, dict[str, object]]:
    """Score and interval by the number of episodes before the step."""
    run = load_agent(path)
    if not run.config.what.gradient:
        raise SystemExit(
            f"{path}: a run of {run.config.method}, which takes no gradient step; name runs of maml or promp"
        )
    tasks = torch.from_numpy(run.family.sample_tasks("test", TASKS, run.config.tasks.seed))
    found: dict[int, dict[str, object]] = {}
    for num in EPISODES:
        adaptation = run.adaptation.model_copy(update={"explore_episodes": num, "episodes": num + 1})
        policy = ON_POLICY[run.config.method].policy(run.agent, run.config, adaptation)
        scores = evaluate(policy, run.family, tasks, method=run.config.method, split="test")
        found[num] = {"score": scores.adaptation_score, "interval": scores.interval}
    return found


if __name__ == "__main__":
    main()
