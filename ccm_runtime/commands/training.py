"""`ccm train`, `ccm evaluate`, `ccm hash`."""

from pathlib import Path

import typer
from ccm_training.evaluation import evaluate_path
from ccm_training.train import train as train_run

from ccm_runtime.commands.show import show_evaluation
from ccm_training.config import load_config


def train(
    config: str,
    overrides: list[str],
    *,
    method: str | None,
    seed: int | None,
    device: str,
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Train one run and say where it is and what to do next."""
    resolved = load_config(config, overrides, method=method, seed=seed)
    folder = run_dir or Path("runs") / f"{Path(config).stem}-{resolved.method}-{resolved.seed}"
    train_run(resolved, folder, device=device, resume=resume, progress=True)
    typer.echo(f"run: {folder}\nnext: ccm evaluate {folder}    or    ccm export {folder} --out bundle", err=True)


def evaluate(path: Path, *, tasks: str, trials: int | None, as_json: bool) -> None:
    """Evaluate a run or a bundle in this process."""
    evaluation = evaluate_path(path, tasks=tasks, trials=trials)
    if as_json:
        typer.echo(evaluation.model_dump_json())
    else:
        show_evaluation(evaluation.model_dump())
