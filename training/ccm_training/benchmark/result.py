"""What is kept of a finished run: small enough to commit, and all that tables and pictures need.

RESULTS/runs/BUDGET/FAMILY-METHOD[-VARIANT]-SEED.json; results of several days and machines add up in one folder.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from ccm_runtime.durable import write_whole
from ccm_runtime.errors import CcmError, RunError
from ccm_runtime.wording import told
from ccm_training.benchmark.budgets import BudgetName
from ccm_training.benchmark.plan import Run
from ccm_training.checkpoint import LoadedRun, load_agent, parameter_hash
from ccm_training.config import Config, changed_settings, parse_config
from ccm_training.context_quality import latents_of_trials
from ccm_training.diagnostics import ContextQuality
from ccm_training.evaluation import trials_of_run
from ccm_training.methods import MethodName
from ccm_training.provenance import Provenance
from ccm_training.run_folder import METRICS

FORMAT = 1
DRAWN_TASKS = 10
DIGITS = 4
_NO_RESULT_OF_THEM = ("collect.simulation_limit_s", "evaluation.every", "checkpoint", "threads")


class Curve(BaseModel):
    """What held-out tasks brought while the run was trained, at each evaluation.

    Attributes:
        env_steps: Before each.
        returns: Mean return of each episode of the trial, `[points, episodes]`.
    """

    env_steps: list[int]
    returns: list[list[float]]


class RunResult(BaseModel):
    """A finished run.

    Attributes:
        format: Of this file.
        family: Task family.
        method: What was trained.
        variant: Of the method; empty: the method as it is.
        seed: Of everything random.
        budget: What it was allowed to spend.
        explore_episodes: K; the episode after these is scored.
        trained: The command that trains it again.
        finished: Day on which it came to its end, in UTC.
        recorded: How this file was made; the machine is where it was trained unless the run was carried.
        parameters: SHA-256 of the last checkpoint's parameters.
        config_digest: SHA-256 of the settings.
        config: The settings.
        env_steps: Of training, warm-up and all.
        updates: Of the whole method.
        pretrain_updates: Of the encoder alone, before these.
        minutes: By the clock, on cores that may have done other work too.
        curve: What held-out tasks brought meanwhile.
        returns: Of each episode of one trial on each held-out task, `[tasks, episodes]`.
        ceilings: Largest return of each task, `[tasks]`; `None`: only an oracle can tell.
        context: What the beliefs are worth by themselves; `None` without an encoder.
        beliefs: Latents after noisy trials of the first ten held-out tasks, `[tasks, trials, latent]`.
    """

    format: int = FORMAT
    family: str
    method: MethodName
    variant: str
    seed: int
    budget: BudgetName
    explore_episodes: int
    trained: str
    finished: str
    recorded: Provenance
    parameters: str
    config_digest: str
    config: dict[str, Any]
    env_steps: int
    updates: int
    pretrain_updates: int
    minutes: float
    curve: Curve
    returns: list[list[float]]
    ceilings: list[float] | None
    context: ContextQuality | None
    beliefs: list[list[list[float]]] | None

    @property
    def arm(self) -> str:
        """Method and variant, as in names."""
        return f"{self.method}-{self.variant}" if self.variant else self.method

    @property
    def scored(self) -> int:
        """Index of the first executor episode, or of the last where there is none."""
        return min(self.explore_episodes, len(self.returns[0]) - 1)


def path_of(run: Run, results: Path) -> Path:
    """Where the result of a run is kept."""
    return results / "runs" / run.budget / f"{run.name}.json"


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end."""
    return (run_dir / "evaluation.json").is_file()


def check_settings(run: Run, config: Config, where: Path) -> None:
    """Whether what is there was made with the settings of this run, where they matter to its result.

    Raises:
        RunError: It was not; the message names the first difference.
    """
    changed, indifferent = changed_settings(config, run.config), (*_NO_RESULT_OF_THEM, *run.config.what.unread)
    differs = [text for name, text in changed.items() if not name.startswith(indifferent)]
    if differs:
        raise RunError(
            f"{where} is not what budget {run.budget} asks for: {'; '.join(differs)}; "
            "take it away, or give another --runs or --results"
        )


def result_of(run: Run, run_dir: Path, recorded: Provenance) -> RunResult:
    """Try a finished run on its held-out tasks and gather what it left behind.

    Raises:
        RunError: It was trained with other settings than those of `run`, or is not finished.
    """
    loaded = load_agent(run_dir)
    check_settings(run, loaded.config, run_dir)
    if loaded.scores is None:
        raise RunError(f"{run_dir}: not finished (no evaluation.json)")
    tasks, trials = trials_of_run(loaded)
    ceilings = loaded.family.ceiling(tasks)
    counters = loaded.counters
    return RunResult(
        family=run.family,
        method=run.arm.method,
        variant=run.arm.variant,
        seed=run.seed,
        budget=run.budget,
        explore_episodes=loaded.adaptation.explore_episodes,
        trained=run.command(f"runs/{run.budget}/{run.name}"),
        finished=datetime.fromtimestamp((run_dir / "evaluation.json").stat().st_mtime, UTC).date().isoformat(),
        recorded=recorded,
        parameters=parameter_hash(run_dir),
        config_digest=loaded.config.digest,
        config=loaded.config.model_dump(mode="json"),
        env_steps=counters.env_steps,
        updates=counters.updates,
        pretrain_updates=counters.pretrain_updates,
        minutes=round(counters.time_s / 60.0, 1),
        curve=_curve(run_dir / METRICS),
        returns=rounded(trials.returns.numpy()),
        ceilings=None if ceilings is None else rounded(ceilings),
        context=loaded.scores.get("context"),
        beliefs=_beliefs(loaded) if loaded.config.what.encoder else None,
    )


def _beliefs(run: LoadedRun) -> list[list[list[float]]]:
    latents: list[list[list[float]]] = rounded(latents_of_trials(run)[:DRAWN_TASKS].numpy())
    return latents


def _curve(metrics: Path) -> Curve:
    if not metrics.is_file():
        return Curve(env_steps=[], returns=[])  # nothing was trained
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    points = [line for line in lines if "returns" in line]
    return Curve(
        env_steps=[point["env_steps"] for point in points], returns=[rounded(point["returns"]) for point in points]
    )


def rounded(values: ArrayLike) -> Any:
    """Nested lists of four significant digits."""
    array = np.asarray(values, np.float64)
    return np.array([float(f"{value:.{DIGITS}g}") for value in array.ravel()]).reshape(array.shape).tolist()


def write_result(result: RunResult, path: Path) -> None:
    """Write a result: one line for each of its fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = result.model_dump(mode="json")
    lines = [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in tree.items()]
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_result(path: Path) -> RunResult:
    """Read a result.

    Raises:
        RunError: The file is not one, or of another format.
    """
    try:
        result = RunResult.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        why = told(error) if isinstance(error, ValidationError) else str(error)
        raise RunError(f"{path}: not a result of `ccm benchmark`: {why}; restore it") from error
    if result.format != FORMAT:
        raise RunError(f"{path}: of format {result.format}, expected {FORMAT}; use the version of ccm that wrote it")
    return result


def has_result(run: Run, results: Path) -> bool:
    """Whether the result of a run is kept already.

    Raises:
        RunError: There is one, of other settings than those of `run`.
    """
    path = path_of(run, results)
    if not path.is_file():
        return False
    try:
        config = parse_config(read_result(path).config, where=str(path))
    except CcmError as error:
        raise RunError(f"{path}: {error}") from error
    check_settings(run, config, path)
    return True


def results_in(results: Path, budget: BudgetName) -> list[RunResult]:
    """All results that are kept, by name."""
    return [read_result(path) for path in sorted((results / "runs" / budget).glob("*.json"))]
