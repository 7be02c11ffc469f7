"""What the explorer is worth by itself: the same encoder and executor, on contexts from different explorers.

    python benchmarks/explorer_ablation.py --out benchmarks/results/explorer runs/figure4/*-point-robot-ccm-?

Each run's agent is tried on held-out tasks four times. In the exploration episodes acts its explorer; its executor on a
sample of the belief that is held for an episode (the first is of the prior: posterior sampling, as PEARL explores);
uniformly random actions; or there are none. What follows is the same for all: the first executor episode, scored as
everywhere. Nothing is trained. Runs of one family count as its seeds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import how, keep
from torch import Tensor

from ccm_training.checkpoint import LoadedRun, load_agent
from ccm_training.evaluation import trials_of
from ccm_training.policy import AgentPolicy
from ccm_training.statistics import estimate, probability_of_improvement

TASKS = 100
EXPLORERS = ("explorer", "executor", "random", "nobody")
NOTES = """\
# Results: what the explorer is worth by itself

One encoder and one executor, those of finished runs of CCM; only who acts in the exploration episodes differs.
*explorer*: the run's own. *executor*: the executor on a sample of the belief, held for an episode (posterior sampling,
as PEARL explores). *random*: uniformly random actions. *nobody*: no exploration, the executor begins with the prior.
The score is the first executor episode's return over the ceiling; the certainty is that of the belief when it begins;
the last column is the chance that a run does worse after this context than after its explorer's, on the same task.

All runs were trained with their explorer: encoder and executor have seen its contexts most often, which is part of the
difference. A method that is trained without an explorer is `pearl-cl`.

The runs are CCM's of [Fig. 4](results.md), each trained by `ccm train --config sparse_point_robot --method ccm
--seed SEED --run-dir runs/figure4/sparse-point-robot-ccm-SEED`, or the same of `hard_point_robot`.
"""


def main() -> None:
    """Try, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="runs of a method with an explorer")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.json")
    parser.add_argument("--page", type=Path, help="Markdown page to write, e.g. docs/results-explorer.md")
    options = parser.parse_args()
    by_family: dict[str, list[LoadedRun]] = {}
    for path in options.runs:
        run = load_agent(path)
        if not run.config.what.explorer:
            parser.error(f"{path}: a run of {run.config.method}, which has no explorer; name runs of ccm")
        by_family.setdefault(run.family.name, []).append(run)
    record = {"made": how("torch", "numpy"), "tasks": TASKS, "results": {f: score(r) for f, r in by_family.items()}}
    keep(options.out / "results.json", record)
    if options.page:
        options.page.write_text(page(record), encoding="utf-8")
    sys.stdout.write(table(record))


class Tried(NamedTuple):
    """Of the first executor episode on each task, `[tasks]`."""

    shares: NDArray[np.float64]
    certainty: float


class Explored(AgentPolicy):
    """An agent whose exploration is somebody else's; everything after it is its own."""

    def __init__(self, run: LoadedRun, explorer: str, seed: int) -> None:
        nobody = {"explore_episodes": 0, "episodes": 1} if explorer == "nobody" else {}
        super().__init__(run.agent, run.adaptation.model_copy(update=nobody))
        self._explorer, self._steps = explorer, 0
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def explore(self, observation: Tensor, belief: Tensor, noise: Tensor) -> Tensor:
        """Actions of whoever explores, `[n, act]`."""
        if self._explorer == "explorer":
            return super().explore(observation, belief, noise)
        if self._explorer == "random":
            return self.agent.unscale_action(2.0 * torch.rand(noise.shape, generator=self._generator) - 1.0)
        if self._steps % self.adaptation.horizon == 0:  # an episode begins
            latent = self.read(belief)
            self._held = latent.mean + latent.std * torch.randn(latent.std.shape, generator=self._generator)
        self._steps += 1
        return self.execute(observation, self._held, noise)


def tried(run: LoadedRun, explorer: str) -> Tried:
    """One trial on each held-out task, over the task's ceiling, after this explorer's context."""
    tasks = run.family.sample_tasks("test", TASKS, run.config.tasks.seed)
    policy = Explored(run, explorer, run.config.seed)
    first = policy.adaptation.explore_episodes
    trials = trials_of(policy, run.family, torch.from_numpy(tasks), episodes=first + 1)
    ceiling = run.family.ceiling(tasks)
    if ceiling is None:
        raise SystemExit(f"{run.family.name} has no ceiling to take shares of; name runs of a family that has one")
    certainty = trials.certainty[:, first - 1].mean().item() if first > 0 else 0.0
    return Tried(np.asarray(trials.returns[:, first].numpy() / ceiling, np.float64), certainty)


def score(runs: list[LoadedRun]) -> dict[str, Any]:
    """Each explorer's scores over these runs, and the chance that the run's own is better."""
    found = {explorer: [tried(run, explorer) for run in runs] for explorer in EXPLORERS}
    shares = {explorer: np.stack([one.shares for one in tries]) for explorer, tries in found.items()}
    return {
        explorer: {
            "score": estimate(shares[explorer])._asdict(),
            "seed_means": shares[explorer].mean(1).tolist(),
            "certainty": float(np.mean([one.certainty for one in found[explorer]])),
            "seeds": [run.config.seed for run in runs],
            "probability_that_the_explorer_is_better": None
            if explorer == "explorer"
            else probability_of_improvement(shares["explorer"], shares[explorer])._asdict(),
        }
        for explorer in EXPLORERS
    }


def table(record: dict[str, Any]) -> str:
    """The scores as a Markdown table."""
    lines = [
        "| family | context from | score, IQM [95 %] | mean of each seed | certainty | chance that it is worse |",
        "|---|---|---|---|---|---|",
    ]
    for family, found in record["results"].items():
        for explorer, data in found.items():
            score, odds = data["score"], data["probability_that_the_explorer_is_better"]
            better = "" if odds is None else f"{odds['value']:.2f} [{odds['low']:.2f}, {odds['high']:.2f}]"
            lines.append(
                f"| `{family}` | {explorer} | {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] "
                f"| {', '.join(f'{mean:.3f}' for mean in data['seed_means'])} | {data['certainty']:.2f} | {better} |"
            )
    made = record["made"]
    by = f"Made by `{made['command']}` on {made['date']}, {made['machine']}; {record['tasks']} held-out tasks a run."
    return "\n".join([*lines, "", by, ""])


def page(record: dict[str, Any]) -> str:
    """The scores, and what the words mean."""
    return f"{NOTES}\n{table(record)}"


if __name__ == "__main__":
    main()
