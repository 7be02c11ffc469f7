"""What a training does now and then, whatever its method: try held-out tasks, and score a run that came to its end."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccm_runtime.durable import write_whole
from ccm_training.call_watch import CallWatch
from ccm_training.checkpoint import LoadedRun, load_agent, read_config
from ccm_training.context_quality import quality_of_context
from ccm_training.evaluation import evaluate, evaluate_run
from ccm_training.experiment import Run
from ccm_training.run_folder import EVALUATION
from ccm_training.scores import Evaluation, floor_of
from ccm_training.stopping import Stop
from ccm_training.watched import watched


class HeldOut:
    """Held-out tasks for a run, or for runs that differ in their seed alone, to be tried on while they train.

    Args:
        run: One of them; its family may be watched.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def scores_of(self, run: Run) -> dict[str, Any]:
        """Score on these tasks as a run stands."""
        tasks = self._tasks
        found = evaluate(
            run.policy_for(tasks), run.family, tasks, method=run.config.method, split="test", floor=self._floor
        )
        score = found.adaptation_score if found.adaptation_score is not None else found.returns[found.explore_episodes]
        return {"score": score, "returns": found.returns, "certainty": found.certainty}

    @cached_property
    def _tasks(self) -> Tensor:
        config = self._run.config
        tasks = self._run.family.sample_tasks("test", config.evaluation.tasks, config.tasks.seed)
        return torch.from_numpy(tasks).to(self._run.device)

    @cached_property
    def _floor(self) -> float:
        return floor_of(self._run.family, self._tasks.cpu().numpy())


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
