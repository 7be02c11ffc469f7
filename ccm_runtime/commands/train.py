"""`ccm train`."""

import shlex
from pathlib import Path

import typer

from ccm_runtime.commands.seeds import parse_seeds
from ccm_runtime.commands.show import show_evaluation
from ccm_runtime.errors import ConfigError
from ccm_training.config import Config, load_config
from ccm_training.train import TrainResult, train_seeds
from ccm_training.train import train as train_run


def train(
    config: str,
    overrides: list[str],
    *,
    method: str | None,
    seed: int | None,
    seeds: str | None = None,
    device: str,
    run_dir: Path | None,
    resume: bool,
    wandb: str | None = None,
) -> None:
    """Train a run, or one for each seed, and say where it is and what to do next."""
    if seed is not None and seeds is not None:
        raise ConfigError("--seed and --seeds exclude each other; give one of them")
    resolved = load_config(config, overrides, method=method, seed=seed)
    folder = run_dir or Path("runs") / f"{Path(config).stem}-{resolved.method}{'' if seeds else f'-{resolved.seed}'}"
    if seeds is None:
        results = [train_run(resolved, folder, device=device, resume=resume, wandb=wandb)]
    else:
        results = train_seeds(resolved, parse_seeds(seeds), folder, device=device, resume=resume, wandb=wandb)
    _tell(resolved, folder, results)


def _tell(config: Config, folder: Path, results: list[TrainResult]) -> None:
    """Say how it ended, where it is and what to do next."""
    stopped_by = results[0].stopped_by
    if stopped_by is not None:
        typer.echo(f"stopped by {stopped_by.name}; go on with the same command and --resume", err=True)
        raise typer.Exit(128 + stopped_by)
    for result in results:
        if result.evaluation is not None:
            show_evaluation(result.evaluation.model_dump())
        typer.echo(f"\nrun:  {result.run_dir}" + ("" if len(results) == 1 else "\n"))
    run = folder if len(results) == 1 else results[0].run_dir
    quoted = shlex.quote(str(run))
    export = f"    or    ccm export {quoted} --out bundle" if config.what.encoder else ""
    typer.echo(f"next: ccm evaluate {quoted}{export}", err=True)
