"""What a run's folder says without torch: its settings, how far it has come, what it scores, whether it is under way.

RUN_DIR/config.yaml          every setting as it was resolved
RUN_DIR/metrics.jsonl        one line an iteration
RUN_DIR/evaluation.json      scores on held-out tasks, once it has come to its end
RUN_DIR/divergence.json      what there is to say of a number that was not finite
RUN_DIR/wandb.json           the id under which Weights & Biases knows it, if it hears of it
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ccm_runtime.errors import CheckpointCorruptError, CheckpointMissingError
from ccm_training.lock import is_being_trained
from ccm_training.methods import METHODS
from ccm_training.run_files import DivergenceShape, EvaluationShape, SettingsShape, read_json, read_lines, read_yaml

CONFIG, METRICS = "config.yaml", "metrics.jsonl"
EVALUATION, DIVERGENCE, WANDB = "evaluation.json", "divergence.json", "wandb.json"
State = Literal["running", "finished", "diverged", "stopped"]


@dataclass(frozen=True)
class RunSummary:
    """How far a run has come.

    Attributes:
        run_dir: Where it lives.
        state: `running`: a process of this machine (or of one that shares its files) trains it; `finished`: it came
            to its end; `diverged`: a number was not finite; `stopped`: anything else, `--resume` goes on.
        config: Its settings.
        iteration: Iterations that were finished.
        score: At the end; else the last while training; `None`: none yet.
        interval: Of the score over tasks; only at the end.
        task_scores: What the score is the mean of, a task each; only at the end, and not of runs of before.
        returns: Mean return of each episode of a trial, as old as the score.
        explore_episodes: K; `None`: not known yet.
        env_steps: Of training.
        updates: Of the whole method.
        time_s: Of training, over all attempts.
        changed_at: When the folder last changed, seconds since 1970.
    """

    run_dir: Path
    state: State
    config: Mapping[str, Any]
    iteration: int
    score: float | None
    interval: tuple[float, float] | None
    task_scores: tuple[float, ...]
    returns: tuple[float, ...]
    explore_episodes: int | None
    env_steps: int
    updates: int
    time_s: float
    changed_at: float

    @property
    def iterations(self) -> int:
        """Of the whole run."""
        return int(self.config["collect"]["iterations"])

    @property
    def learns(self) -> bool:
        """Whether its method has anything to train."""
        return METHODS[self.config["method"]].learns


def find_runs(folder: Path) -> list[Path]:
    """Runs in a folder and below it, by name, those whose settings cannot be read too; not a run inside a run."""
    found = []
    for path, folders, files in os.walk(folder):
        if CONFIG in files:
            folders.clear()
            if not {METRICS, EVALUATION}.isdisjoint(files) or _has_settings(Path(path)):
                found.append(Path(path))
        folders.sort()
    return found


def summarize(run_dir: Path) -> RunSummary:
    """What a run's folder says.

    Raises:
        CheckpointMissingError: It holds no run.
        CheckpointCorruptError: A file of it cannot be read, or is not what was written.
    """
    if not os.path.lexists(run_dir / CONFIG):
        raise CheckpointMissingError(f"{run_dir}: no run there; expected {run_dir / CONFIG}, as `ccm train` writes")
    config = read_yaml(run_dir / CONFIG, SettingsShape)
    last, tried = _ends(run_dir / METRICS)
    evaluation, divergence = read_evaluation(run_dir), read_json(run_dir / DIVERGENCE, DivergenceShape)
    iteration = int(last.get("iteration", 0))
    learns = METHODS[config["method"]].learns
    if is_being_trained(run_dir):
        state: State = "running"
    elif evaluation is not None and (not learns or iteration >= config["collect"]["iterations"]):
        state = "finished"
    elif divergence is not None and divergence["iteration"] >= iteration:
        state = "diverged"
    else:
        state = "stopped"
    scores = tried if evaluation is None or state != "finished" else _scores_of(evaluation)
    interval = scores.get("interval")
    return RunSummary(
        run_dir=run_dir,
        state=state,
        config=config,
        iteration=iteration,
        score=scores.get("score"),
        interval=None if interval is None else (interval[0], interval[1]),
        task_scores=tuple(scores.get("task_scores", ())),
        returns=tuple(scores.get("returns", ())),
        explore_episodes=None if evaluation is None else evaluation["explore_episodes"],
        env_steps=int(last.get("env_steps", 0)),
        updates=int(last.get("updates", 0)),
        time_s=float(last.get("time_s", 0.0)),
        changed_at=max(path.stat().st_mtime for path in _dated(run_dir)),
    )


def read_evaluation(run_dir: Path) -> dict[str, Any] | None:
    """A run's scores on held-out tasks; `None`: it has none yet. Raises as `read_json` does."""
    return read_json(run_dir / EVALUATION, EvaluationShape)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a run's metrics; none where there is no file (nothing was trained)."""
    return list(read_lines(path))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting by its dotted name."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= (
            {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return flat


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings that are not the same in all, by dotted name: the value in each, `None` where one lacks it."""
    flats = [flat_settings(config) for config in configs]
    names = dict.fromkeys(name for flat in flats for name in flat)
    columns = {name: [flat.get(name) for flat in flats] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def _scores_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """As a line of the metrics has them: the return of the first executor episode stands in where there is no score."""
    returns, score = evaluation["returns"], evaluation["adaptation_score"]
    first = returns[min(evaluation["explore_episodes"], len(returns) - 1)]
    return {**evaluation, "score": first if score is None else score}


def _ends(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last line of the metrics, and the last with a score; empty where there is none."""
    last: dict[str, Any] = {}
    for line in read_lines(path, backwards=True):
        last = last or line
        if line.get("score") is not None:
            return last, line
    return last, {}


def _has_settings(run_dir: Path) -> bool:
    try:
        read_yaml(run_dir / CONFIG, SettingsShape)
    except CheckpointCorruptError:
        return False
    return True


def _dated(run_dir: Path) -> list[Path]:
    return [path for name in (CONFIG, METRICS, EVALUATION, DIVERGENCE) if (path := run_dir / name).is_file()]
