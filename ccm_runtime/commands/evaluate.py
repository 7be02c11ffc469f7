"""`ccm evaluate`."""

from pathlib import Path

import typer

from ccm_runtime.commands.show import show_evaluation
from ccm_training.evaluation import evaluate_path


def evaluate(
    path: Path, *, tasks: str, trials: int | None, family: str | None, ceiling: Path | None, as_json: bool
) -> None:
    """Evaluate a run or a bundle in this process."""
    evaluation = evaluate_path(path, tasks=tasks, trials=trials, family=family, ceiling=ceiling)
    if as_json:
        typer.echo(evaluation.model_dump_json())
    else:
        show_evaluation(evaluation.model_dump())
