"""What a training does now and then, whatever its method: try held-out tasks, and score a run that came to its end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ccm_runtime.durable import write_whole
from ccm_training.call_watch import CallWatch
from ccm_training.checkpoint import LoadedRun, load_agent, read_config
from ccm_training.context_quality import quality_of_context
from ccm_training.evaluation import evaluate, evaluate_run
from ccm_training.experiment import Run
from ccm_training.run_folder import EVALUATION
from ccm_training.scores import Evaluation
from ccm_training.stopping import Stop
from ccm_training.watched import watched


def scores_of(run: Run) -> dict[str, Any]:
    """Score on held-out tasks as the run stands."""
    num = run.config.evaluation.tasks
    tasks = torch.from_numpy(run.family.sample_tasks("test", num, run.config.tasks.seed)).to(run.device)
    found = evaluate(run.policy_for(tasks), run.family, tasks, method=run.config.method, split="test")
    score = found.adaptation_score if found.adaptation_score is not None else found.returns[found.explore_episodes]
    return {"score": score, "returns": found.returns, "certainty": found.certainty}


def due(run: Run, every: int) -> bool:
    """Whether the iteration under way ends with what is done every so many."""
    number = run.counters.iteration + 1
    return every > 0 and (number % every == 0 or number == run.config.collect.iterations)


def evaluated(run_dir: Path) -> Evaluation:
    """Score a run that came to its end, and write that down, with the patience that its folder now says.

    Raises:
        SimulationError: A simulation failed, or hangs.
    """
    finished, stop = load_agent(run_dir), Stop()
    with CallWatch(stop, read_config(run_dir).collect.simulation_limit_s, run_dir) as watch:
        return _evaluated(replace(finished, family=watched(finished.family, stop, watch)), run_dir)


def _evaluated(finished: LoadedRun, run_dir: Path) -> Evaluation:
    evaluation = evaluate_run(finished)
    if finished.config.what.encoder:
        evaluation = evaluation.model_copy(update={"context": quality_of_context(finished)})
    write_whole(run_dir / EVALUATION, evaluation.model_dump_json(indent=2))
    return evaluation
