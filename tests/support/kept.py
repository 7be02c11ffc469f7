"""Results of runs that never were, for tables and pictures."""

import numpy as np

from ccm_training.benchmark.plan import FIGURES, Run
from ccm_training.benchmark.result import Curve, RunResult
from ccm_training.diagnostics import ContextQuality
from ccm_training.provenance import Provenance

MADE = Provenance(
    command="ccm benchmark figure4", date="2026-01-02", machine="a machine, 2 cores", versions={"python": "3"}
)


def run_of(arm: str, seed: int, *, family="sparse-point-robot", figure="figure4", budget="cpu") -> Run:
    """A run of a figure's arm."""
    return Run(budget, family, next(each for each in FIGURES[figure].arms if each.name == arm), seed)


def result(arm: str, seed: int, shares, *, family="sparse-point-robot", figure="figure4", **changes) -> RunResult:
    """What is kept of a run that reaches these shares of a ceiling of 10 in the episode that is scored.

    Args:
        arm: Method and variant.
        seed: Of the run.
        shares: One a task; exploring brings 1 on every second of them, from the first on.
        family: Task family.
        figure: That has the arm.
        changes: Other fields.
    """
    run, (rng, shares) = (
        run_of(arm, seed, family=family, figure=figure),
        (np.random.default_rng(seed), np.array(shares)),
    )
    explore = 0 if arm == "oracle" else 2
    encoder = run.arm.method not in {"oracle", "random"}
    fields = {
        "family": family,
        "method": run.arm.method,
        "variant": run.arm.variant,
        "seed": seed,
        "budget": "cpu",
        "explore_episodes": explore,
        "trained": run.command(f"runs/cpu/{run.name}"),
        "finished": f"2026-01-0{seed + 1}",
        "recorded": MADE,
        "parameters": "00",
        "config_digest": run.config.digest,
        "config": run.config.model_dump(mode="json"),
        "env_steps": 3000 + seed,
        "updates": 7,
        "pretrain_updates": 0,
        "minutes": 1.0 + seed,
        "curve": Curve(
            env_steps=[1000, 2000, 3000 + seed], returns=[[0.0] * explore + [level, 2.0] for level in (1, 4, 8)]
        ),
        "returns": [[(index + 1.0) % 2] * explore + [10.0 * share, 2.0] for index, share in enumerate(shares)],
        "ceilings": [10.0] * len(shares),
        "context": quality() if encoder else None,
        "beliefs": rng.normal(size=(3, 4, 2)).tolist() if encoder else None,
    }
    return RunResult(**fields | changes)


def quality(**changes) -> ContextQuality:
    """What beliefs are worth."""
    fields = {
        "tasks": 4,
        "trials": 4,
        "accuracy": 0.5,
        "information": 1.0,
        "chance": 0.25,
        "bound": 1.4,
        "retrieval": 0.75,
        "silhouette": 0.5,
        "effective_rank": 2.0,
        "certainty": [0.5, 0.9],
        "certain_after": 2,
    }
    return ContextQuality(**fields | changes)
