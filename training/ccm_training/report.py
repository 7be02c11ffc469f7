"""A run as one self-contained HTML page: score, learning curve, adaptation curve, paths, beliefs, settings."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ccm_runtime import __version__
from ccm_runtime.errors import RenderingError
from ccm_training.checkpoint import load_agent, parameter_hash
from ccm_training.envs.family import Family
from ccm_training.envs.point_robot import HardPointRobot, SparsePointRobot
from ccm_training.envs.simulated import SimulatedTask
from ccm_training.evaluation import ReportTrials, evaluate_path, trials_for_report
from ccm_training.filming import Strip, film_strips, find_actor, task_in_words
from ccm_training.page import Report, render_page
from ccm_training.run_folder import METRICS, read_metrics

NUM_TASKS = 40


class Scores(Protocol):
    """An evaluation or what `ccm adapt` measured."""

    def model_dump(self) -> dict[str, Any]:
        """At least family, method, explore_episodes, returns, adaptation_score, interval, ceiling and floor."""


def write_report(run_dir: Path, out_html: Path, *, adaptation: Scores | None = None) -> Path:
    """Write the page of a run.

    Args:
        run_dir: What `ccm train` wrote.
        out_html: Where the page goes; folders are made.
        adaptation: What `ccm adapt` measured against the served agent; `None`: the run's own evaluation is shown.

    Raises:
        CheckpointMissingError: There is no checkpoint in `run_dir`.
    """
    page = render_page(read_report(run_dir, adaptation=adaptation, written_at=datetime.now(UTC)))
    out_html.parent.mkdir(parents=True, exist_ok=True)
    out_html.write_text(page, encoding="utf-8")
    return out_html


def read_report(run_dir: Path, *, adaptation: Scores | None, written_at: datetime) -> Report:
    """Gather what a run left behind, and try its agent on held-out tasks.

    Raises:
        CheckpointMissingError: There is no checkpoint in `run_dir`.
    """
    run = load_agent(run_dir)
    scores = adaptation.model_dump() if adaptation is not None else run.scores
    if scores is None:  # the run was stopped before its end
        scores = evaluate_path(run_dir).model_dump()
    trials = trials_for_report(run_dir, NUM_TASKS) if run.config.what.learns else None
    goals = None if trials is None else _goals(run.family, trials)
    filmed = None if trials is None or goals is not None else trials.tasks[0]
    return Report(
        scores=scores,
        served=adaptation is not None,
        metrics=read_metrics(run_dir / METRICS),
        config=run.config.model_dump(mode="json"),
        provenance={
            "environment steps": f"{run.counters.env_steps:,}",
            "updates": f"{run.counters.updates:,} (and {run.counters.pretrain_updates:,} of the encoder alone)",
            "training time": f"{run.counters.time_s:,.0f} s",
            "parameters": f"SHA-256 {parameter_hash(run_dir)}",
            "settings": f"SHA-256 {run.config.digest}",
            "versions": f"ccm {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        },
        written_at=written_at,
        trials=trials,
        goals=goals,
        parameters=run.family.task.entries,
        strips=[] if filmed is None else _strips(run_dir, filmed),
        filmed_task="" if filmed is None else task_in_words(run.family, filmed),
        context=None if run.scores is None else run.scores.get("context"),
    )


def _strips(run_dir: Path, task: NDArray[np.float32]) -> list[Strip]:
    """Pictures of a trial on a task; none where they cannot be drawn."""
    actor = find_actor(run_dir)
    try:
        return film_strips(actor.adapter(task), SimulatedTask(actor.family, task))
    except RenderingError:
        return []


def _goals(family: Family, trials: ReportTrials) -> NDArray[np.float32] | None:
    """Goals on the plane with the radius within which they pay, `[n, goals, (x, y, radius)]` in m, if there are any."""
    if not isinstance(family, SparsePointRobot | HardPointRobot):
        return None
    centres = family.goals(trials.tasks)
    return np.concatenate([centres, np.full_like(centres[..., :1], family.radius)], -1)
